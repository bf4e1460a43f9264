"""Who draws for a recipe, and that nobody draws or goes on with tokens other than those that are trained."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")

from prlm_edge.errors import ConfigError, PrlmError, UsageError  # noqa: E402
from prlm_edge.train import base, config, warmstart  # noqa: E402
from prlm_edge.train.data import examples as data  # noqa: E402
from prlm_edge.train.data import prompts  # noqa: E402
from prlm_edge.train.grpo import rollout  # noqa: E402
from prlm_edge.train.grpo import stage as grpo  # noqa: E402
from prlm_edge.train.grpo.open_engine import open_engine, who_draws  # noqa: E402
from prlm_edge.train.grpo.rollout_hf import HfDrawer  # noqa: E402
from prlm_edge.train.grpo.rollout_llama import LlamaDrawer  # noqa: E402
from prlm_edge.train.run import folder as run_folder  # noqa: E402
from prlm_edge.train.types import Ask  # noqa: E402
from prlm_edge.types import Request  # noqa: E402

pytestmark = pytest.mark.model
SMALL = ["base.precision=fp32", "lora.r=4", "grpo.rewards={accuracy: 1}"]


@pytest.fixture(scope="module")
def other_folder(tiny_folder, tmp_path_factory):
    """A model of the same sizes, whose tokenizer keeps numbers together: as SmolLM2's is read from GGUF unmended."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(tiny_folder, folder, dirs_exist_ok=True)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    steps = tokenizer["pre_tokenizer"]["pretokenizers"]
    tokenizer["pre_tokenizer"]["pretokenizers"] = [step for step in steps if step["type"] != "Digits"]
    assert len(tokenizer["pre_tokenizer"]["pretokenizers"]) == len(steps) - 1
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="module")
def others_adapter(other_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    return adapter_of(other_folder, folder)


def adapter_of(source, folder):
    recipe = config.load("edge-cpu", SMALL)
    model = base.add_adapter(base.load_model(source, recipe.base), recipe.lora, checkpointing=False, nf4=False)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("rollouts", "precision", "folder", "cuda", "who"),
    [
        ("auto", "bf16", False, False, "llamacpp"),
        ("auto", "fp32", False, False, "llamacpp"),
        ("auto", "nf4", False, False, "transformers"),
        ("auto", "bf16", True, False, "transformers"),
        ("auto", "bf16", False, True, "transformers"),
        ("llamacpp", "bf16", False, True, "llamacpp"),
        ("transformers", "bf16", False, False, "transformers"),
    ],
)
def test_who_draws(tmp_path, monkeypatch, rollouts, precision, folder, cuda, who):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    model = str(tmp_path) if folder else "small"
    recipe = config.load(
        "edge-cpu", [f"grpo.rollouts={rollouts}", f"base.precision={precision}"], {"base.model": model}
    )
    assert who_draws(recipe) == who


def test_llama_cpp_is_refused_what_it_cannot_draw_from(tiny_folder, tmp_path, tokens):
    for more, says in ((["base.precision=nf4"], "NF4's can't be had in GGUF"), ([], "is a Hugging Face folder")):
        recipe = config.load("edge-cpu", ["grpo.rollouts=llamacpp", *more], {"base.model": str(tiny_folder)})
        with pytest.raises(ConfigError, match=says) as error:
            open_engine(recipe, tiny_folder, tmp_path, tokens)
        assert "grpo.rollouts=transformers" in error.value.hint and "\n" not in error.value.message
    recipe = config.load("edge-cpu", ["base.precision=nf4"], {"base.model": str(tiny_folder)})
    assert isinstance(open_engine(recipe, tiny_folder, tmp_path, tokens), HfDrawer)
    with pytest.raises(ConfigError, match="rollouts"):
        config.load("edge-cpu", ["grpo.rollouts=vllm"])


def test_a_gguf_file_of_other_tokens_is_refused(smollm2_path, other_folder, tmp_path):
    """A folder whose tokenizer was read wrongly would train on other ids than llama.cpp draws."""
    settings = json.loads((other_folder / "config.json").read_text())
    with pytest.raises(PrlmError, match=r"llama.cpp tokenizes 'Version 2024") as error:
        LlamaDrawer(smollm2_path, settings, tmp_path, base.load_tokens(other_folder, 512), n_ctx=512, seed=0)
    assert "\n" not in error.value.message


def test_an_adapter_of_other_tokens_is_refused(others_adapter, tiny_folder, rows_file, tokens, tmp_path):
    recipe = config.load("edge-cpu", SMALL, {"base.model": str(tiny_folder), "data.files": [str(rows_file)]})
    with pytest.raises(UsageError, match=r"the base of .* tokenizes 'Version 2024") as error:
        base.check_adapter(others_adapter, tokens)
    assert "\n" not in error.value.message and error.value.hint == "give it the base it was trained on"
    engine = HfDrawer(recipe, tiny_folder, tokens)
    with pytest.raises(UsageError, match="tokenizes"):
        engine.load_folder(others_adapter)
    folder = run_folder.TrainFolder.open(tmp_path / "run", "warmstart", recipe, {})
    found = data.read(recipe.data.files, tokens, recipe.data, seed=0, limit=None, loss_on="answer")
    with pytest.raises(UsageError, match="tokenizes"):
        warmstart.train(folder, recipe, found.examples, (), start=others_adapter)
    asked, _ = prompts.read(recipe.data.files, recipe, tokens, limit=None)
    folder = run_folder.TrainFolder.open(tmp_path / "rl", "grpo", recipe, {})
    with pytest.raises(UsageError, match="tokenizes"):
        grpo.train(folder, recipe, asked, (), start=others_adapter)


def test_llama_cpps_engine_refuses_it_too(others_adapter, tokens):
    engine = LlamaDrawer.__new__(LlamaDrawer)  # before it comes to llama.cpp
    engine._tokens = tokens
    with pytest.raises(UsageError, match="tokenizes"):
        engine.load_folder(others_adapter)


def test_the_adapters_own_tokenizer_counts_first_and_an_unknown_one_is_let_through(
    others_adapter, other_folder, tiny_folder, tokens, tmp_path
):
    moved = tmp_path / "moved"
    shutil.copytree(others_adapter, moved)
    settings = json.loads((moved / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(tmp_path / "gone")
    (moved / "adapter_config.json").write_text(json.dumps(settings))
    base.check_adapter(moved, tokens)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(other_folder / name, moved / name)
    with pytest.raises(UsageError, match="tokenizes"):
        base.check_adapter(moved, tokens)
    base.check_adapter(adapter_of(tiny_folder, tmp_path / "same"), tokens)
    for text in ("{", "[]"):
        (moved / "adapter_config.json").write_text(text)
        with pytest.raises(UsageError, match="no adapter"):
            base.check_adapter(moved, tokens)
    with pytest.raises(UsageError, match="no adapter"):
        base.check_adapter(tmp_path, tokens)


def test_seeds_are_those_of_run_salt_and_place():
    asked = [Ask("p", Request(()), (1,), None, "")] * 2
    seeds = [
        [one.sampling.seed for one in rollout.seeded(asked, seed, salt)]
        for seed, salt in ((0, "0"), (0, "1"), (1, "0"))
    ]
    assert len({seed for some in seeds for seed in some}) == 6
    assert rollout.seeded(asked, 0, "0") == rollout.seeded(asked, 0, "0")
    assert rollout.seeded(asked, 0, "0")[0].sampling.repeat_penalty == 1.0
