"""`prlm-edge train` as users call it: the reward model's stage, and the whole recipe in order, on the real model."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.rerank.reward.scorer import RewardScorer

pytestmark = [pytest.mark.model, pytest.mark.embedder]
FEW = ["data.k=2", "data.item_words=20", "data.dev_limit=3", "data.max_tokens=512"]
SMALL = {
    "warmstart": ["max_steps=2", "batch=2", "micro_batch=2", "save_steps=1", "eval_steps=0"],
    # Enough for scores that differ by more than int8 rounds.
    "reward": ["max_steps=16", "batch=8", "users=4", "save_steps=8", "lr=3e-4", "student_lr=5e-4"],
    "grpo": ["steps=2", "prompts=2", "group_size=2", "micro_batch=2", "save_steps=1", "eval_steps=2"],
}
SETS = [*FEW, *(f"{section}.{one}" for section, some in SMALL.items() for one in some)]


def train(*arguments, sets=SETS, code=0):
    command = [sys.executable, "-m", "prlm_edge", "train", *map(str, arguments)]
    for one in sets:
        command += ["--set", one]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, "NO_COLOR": "1"}, check=False
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done


def test_the_whole_recipe_ends_in_an_adapter_that_generate_takes(tmp_path, rows_file, smollm2_path, minilm_path):
    out = tmp_path / "run"
    asked = ["--data", rows_file, "--dev", rows_file, "--limit", 6, "--out", out, "--json"]
    sets = [*SETS, "grpo.rewards={accuracy: 1.0, format: 0.2, personalization: 0.5}"]
    done = train(*asked, sets=sets)
    assert json.loads(done.stdout)["adapter"] == str(out / "adapter")
    stages = [out / f"{number}-{name}" for number, name in enumerate(("warmstart", "reward", "grpo"), 1)]
    assert all(stage.is_dir() for stage in stages)
    same = (stages[2] / "adapter" / "adapter_model.safetensors").read_bytes()
    assert (out / "adapter" / "adapter_model.safetensors").read_bytes() == same
    assert (stages[0] / "adapter" / "adapter_model.safetensors").read_bytes() != same
    for stage in (stages[0], stages[2]):
        assert (stage / "report.html").stat().st_size > 10_000
        assert (stage / "adapter.gguf").exists()

    card = json.loads((stages[1] / "reward_model" / "reward.json").read_text())
    assert set(card["dev"]["accuracy"]) == {"all", *card["recipe"]["kinds"]}
    assert len(RewardScorer(stages[1] / "reward_model").score_all([])) == 0
    answers = (stages[1] / "answers" / "1-train" / "answers.jsonl").read_text().splitlines()
    assert {json.loads(line)["condition"] for line in answers} == {"zero_shot", "other_profile"}
    terms = [json.loads(line) for line in (stages[2] / "run.jsonl").read_text().splitlines()]
    assert any("personalization" in one.get("terms", {}) for one in terms)

    model = LlamaCpp(smollm2_path, n_ctx=256, adapter=out / "adapter.gguf")
    assert model.info.tasks == ("commit",)
    model.close()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    train(*asked, sets=sets)  # once more: all is there
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before | {
        path: path.stat().st_mtime_ns for path in (out / "adapter").glob("*.safetensors")
    }


def test_the_reward_model_shows_how_good_it_is(tmp_path, rows_file, minilm_path):
    out = tmp_path / "run"
    sets = [*SETS, "reward.kinds=[neighbour, style, degenerate, swap]"]
    done = train("reward", "--data", rows_file, "--dev", rows_file, "--out", out, sets=sets)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["PAIRS", "N", "RIGHT", "95%", "LENGTH", "ALONE", "ROUGE", "ALONE", "STYLE", "ALONE"]
    assert [line.split()[0] for line in lines[1:-1]] == ["all", "neighbour", "style", "degenerate", "swap"]
    assert lines[-1] == str(out / "reward_model")
    assert not (out / "answers").exists()  # these kinds need no model


def test_wrong_use_says_what_to_do(tmp_path, rows_file):
    assert "no folder for the run" in train("--qlora", code=2, sets=[]).stderr
    assert "no data to train on" in train("--qlora", "--out", tmp_path / "a", code=2, sets=[]).stderr
    behind = train("--qlora", "grpo", "--out", tmp_path / "b", code=2, sets=[]).stderr
    assert "come before grpo" in behind
    assert "no data to train on" in train("reward", "--out", tmp_path / "c", code=2, sets=[]).stderr
    none = train("--data", rows_file, "--out", tmp_path / "d", code=2, sets=["stages=[]"]).stderr
    assert "train no adapter" in none
    assert "Traceback" not in none + behind


def test_report_of_a_run_that_is_none(tmp_path):
    assert "nothing is logged" in train("report", tmp_path, code=2, sets=[]).stderr
