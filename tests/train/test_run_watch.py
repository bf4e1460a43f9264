"""What a Trainer logs becomes the run's log."""

import math
import types

import numpy as np
import pytest

from prlm_edge.style import style_of
from prlm_edge.train.run.log import RunLog, read_samples, status
from prlm_edge.train.types import Ask, Rollout
from prlm_edge.types import Candidate, Request, Scoring

pytest.importorskip("transformers")
from prlm_edge.train.run.watch import RunLogCallback, figures_of, memory_mb


def test_figures_get_our_names_and_none_is_lost():
    logs = {
        "loss": 0.5,
        "learning_rate": 1e-5,
        "reward": None,
        "rewards/accuracy/mean": 1.5,
        "rewards/accuracy/std": 0.2,
        "completions/clipped_ratio": 0.75,
        "truncated": 0.25,
        "frac_reward_zero_std": 0.0,
        "completions/mean_length": 20,
        "clip_ratio/region_mean": 0.01,
        "clip_ratio/low_mean": 0.02,
        "epoch": 0.5,
        "step_time": 9.0,
    }
    found = figures_of(logs)
    assert math.isnan(found.pop("reward"))
    assert found == {
        "loss": 0.5,
        "lr": 1e-5,
        "terms": {"accuracy": 1.5},
        "terms_std": {"accuracy": 0.2},
        "truncated": 0.25,
        "zero_variance": 0.0,
        "clipped": 0.01,
        "lengths": {"mean": 20.0},
        "other": {"clip_ratio/low_mean": 0.02},
    }


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def state(at, n_steps=10, **fields):
    return types.SimpleNamespace(global_step=at, max_steps=n_steps, is_world_process_zero=True, **fields)


def test_pace_and_time_left_go_on_after_a_break(tmp_path):
    clock, log = Clock(), RunLog(tmp_path)
    callback = RunLogCallback(log, clock=clock)
    callback.on_train_begin(None, state(0), None)
    for at in (1, 2):
        clock.now += 5
        callback.on_log(None, state(at), None, {"loss": 1.0, "num_tokens": 100 * at})
    assert [(one["wall_s"], one["step_s"], one["eta_s"]) for one in log.records] == [(5, 5, 45), (10, 5, 40)]
    assert [one["tokens_per_s"] for one in log.records] == [20, 20]
    clock.now = 9_000
    log = RunLog(tmp_path)
    callback = RunLogCallback(log, clock=clock)
    callback.on_train_begin(None, state(2), None)
    clock.now += 2
    callback.on_log(None, state(3), None, {"loss": 1.0, "num_tokens": 500})
    last = log.records[-1]
    assert (last["wall_s"], last["step_s"], last["eta_s"], last["tokens_per_s"]) == (12, 2, 14, 150)
    assert len(log.records) == 3


def test_dev_logs_become_dev_records_and_other_logs_none(tmp_path):
    log = RunLog(tmp_path)
    callback = RunLogCallback(log)
    callback.on_train_begin(None, state(0), None)
    callback.on_log(None, state(4), None, {"eval_rouge1": 0.4, "eval_runtime": 3.0, "epoch": 1})
    callback.on_log(None, state(9), None, {"train_runtime": 3.0, "train_loss": 1.0})
    assert log.records == [{"kind": "dev", "step": 4, "figures": {"rouge1": 0.4}}]


def test_memory_is_that_of_this_process():
    block = np.ones(30_000_000)  # 240 MB
    assert memory_mb()["memory_mb"] > block.nbytes / 1e6


def test_samples_are_the_first_of_each_prompt(tmp_path):
    log = RunLog(tmp_path)
    callback = RunLogCallback(log, sample_every=2, n_samples=2)
    callback.on_train_begin(None, state(0), None)
    asks = [Ask(key, Request(()), (), Scoring("asked", "write", style_of([])), "target") for key in "abc"]
    rollouts = [Rollout(ask, Candidate(f"{ask.id}{n}", "r")) for ask in asks for n in range(2)]
    for at in range(1, 5):
        callback.see(rollouts, {"accuracy": np.arange(6.0)})
        callback.on_log(None, state(at), None, {"loss": 1.0})
    samples = read_samples(log.samples_path)
    assert [(one["step"], one["answer"], one["terms"]["accuracy"]) for one in samples] == [
        (2, "a0", 0), (2, "b0", 2), (4, "a0", 0), (4, "b0", 2)
    ]  # fmt: skip


def test_a_status_says_what_is_known():
    step = {"kind": "step", "step": 12, "reward": 1.9, "terms": {"accuracy": 0.914, "format": 0.99}, "loss": 0.1}
    step |= {"kl": 0.00412, "entropy": 1.234, "zero_variance": 0.125, "truncated": 0.03, "tokens_per_s": 210.4}
    assert status(step | {"memory_mb": 1234.5, "eta_s": 3723.4}, 200) == (
        "step 12/200  reward 1.90 (accuracy 0.91, format 0.99)  kl 0.0041  entropy 1.23  no variance 12%  cut off 3%  "
        "210 tokens/s  1234 MB  eta 1:02:03"
    )
    assert status({"kind": "step", "step": 7, "loss": 1.0}, 0) == "step 7  loss 1.000"
