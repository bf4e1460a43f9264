"""docs/examples.md is what examples/answers.py writes."""

from __future__ import annotations

import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "examples.md"


@pytest.mark.model
def test_the_page_is_what_the_script_writes() -> None:
    """Requests, commits and words around them equal; an answer may differ where another CPU rounds otherwise."""
    git = ["git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository"]
    if subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() != "false":
        pytest.skip("the repository's whole history is needed")
    script = [sys.executable, str(ROOT / "examples" / "answers.py")]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written, kept = done.stdout.splitlines(), PAGE.read_text("utf-8").splitlines()
    assert [without_answer(line) for line in written] == [without_answer(line) for line in kept], "run `make examples`"
    assert SequenceMatcher(None, done.stdout, PAGE.read_text("utf-8"), autojunk=False).ratio() > 0.8, "make examples"


def without_answer(line: str) -> list[str]:
    cells = line.split(" | ")
    return [cells[0], *cells[2:]]
