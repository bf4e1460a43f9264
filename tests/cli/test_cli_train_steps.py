"""What a training run shows of its steps, on a terminal and without one; which adapter it begins with."""

import sys
from pathlib import Path

import pytest

from prlm_edge.cli.train.command import _Asked
from prlm_edge.cli.train.show import steps
from prlm_edge.errors import UsageError
from prlm_edge.models import registry


def record(at, **more):
    return {"kind": "step", "step": at, "loss": at / 7, **more}


def test_without_a_terminal_a_line_comes_first_now_and_then_and_last(capsys):
    with steps("GRPO", every=3) as shown:
        for at in range(1, 9):
            shown(record(at), 8)
    err = capsys.readouterr().err
    assert [line.split()[1] for line in err.splitlines()] == ["1/8", "3/8", "6/8", "8/8"]


@pytest.mark.parametrize("n", [0, 2])
def test_a_terminal_keeps_the_last_line(capsys, monkeypatch, n):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with steps("GRPO") as shown:
        for at in range(1, n + 1):
            shown(record(at, reward=1.0, terms={"[bold]\x1b": 1.0}), 8)
    kept = capsys.readouterr().err.rpartition("\x1b[2K")[2]  # what follows when the bar is erased
    assert kept == ("step 2/8  reward 1.00 ([bold]\\x1b 1.00)\n" if n else "")


@pytest.mark.parametrize("model", ["smollm2-135m", "small"])
def test_it_begins_with_the_adapter_that_comes_with_the_model(tmp_path, model):
    (tmp_path / "train.jsonl").touch()
    asked = _Asked(data=[tmp_path / "train.jsonl"], model=model, adapter=Path("ours"))
    voice = registry()["smollm2-135m"].voice
    assert voice is not None and asked.begin_with(asked.load()) == voice


def test_where_none_comes_with_the_model_that_is_said(tmp_path):
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(UsageError, match=r"no adapter comes with prlm-edge for qwen3-0\.6b"):
        _Asked(data=[tmp_path / "train.jsonl"], model="qwen3-0.6b", adapter=Path("ours")).load()
    with pytest.raises(UsageError, match="gone: no such file"):
        _Asked(data=[tmp_path / "train.jsonl"], adapter=Path("gone")).load()
