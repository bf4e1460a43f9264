"""GGUF files from anywhere: a child process opens them first, once, and what ends it is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prlm_edge.backends import open_backend
from prlm_edge.backends.llama import probe
from prlm_edge.errors import ModelError
from prlm_edge.settings import load_settings

pytestmark = pytest.mark.model


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes of the child processes that try a model."""
    codes: list[int] = []
    run = subprocess.run

    def counted(*args, **kwargs):
        done = run(*args, **kwargs)
        codes.append(done.returncode)
        return done

    monkeypatch.setattr(probe.subprocess, "run", counted)
    return codes


@pytest.fixture
def mine(smollm2_path: Path, home: Path, tmp_path: Path) -> Path:
    (tmp_path / "mine.gguf").symlink_to(smollm2_path)
    return tmp_path / "mine.gguf"


def open_file(path: Path) -> None:
    open_backend(load_settings(flags={"model": str(path), "adapter": "none"})).close()


def test_a_file_from_anywhere_is_tried_once(mine: Path, children: list[int]) -> None:
    open_file(mine)
    open_file(mine)
    assert children == [0]


def test_a_pulled_model_is_not_tried(mine: Path, monkeypatch: pytest.MonkeyPatch, children: list[int]) -> None:
    monkeypatch.setattr(probe, "models_dir", lambda: mine.resolve().parents[1])
    open_file(mine)
    assert children == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_file_that_ends_the_child_is_refused_each_time(
    mine: Path, children: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_CODE", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    for _ in range(2):
        with pytest.raises(ModelError, match="would end this process"):
            open_file(mine)
    assert len(children) == 2
