"""Two processes on a CPU, as a launcher starts them for two GPUs, against one with the same batch."""

import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from tiny_reward import make_reward_model  # noqa: E402

from prlm_edge.errors import UsageError  # noqa: E402
from prlm_edge.rerank.reward.scorer import RewardScorer  # noqa: E402
from prlm_edge.train import base, config, warmstart  # noqa: E402
from prlm_edge.train.data import examples, prompts  # noqa: E402
from prlm_edge.train.grpo import stage as grpo  # noqa: E402
from prlm_edge.train.run.folder import TrainFolder  # noqa: E402
from prlm_edge.train.run.log import read_records  # noqa: E402

pytestmark = [pytest.mark.model, pytest.mark.slow]
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
SETS = ["base.precision=fp32", "lora.r=4", "data.k=1", "data.item_words=8", "data.reasoning=false", "data.dev_limit=3"]
SETS += [f"warmstart.{one}" for one in ("lr=0.02", "batch=4", "micro_batch=2", "save_steps=1", "eval_steps=2")]
SETS += [f"grpo.{one}" for one in ("lr=1e-2", "warmup=0", "steps=2", "prompts=2", "group_size=2", "micro_batch=2")]
SETS += ["grpo.save_steps=1", "grpo.eval_steps=2", "grpo.rewards={personalization: 1}"]

IN_TWO = """
import json, math, os, sys
from pathlib import Path
from prlm_edge.rerank.reward.scorer import RewardScorer
from prlm_edge.train import base, config, warmstart
from prlm_edge.train.data import examples, prompts
from prlm_edge.train.grpo import stage as grpo
from prlm_edge.train.run import processes
from prlm_edge.train.run.folder import TrainFolder

work = Path(sys.argv[1])
written = []
sys.addaudithook(
    lambda event, args: written.append(str(args[0]))
    if event == "open" and str(work / "two") in str(args[0]) and args[2] & (os.O_WRONLY | os.O_RDWR)
    else None
)
wanted = config.Recipe.model_validate_json(sys.argv[2])
tokens = base.load_tokens(Path(wanted.base.model), wanted.data.max_tokens)
found = examples.read(wanted.data.files, tokens, wanted.data, seed=0, limit=None, loss_on="answer")
asked, _ = prompts.read(wanted.data.files, wanted, tokens, limit=None)

def opened(stage):
    with processes.first_one_first():
        return TrainFolder.open(work / "two" / stage, stage, wanted, found.sha256)

def warm(until):
    return warmstart.train(opened("warmstart"), wanted, found.examples, found.examples[:4], until=until)

assert not warm(0.0)
assert opened("warmstart").latest().name == "checkpoint-1"
assert warm(math.inf)
scorer = RewardScorer(work / "reward")
assert grpo.train(opened("grpo"), wanted, asked[3:], asked[:3], scorer=scorer).whole
if processes.rank() == 1:
    (work / "written.json").write_text(json.dumps(written))
    raise RuntimeError("the second process fails")
processes.wait()
(work / "went_on").touch()
"""


@pytest.fixture
def recipe(tiny_folder, rows_file):
    return config.load("edge-cpu", SETS, {"data.files": [str(rows_file)], "base.model": str(tiny_folder)})


def start(*command):
    return subprocess.run(
        [sys.executable, *LAUNCH, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def records(folder, kind="step"):
    return [one for one in read_records(folder / "run.jsonl") if one["kind"] == kind]


def assert_same(one, two):
    for kind, keys in (("step", ("loss", "grad_norm", "reward", "zero_variance")), ("dev", ("figures",))):
        ours, theirs = ([{k: r[k] for k in keys if k in r} for r in records(f, kind)] for f in (one, two))
        assert len(ours) == len(theirs) > 0
        for a, b in zip(ours, theirs, strict=True):
            assert a == {key: pytest.approx(value, rel=1e-4, abs=1e-6) for key, value in b.items()}
    a, b = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (one, two))
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)


def test_two_processes_stop_go_on_and_learn_as_one_does(tmp_path, recipe, tiny_folder):
    tokens = base.load_tokens(tiny_folder, recipe.data.max_tokens)
    found = examples.read(recipe.data.files, tokens, recipe.data, seed=0, limit=None, loss_on="answer")
    asked, _ = prompts.read(recipe.data.files, recipe, tokens, limit=None)
    one = TrainFolder.open(tmp_path / "warmstart", "warmstart", recipe, found.sha256)
    assert warmstart.train(one, recipe, found.examples, found.examples[:4])
    scorer = RewardScorer(make_reward_model(tmp_path / "reward"))
    other = TrainFolder.open(tmp_path / "grpo", "grpo", recipe, found.sha256)
    assert grpo.train(other, recipe, asked[3:], asked[:3], scorer=scorer).whole

    script = tmp_path / "in_two.py"
    script.write_text(IN_TWO)
    done = start(script, tmp_path, recipe.model_dump_json())
    assert "the second process fails" in done.stderr, done.stderr[-3000:]
    assert done.returncode != 0 and not (tmp_path / "went_on").exists()  # the error of one ends both
    assert json.loads((tmp_path / "written.json").read_text()) == []  # the first alone writes
    assert_same(tmp_path / "warmstart", tmp_path / "two" / "warmstart")
    assert_same(tmp_path / "grpo", tmp_path / "two" / "grpo")
    assert records(tmp_path / "grpo")[0]["grad_norm"] > 0


def test_the_command_speaks_once(tmp_path, recipe):
    (tmp_path / "recipe.yaml").write_text(config.dump(recipe))
    command = ["-m", "prlm_edge", "train", "warmstart", "--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "run"]
    done = start(*command, "--set", "warmstart.max_steps=1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{tmp_path / 'run' / 'adapter'}\n" and done.stderr.count("to learn from: ") == 1
    assert (tmp_path / "run" / "adapter.gguf").is_file()


def test_what_several_can_not_share_is_refused(tmp_path, recipe, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="3 processes can't share the 4 examples"):
        warmstart._arguments(TrainFolder(tmp_path), recipe, has_dev=False)
    with pytest.raises(UsageError, match="3 processes can't share 2 prompts"):
        grpo._arguments(TrainFolder(tmp_path), recipe, [1.0], 8)
