"""Reading data sets: our rows, LaMP's files, seeded draws, stand-in profiles; and the trivial baselines over them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation import row, write_rows

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.baselines import BASELINES, answer
from prlm_edge.evaluate.data import load
from prlm_edge.evaluate.records import QueryForm
from prlm_edge.ingest.diff import diff_to_text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "dev.jsonl", [row(u, s) for u in range(6) for s in range(u % 2 + 1)])


def test_rows_hold_what_the_file_says(path: Path) -> None:
    data = load(path)
    assert (data.task, data.n_users, len(data.rows), data.skipped, len(data.sha256)) == ("acl_title", 6, 9, 0, 64)
    one = next(r for r in data.rows if r.user == "u1")
    assert (one.id, one.task, one.domain, one.date) == ("u1/q0", "title", "d1", "2026-01-02")
    assert one.target == "notes on beekeeping, part 7"
    assert [item.id for item in one.profile] == ["i0", "i1", "i2", "i3", "i4"]


def test_a_smaller_draw_is_part_of_a_larger_one_and_the_seed_decides(path: Path) -> None:
    whole = [r.id for r in load(path, seed=3).rows]
    assert [r.id for r in load(path, seed=3, limit=4).rows] == whole[: len(load(path, seed=3, limit=4).rows)]
    assert len({tuple(r.id for r in load(path, seed=seed).rows) for seed in range(5)}) > 1
    assert load(path, limit=4).n_users == 4
    assert {r.user for r in load(path, per_user=1).rows} == {f"u{i}" for i in range(6)}
    assert len(load(path, per_user=1).rows) == 6


def test_stand_in_profiles_are_of_others_and_of_the_domain_asked_for(path: Path) -> None:
    data = load(path)
    owner = {r.profile[0].title: (r.user, r.domain) for r in data.rows}
    for one in data.rows:
        other, neighbour = data.other(one), data.other(one, same_domain=True)
        assert other is not None
        assert neighbour is not None
        assert owner[other[0].title][1] != one.domain
        assert owner[neighbour[0].title][1] == one.domain
        assert one.user not in (owner[other[0].title][0], owner[neighbour[0].title][0])
    alone = load(path, limit=1)
    assert alone.other(alone.rows[0]) is None


DIFF = """diff --git a/oven.py b/oven.py
--- a/oven.py
+++ b/oven.py
@@ -1 +1 @@ def heat(oven):
-    oven.set(200)
+    oven.set(250)
"""


def test_a_row_is_asked_with_its_diff_its_text_or_its_short_form(tmp_path: Path) -> None:
    def asked(query: dict[str, str], user: str) -> dict[str, object]:
        return {"user_id": user, "task": "commit_diff", "query": query, "target": "bake hotter", "profile": []}

    everything = {"id": "q", "text": "Changed files: oven.py", "diff": DIFF, "short": "hot oven"}
    bare = {"id": "q", "text": "an oven", "short": ""}
    path = write_rows(tmp_path / "x.jsonl", [asked(everything, "a"), asked(bare, "b"), asked(everything, "a")])

    def queries(*asks: QueryForm, per_user: int = 1) -> dict[str, str]:
        return {row.id: row.query for row in load(path, asks=asks, per_user=per_user).rows}

    assert queries() == {"a/q": DIFF, "b/q": "an oven"}
    assert queries("diff") == {"a/q": DIFF}
    assert queries("text") == {"a/q": "Changed files: oven.py", "b/q": "an oven"}
    assert queries("short", "text") == {
        "a/q/short": "hot oven",
        "a/q/text": "Changed files: oven.py",
        "b/q/text": "an oven",
    }
    data = load(path, asks=("short",))
    assert (len(data.rows), data.n_users, data.skipped) == (2, 1, 1)
    assert {row.ask for row in load(path).rows} == {"diff", "text"}
    with pytest.raises(UsageError, match="no row with a query's short and a target"):
        load(write_rows(tmp_path / "y.jsonl", [asked(bare, "b")]), asks=("short",))


def test_past_items_have_a_topic_and_the_text_that_a_diff_at_hand_gets(tmp_path: Path) -> None:
    old = {"title": "bake", "text": "Changed files: oven.py\n\nas it was rendered before"}
    profile = [
        {**old, "id": "whole", "diff": DIFF, "short": "hot oven"},
        {**old, "id": "cut", "diff": DIFF, "diff_cut": True, "short": None},
        {**old, "id": "none"},
        {**old, "id": "drawn", "diff": "*** a/x\n--- b/x\n***************\n"},
    ]
    value = {"user_id": "a", "task": "commit_diff", "query": {"text": "x"}, "target": "y", "profile": profile}
    data = load(write_rows(tmp_path / "x.jsonl", [value]))
    whole, cut, none = data.rows[0].profile
    assert data.skipped == 1  # a diff that can't be read
    assert (whole.text, whole.change, whole.topic, whole.kind) == (diff_to_text(DIFF), "", "hot oven", "commit")
    assert (cut.text, cut.change, cut.topic) == (old["text"], diff_to_text(DIFF), "")
    assert (none.text, none.meta) == (old["text"], {})


def test_lamp_questions_and_outputs(tmp_path: Path) -> None:
    profile = [{"id": "9", "abstract": "We parse trees.", "title": "Parsing"}, {"id": "8", "title": "", "abstract": ""}]
    question = {
        "id": "1",
        "input": "Generate a title for the following abstract of a paper: We prune.",
        "profile": profile,
    }
    (tmp_path / "dev_questions.json").write_text(json.dumps([question, {**question, "id": "2"}]))
    (tmp_path / "dev_outputs.json").write_text(
        json.dumps({"task": "LaMP_5", "golds": [{"id": "1", "output": "Pruning"}, {"id": "3", "output": "x"}]})
    )
    data = load(tmp_path / "dev_questions.json")
    assert (data.task, len(data.rows)) == ("LaMP_5", 1)
    assert data.skipped == 2  # a question without an answer, and an item that says nothing
    assert (data.rows[0].query, data.rows[0].target, data.rows[0].task) == ("We prune.", "Pruning", "title")
    assert [(i.title, i.text) for i in data.rows[0].profile] == [("Parsing", "We parse trees.")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no row"),
        ([{"a": 1}], "no id and profile"),
        ([{**row(0), "task": "poetry"}], "don't know how to answer 'poetry'"),
        ([{**row(0), "target": " "}], "no row with a query and a target"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, lines: list[object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(write_rows(tmp_path / "x.jsonl", lines))


def test_an_unknown_task_can_be_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", [{**row(0), "task": "poetry"}])
    assert load(path, task="headline").rows[0].task == "headline"


def test_baselines_answer_what_they_are_called(path: Path) -> None:
    data = load(path)
    one = next(r for r in data.rows if r.id == "u0/q0")
    own = {item.title for item in one.profile}
    found = {name: answer(name, one, data) for name in BASELINES}
    assert found["first_sentence"] == "Part 7 about sourdough."
    assert found["copy"] == "Part 7 about sourdough. What went right."
    assert {found["random_own"], found["nearest_own"], found["oracle_own"]} <= own
    assert found["nearest_other"] not in own
    assert answer("random_own", one, data, seed=0) == found["random_own"]
    assert len({answer("random_own", one, data, seed=seed) for seed in range(20)}) > 1
    change = {name: answer(name, replace(one, query=DIFF), data) for name in ("copy", "first_sentence")}
    assert change["copy"].startswith("Changed files: oven.py - oven.set")
    assert change["first_sentence"].startswith("- oven.set")
    with pytest.raises(UsageError, match="no baseline"):
        answer("magic", one, data)
