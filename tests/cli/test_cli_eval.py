"""`prlm-edge eval` on a run that is there: its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluation import row, scored_run, write_rows

from prlm_edge.evaluate.records import Answer
from prlm_edge.evaluate.run_folder import RunFolder

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


def test_users_of_seen_domains_and_others_are_shown_apart(path, tmp_path, cli):
    train = write_rows(tmp_path / "train.jsonl", [row(2), {**row(4), "domain": "d7"}])  # even users are of d0
    shown = cli("eval", "show", path, "--seen", train).out.splitlines()
    titles = [line.partition(";")[0] for line in shown if line.startswith("users")]
    assert titles == ["users: 6", "users of seen domains: 3", "users of unseen domains: 3"]
    groups = json.loads(cli("eval", "show", path, "--seen", train, "--json").out)["groups"]
    quality = {name: found["k=4"]["rouge1"] for name, found in groups.items()}
    assert [one["n_users"] for one in quality.values()] == [3, 3]
    # u0, of d0, is the only one whom this condition fails
    assert quality["seen domains"]["mean"] < quality["unseen domains"]["mean"] == 1
    assert cli("eval", "report", path, "--seen", train, "--markdown", "r.md").code == 0
    assert "\n3 users of unseen domains\n\n| condition |" in (tmp_path / "r.md").read_text()
    assert "3 users of unseen domains." in (tmp_path / "report.html").read_text()
    nowhere = write_rows(tmp_path / "nowhere.jsonl", [{**row(2), "domain": None}])
    assert "no row names a domain" in cli("eval", "show", path, "--seen", nowhere).err


def test_what_is_asked_with_is_kept(tmp_path, cli):
    """A run goes on, and is scored, with what it was begun with."""
    rows = [row(user) for user in range(4)]
    for one in rows[1:]:
        one["query"]["short"] = f"topic {one['user_id']}"
    data, out, plan = write_rows(tmp_path / "dev.jsonl", rows), tmp_path / "run", tmp_path / "plan.yaml"
    plan.write_text("conditions: {copy: {baseline: copy}}")
    command = ("eval", "run", data, "--out", out, "--plan", plan)
    done = cli(*command, "--ask", "short")
    assert done.code == 0
    assert "left out: 1 rows without short" in done.err
    assert {answer.answer for answer in RunFolder(out).answers()} == {"topic u1", "topic u2", "topic u3"}
    RunFolder(out).append(Answer("a condition that is gone", "u1/q0", "u1", "x", "y", "z"))
    for again in (cli("eval", "score", out), cli(*command, "--ask", "short")):
        assert [again.code, "users: 3" in again.out, "100% ±0" in again.out] == [0, True, True]  # an echo
    assert "holds another run" in cli(*command).err
    assert cli(*command, "--ask", "shorter").code == 2
