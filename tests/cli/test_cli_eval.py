"""`prlm-edge eval` on a run that is there: its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation import scored_run

HEADLINE = ["CONDITION", "ROUGE1", "BLEU", "STYLE_MATCH", "ECHO", "INVENTION", "COPIED", "CUT_OFF", "PROMPT"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return scored_run(tmp_path / "run").path


def test_a_terminal_of_100_columns_holds_the_table(path, cli):
    title, empty, *table = cli("eval", "show", path).out.splitlines()
    assert (title, empty) == ("users: 6; ± half of a 95% interval by user", "")
    assert table[0].split() == HEADLINE
    assert max(map(len, table)) <= 100 - len("k=4 reasoning=off") + len("first sentence")
    assert next(line for line in table if line.startswith("k=4")).split()[-3:-1] == ["0%", "±0"]
    full = cli("eval", "show", path, "--full").out.splitlines()[2].split()
    assert full[-1] == "USERS/MIN"
    assert "CARRIED" in full
