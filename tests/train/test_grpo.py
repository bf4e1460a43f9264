"""GRPO on the real default model, a few tiny steps: what llama.cpp draws, and that it is learned from."""

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from prlm_edge.errors import ConfigError, PrlmError  # noqa: E402
from prlm_edge.train import base, config  # noqa: E402
from prlm_edge.train.data import prompts  # noqa: E402
from prlm_edge.train.grpo import stage as grpo  # noqa: E402
from prlm_edge.train.grpo.rollout_llama import LlamaDrawer  # noqa: E402
from prlm_edge.train.run import folder as run_folder  # noqa: E402
from prlm_edge.train.run.log import read_records, read_samples  # noqa: E402
from prlm_edge.types import Sampling  # noqa: E402

pytestmark = [pytest.mark.model, pytest.mark.slow]
OVERRIDES = [
    "base.precision=fp32",
    "lora.r=4",
    "data.k=1",
    "data.item_words=8",
    "grpo.steps=2",
    "grpo.prompts=2",
    "grpo.group_size=2",
    "grpo.micro_batch=2",
    "grpo.save_steps=1",
    "grpo.eval_steps=1",
    "grpo.lr=1e-3",
    "grpo.warmup=0",
    "grpo.rewards={accuracy: 1, format: 0.2, style: 0.5, length: 0.2}",
]


@pytest.fixture
def original(training_home, original_path, monkeypatch):
    """The model's file; it is unpacked already."""
    monkeypatch.setenv("PRLM_HOME", str(training_home))
    return original_path


def prepared(rows_file, original, *overrides):
    given = {"data.files": [str(rows_file)], "base.model": str(original)}
    recipe = config.load("edge-cpu", [*OVERRIDES, *overrides], given)
    tokens = base.load_tokens(base.resolve(recipe.base.model), recipe.data.max_tokens)
    asked, sha256 = prompts.read(recipe.data.files, recipe, tokens, limit=None)
    return recipe, tokens, asked, sha256


def run(path, ready, **options):
    recipe, _, asked, sha256 = ready
    folder = run_folder.TrainFolder.open(path, "grpo", recipe, sha256)
    return folder, grpo.train(folder, recipe, asked[2:8], asked[:2], **options)


def weights(folder):
    return load_file(folder.adapter / "adapter_model.safetensors")


@pytest.mark.parametrize("reasoning", [False, True])
def test_what_is_drawn_is_what_stands_in_the_context(rows_file, original, tmp_path, reasoning):
    """Log-probabilities of the engine and of PyTorch agree on every token that was drawn."""
    import json

    recipe, tokens, asked, _ = prepared(
        rows_file, original, f"data.reasoning={str(reasoning).lower()}", "grpo.reasoning_tokens=24"
    )
    source = base.resolve(recipe.base.model)
    engine = LlamaDrawer(
        original,
        json.loads((source / "config.json").read_text()),
        tmp_path,
        tokens,
        n_ctx=1024,
        seed=0,
    )
    try:
        found = engine.draw([asked[0], asked[0], asked[1]], "0")
        again = engine.draw([asked[0], asked[0], asked[1]], "0")
        assert found == again and found[0] != found[1]
        best = engine.best(asked[:1], Sampling())
    finally:
        engine.close()
    assert best[0].said.answer
    model = base.load_model(source, recipe.base).eval()
    for prompt, one in zip([asked[0], asked[0], asked[1]], found, strict=True):
        ids = torch.tensor([[*prompt.ids, *one.ids]])
        with torch.no_grad():
            theirs = model(ids).logits[0, len(prompt.ids) - 1 : -1].log_softmax(-1)
        theirs = theirs[torch.arange(len(one.ids)), torch.tensor(one.ids)]
        drawn = torch.tensor(one.drawn)
        assert (theirs - torch.tensor(one.logprobs))[drawn].abs().mean() < 0.2
        text = tokens.tokenizer.decode(one.ids)
        assert one.said.answer in text and one.said.reasoning in text
        assert text.count("<answer>") == int(reasoning)
        if reasoning:
            assert tokens.tokenizer.decode([i for i, own in zip(one.ids, one.drawn, strict=True) if not own]).endswith(
                "\n<answer>"
            )


def test_it_learns(rows_file, original, tmp_path):
    ready = prepared(rows_file, original)
    straight, outcome = run(tmp_path / "straight", ready)
    assert outcome.whole and not outcome.verdict.stop
    assert any(weight.abs().sum() > 0 for name, weight in weights(straight).items() if "lora_B" in name)
    steps = [one for one in read_records(straight.path / "run.jsonl") if one["kind"] == "step"]
    assert [one["step"] for one in steps] == [1, 2]
    assert set(steps[0]["terms"]) == {"accuracy", "format", "style", "length"}
    assert 0 < steps[0]["other"]["rollout_gap"] < 0.3
    dev = [one for one in read_records(straight.path / "run.jsonl") if one["kind"] == "dev"]
    assert [one["step"] for one in dev] == [0, 1, 2]
    assert 0 <= dev[0]["figures"]["rouge1"] <= 1
    assert isinstance(read_samples(straight.path / "samples.jsonl"), list)


def test_settings_that_do_not_go_together(rows_file, original, tmp_path):
    with pytest.raises(ConfigError, match="rollouts by llama"):
        run(tmp_path / "nf4", prepared(rows_file, original, "base.precision=nf4", "grpo.rollouts=llamacpp"))
    with pytest.raises(ConfigError, match="needs a reward model"):
        run(tmp_path / "reward", prepared(rows_file, original, "grpo.rewards={personalization: 1}"))
    with pytest.raises(PrlmError, match="a step draws from 50"):
        run(tmp_path / "few", prepared(rows_file, original, "grpo.prompts=50"))
