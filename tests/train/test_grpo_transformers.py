"""GRPO with the policy's own rollouts, on a tiny model: over NF4, stopped and gone on with, and by our recipes."""

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from tiny_reward import make_reward_model  # noqa: E402

from prlm_edge.rerank.reward.scorer import RewardScorer  # noqa: E402
from prlm_edge.train import base, config  # noqa: E402
from prlm_edge.train.data import prompts  # noqa: E402
from prlm_edge.train.grpo import stage as grpo  # noqa: E402
from prlm_edge.train.run import folder as run_folder  # noqa: E402
from prlm_edge.train.run.log import CLOCK, read_records  # noqa: E402
from prlm_edge.types import Cancel  # noqa: E402

pytestmark = pytest.mark.model
SHORT = ["lora.r=4", "grpo.steps=2", "grpo.save_steps=1", "grpo.eval_steps=2", "grpo.warmup=0"]
SHORT += ["grpo.reasoning_tokens=6"]  # an untrained model writes on to the end of every budget
VARIED = "grpo.rewards={personalization: 1}"  # what an untrained model says earns nothing else that differs
PLAIN = "grpo.rewards={accuracy: 1, format: 1}"
LOGGED = {"loss", "grad_norm", "lr", "reward", "reward_std", "kl", "entropy", "zero_variance", "truncated"}
LOGGED |= {"clipped", "tokens", "lengths", "terms", "terms_std", "non_finite", "memory_mb", "tokens_per_s", "eta_s"}
SMALL = ["data.k=1", "data.item_words=8", "grpo.prompts=2", "grpo.group_size=2", "grpo.micro_batch=2"]


def prepared(recipe, tiny_folder, rows_file, *overrides):
    given = {"data.files": [str(rows_file)], "base.model": str(tiny_folder)}
    found = config.load(recipe, [*SHORT, *overrides], given)
    tokens = base.load_tokens(tiny_folder, found.data.max_tokens)
    return found, *prompts.read(found.data.files, found, tokens, limit=None)


def run(path, ready, **options):
    recipe, asked, sha256 = ready
    folder = run_folder.TrainFolder.open(path, "grpo", recipe, sha256)
    return folder, grpo.train(folder, recipe, asked[1:], asked[:1], **options)


def weights(folder):
    return load_file(folder.adapter / "adapter_model.safetensors")


def steps(folder):
    return [one for one in read_records(folder.path / "run.jsonl") if one["kind"] == "step"]


@pytest.mark.slow
def test_it_learns_and_a_stopped_run_ends_as_the_straight_one(tiny_folder, rows_file, tmp_path):
    more = ["base.precision=fp32", "grpo.lr=1e-3", "grpo.beta=0.04", "data.reasoning=mixed", VARIED]
    ready = prepared("edge-cpu", tiny_folder, rows_file, *SMALL, *more)
    scorer = RewardScorer(make_reward_model(tmp_path / "reward"))
    straight, outcome = run(tmp_path / "straight", ready, scorer=scorer)
    assert outcome.whole
    assert [one["step"] for one in steps(straight)] == [1, 2]
    assert all(0 <= one["other"]["rollout_gap"] < 0.02 for one in steps(straight))
    assert any(weight.abs().sum() > 0 for name, weight in weights(straight).items() if "lora_B" in name)
    for one in steps(straight):
        assert set(one) >= LOGGED and set(one["terms"]) == {"personalization"}
        assert set(one["lengths"]) == {"mean", "min", "max", "reasoning", "answer"}
        assert one["non_finite"] == 0 and one["reward"] == pytest.approx(one["terms"]["personalization"], abs=1e-4)
    dev = [one for one in read_records(straight.path / "run.jsonl") if one["kind"] == "dev"]
    assert [one["step"] for one in dev] == [0, 2]

    cancel = Cancel()

    def progress(done, total):
        if done == 1:
            cancel.cancel()

    _, outcome = run(tmp_path / "stopped", ready, cancel=cancel, progress=progress, scorer=scorer)
    assert not outcome.whole
    stopped, outcome = run(tmp_path / "stopped", ready, scorer=scorer)
    assert outcome.whole
    ours, theirs = weights(stopped), weights(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert steady(stopped) == steady(straight)


def steady(folder):
    """A log but for the clock."""
    return [{k: v for k, v in one.items() if k not in CLOCK} for one in read_records(folder.path / "run.jsonl")]


def test_an_adapter_over_nf4_is_trained_in_float32(tiny_folder, rows_file, tmp_path):
    """TRL rounds it to bfloat16, in which steps as small as the paper's leave no trace in A, and B stays coarse."""
    recipe = config.load("edge-cpu", [*SHORT, "base.precision=nf4"])
    torch.manual_seed(0)
    policy = base.add_adapter(base.load_model(tiny_folder, recipe.base), recipe.lora, checkpointing=False, nf4=True)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    policy.save_pretrained(tmp_path / "start")
    begun = load_file(tmp_path / "start" / "adapter_model.safetensors")
    ready = prepared("edge-cpu", tiny_folder, rows_file, *SMALL, "base.precision=nf4", "grpo.lr=1e-6", VARIED)
    scorer = RewardScorer(make_reward_model(tmp_path / "reward"))
    folder, _ = run(tmp_path / "run", ready, start=tmp_path / "start", scorer=scorer)
    assert all(0 <= one["other"]["rollout_gap"] < 0.02 for one in steps(folder))
    ended = weights(folder)
    for name, weight in ended.items():
        assert weight.dtype == torch.float32
        changed = (weight - begun[name]).abs()
        assert 0 < changed.max() < 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "one-gpu"])
def test_our_recipes_for_a_gpu_start_and_run_two_steps(tiny_folder, rows_file, tmp_path, name):
    ready = prepared(name, tiny_folder, rows_file, "grpo.prompts=1", "grpo.micro_batch=4")
    scorer = (
        RewardScorer(make_reward_model(tmp_path / "reward")) if "personalization" in ready[0].grpo.rewards else None
    )
    folder, outcome = run(tmp_path / "run", ready, scorer=scorer)
    assert outcome.whole and not outcome.verdict.stop
    found = steps(folder)
    assert [one["step"] for one in found] == [1, 2]
    assert set(found[0]["terms"]) == set(ready[0].grpo.rewards)
    assert all(0 <= one["other"]["rollout_gap"] < 0.02 for one in found)
    assert weights(folder)


def test_autocast_is_the_same_for_drawing_and_for_learning(tiny_folder, rows_file, tmp_path, monkeypatch):
    """As on a GPU: a policy that drew in one precision and learned in another would show it in the gap."""
    monkeypatch.setattr(base, "autocasts", lambda config: True)
    gaps = {}
    for drawn in (True, False):
        ready = prepared("edge-cpu", tiny_folder, rows_file, *SMALL, "base.precision=fp32", "grpo.steps=1", PLAIN)
        if not drawn:
            monkeypatch.setattr("prlm_edge.train.grpo.rollout_hf.drawing", _without_autocast)
        folder, _ = run(tmp_path / str(drawn), ready)
        gaps[drawn] = steps(folder)[0]["other"]["rollout_gap"]
    assert gaps[True] < gaps[False] / 2


def _without_autocast(policy, *, mixed):
    from prlm_edge.train.grpo.generating import drawing

    return drawing(policy, mixed=False)
