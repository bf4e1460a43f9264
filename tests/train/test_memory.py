"""The memory estimate: what it grows with, and what is said where there is too little."""

import json
import os
import platform
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from prlm_edge.errors import PrlmError  # noqa: E402
from prlm_edge.train import config  # noqa: E402
from prlm_edge.train.run import memory  # noqa: E402

SMOLLM2 = {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "vocab_size": 49152}
QWEN = {"hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864, "vocab_size": 151936}


def estimate(longest=512, *overrides):
    return memory.estimate(SMOLLM2, config.load("edge-cpu", overrides), longest)


def test_it_is_near_what_was_measured(monkeypatch):
    """SmolLM2-135M, bf16: 4.0 GB of one step of 4 x 512 tokens, 4.7 of 2 x 996; Qwen2.5-Coder-0.5B, 60 steps of up to
    2 x 1,020: 10.1.

    On an H200, steps of up to 8 x 996: 9.7 GB, 32 x 996: 37.5.
    """
    four, two = "warmstart.micro_batch=4", "warmstart.micro_batch=2"
    assert 4.7e9 < estimate(996, two).total < 7e9
    assert 10.1e9 < memory.estimate(QWEN, config.load("edge-cpu", [two]), 1020).total < 13e9
    monkeypatch.setattr(memory, "_on_gpu", lambda: True)  # blocks are used again
    assert 3.9e9 < estimate(512, four).total < 5e9
    assert 9.7e9 < estimate(996, "warmstart.micro_batch=8").total < 16e9
    assert 37.5e9 < estimate(996, "warmstart.micro_batch=32", "warmstart.batch=32").total < 60e9


def test_it_grows_with_what_takes_memory():
    small = estimate(512, "warmstart.micro_batch=2")
    assert estimate(1024, "warmstart.micro_batch=2").activations == 2 * small.activations
    assert estimate(512, "warmstart.micro_batch=1").activations == small.activations / 2
    assert estimate(512, "warmstart.micro_batch=2", "base.checkpointing=true").activations < small.activations / 8
    assert estimate(512, "base.precision=nf4").weights < small.weights < estimate(512, "base.precision=fp32").weights


@pytest.mark.parametrize(
    ("overrides", "knob"),
    [
        (["warmstart.micro_batch=4"], "--set warmstart.micro_batch=2"),
        (["warmstart.micro_batch=1"], "--set base.checkpointing=true"),
        (["warmstart.micro_batch=1", "base.checkpointing=true", "data.max_tokens=8192"], "--set data.max_tokens=4096"),
    ],
)
def test_too_little_is_refused_with_a_knob(tmp_path, monkeypatch, overrides, knob):
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    monkeypatch.setattr(memory, "available", lambda: 10**8)
    with pytest.raises(PrlmError, match="GB are free") as error:
        memory.check(tmp_path, config.load("edge-cpu", overrides), 8192)
    assert error.value.hint == knob
    monkeypatch.setattr(memory, "available", lambda: 10**13)
    assert memory.check(tmp_path, config.load("edge-cpu", overrides), 512).total > 0


@pytest.mark.parametrize(("value", "hint"), [(8, "--set grpo.micro_batch=4"), (1, "--set data.max_tokens=512")])
def test_a_full_gpu_is_said_with_a_knob(value, hint):
    with (
        pytest.raises(PrlmError, match="the GPU's memory is full") as error,
        memory.fitting("grpo.micro_batch", value),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 614.00 MiB")
    assert hint in error.value.hint


def test_it_knows_what_is_free_here():
    free = memory.available()
    assert free is None or free > 10**8


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_goes_back_to_the_system():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    left = [bytearray(20_000) for _ in range(10_000)][::50]  # between those the heap has holes
    before = resident()
    memory.give_back()
    assert before - resident() > 100e6
    assert len(left) == 200
