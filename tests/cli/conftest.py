"""The command line, run in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from prlm_edge.cli import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


@pytest.fixture
def cli(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("profile", "list", stdin=b"...")` runs `prlm-edge profile list` with an empty home, in an empty folder.

    `answer` is what a terminal would answer a question; without it there is nobody to ask.
    """
    monkeypatch.chdir(tmp_path)

    def run(*args: object, stdin: bytes = b"", answer: bool | None = None) -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        if answer is not None:
            monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
            monkeypatch.setattr("typer.confirm", lambda question, err: answer)
        code = main([str(arg) for arg in args])
        return Ran(code, *capfd.readouterr())

    return run
