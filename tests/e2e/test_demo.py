"""examples/demo.py, as `make demo` runs it: a table with the real model, one line where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prlm_edge.models.catalog import registry

ROOT = Path(__file__).parents[2]
REQUEST = "title for my post on winter sourdough"


def demo(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), *map(str, args)]
    env = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_help() -> None:
    done = demo("--help")
    assert done.returncode == 0 and "--adapter" in done.stdout, done.stderr


@pytest.mark.usefixtures("home")
def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    done = demo("--adapter", tmp_path / "gone.gguf")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [done.stderr.strip()] and "no trained adapter there" in done.stderr
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    done = demo("--adapter", tmp_path / "some.gguf")  # the home is empty: no model in it
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [done.stderr.strip()] and "prlm-edge model pull" in done.stderr


@pytest.mark.model
@pytest.mark.usefixtures("home")
def test_both_answers_stand_beside_the_request(smollm2_path: Path) -> None:
    done = demo(REQUEST, "--model", smollm2_path, "--adapter", registry()["smollm2-135m"].voice)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    columns = [lines[0].index(name) for name in ("asked for", "base", "trained")]
    last = next(at for at, line in enumerate(lines) if line.startswith("asked for: "))
    assert [line.partition(":")[0] for line in lines[last:] if line[0] != " "] == [
        "asked for",
        "reasoning",
        "title",
        "used",
    ]
    body = [line for line in lines[2:last] if line]
    asked, base, trained = (
        " ".join(part for line in body if (part := line[start:end].strip()))
        for start, end in zip(columns, (*columns[1:], None), strict=True)
    )
    assert asked == REQUEST
    assert "sourdough" in base and trained
    assert base != trained
