"""Answers that join the profile: what they become, what learns from them and what does not, and the files kept."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import EXAMPLE

from prlm_edge import Profile, Writer, feedback, tasks
from prlm_edge.backends.scripted import Scripted
from prlm_edge.errors import DataError, PrlmError, UsageError
from prlm_edge.evaluate import baselines
from prlm_edge.evaluate.data import load
from prlm_edge.feedback import drafts_path, pairs_path, read_pairs
from prlm_edge.ingest.into_profile import Report, import_items
from prlm_edge.profile import cache, learn, snapshot
from prlm_edge.retrieve import make_retriever
from prlm_edge.retrieve.bm25 import Bm25Retriever
from prlm_edge.settings import load_settings
from prlm_edge.types import Draft, Item

pytestmark = pytest.mark.usefixtures("home")
DIFF = "--- a/oven.py\n+++ b/oven.py\n@@ -1 +1 @@\n-cold\n+hot\n"
DRAFT = Draft("d1", "title", "winter sourdough", "topic", "title", False, ("the crust stayed pale", "a pale crust"))


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    path = tmp_path / "me.jsonl"
    path.write_bytes(EXAMPLE.read_bytes())
    return Profile.open(path)


def writer(profile: Profile, *answers: str, **flags: object) -> Writer:
    return Writer(profile, load_settings(flags=flags), Scripted([f"<answer>{one}</answer>" for one in answers]))


def what_is_learned(path: Path) -> dict[str, Any]:
    """All that a profile teaches: by task the examples, their style, what is found and asked; and as a row."""
    profile, found = Profile.open(path), {}
    for task in tasks.load_tasks().values():
        items, style = learn(profile, task)
        asked = {
            name: [hit.item.id for hit in make_retriever(name, items).search("Round 7: bread and rain", 400)]
            for name in ("bm25", "recency", "random")
        }
        mapped = Bm25Retriever(items, fast_from=1)  # its index is kept and memory-mapped
        asked["mapped"] = [hit.item.id for hit in mapped.search("Round 7: bread and rain", 400)]
        turns = writer(profile, "x").plan("Round 7 of bread", task=task.name).prompt.turns
        found[task.name] = ([item.id for item in items], style, asked, turns)
    row = {"user_id": "u", "task": "acl_title", "query": {"id": "q", "text": "Round 7 of bread"}, "target": "bread"}
    rows = path.with_name("rows.jsonl")
    rows.write_text(json.dumps({**row, "profile": list(map(json.loads, path.read_text("utf-8").splitlines()))}))
    data = load(rows)
    found["row"] = [make(data.rows[0], data, 0) for make in baselines.BASELINES.values()]
    return found


@pytest.mark.parametrize("large", [False, True])
def test_200_drafts_accepted_as_they_were_teach_nothing(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:  # as one that is taken over from the cache
        monkeypatch.setattr(cache, "KEEP_FROM", 1)
        monkeypatch.setattr(cache, "_SAVE_TAIL", 1)
        monkeypatch.setattr(snapshot, "_RACY_NS", 0)
    before = what_is_learned(profile.path)
    n = len(profile)
    for i in range(200):
        request = (
            f"Round {i} of bread",
            f"Round {i}: I baked bread in the rain. It rose well, and " * 2,
            DIFF + "+" * i,
        )
        answer = f"Round {i} Of Bread And Rain!"
        ours = writer(profile, answer)
        result = ours.generate(request[i % 3], task=("title", "headline", "commit", "write")[i % 4])
        assert result.draft is not None
        ours.accept(result.draft)
    assert len(profile) == n + 200
    assert what_is_learned(profile.path) == before
    assert not pairs_path(profile.path).exists()


@pytest.mark.parametrize(
    ("task", "request_", "where"),
    [
        ("title", "winter sourdough", "topic"),
        ("title", "I baked. " * 40, "text"),
        ("commit", DIFF, "text"),
        ("write", "rain", ""),
    ],
)
def test_a_changed_answer_teaches_from_the_next_request_on(
    profile: Profile, task: str, request_: str, where: str
) -> None:
    ours = writer(profile, "The Answer Of The Machine")
    draft = ours.generate(request_, task=task).draft
    assert draft is not None
    accepted = ours.accept(draft, "what i say myself\n")
    item = profile.get(accepted.item)
    assert item is not None and item.teaches and item.source == "prlm-edge"
    assert (accepted.origin, accepted.added, accepted.pairs) == ("edited", True, 1)
    assert item.meta["origin"] == "edited" and item.meta["distance"] == accepted.distance == 1.0
    asked = {"topic": item.topic, "text": item.text, "": item.meta.get("request")}[where]
    assert asked == draft.request
    assert "what i say myself" in (item.title, item.text)
    items, _ = learn(profile, tasks.get_task(task))
    assert items[-1] == item
    assert any("what i say myself" in turn.text for turn in ours.plan(request_, task=task).prompt.turns)
    assert any("what i say myself" in turn.text for turn in writer(profile, "x").plan(request_, task=task).prompt.turns)


def test_what_was_not_taken_is_kept_as_pairs(profile: Profile) -> None:
    answers = ("slow bread at last", "the oven is cold", "a walk in the hills", "fountain pens leak")
    draft = writer(profile, *answers, n=3, select="consensus").generate("winter sourdough", task="title").draft
    assert draft is not None and len(draft.answers) == 3
    final = draft.answers[1] + " again"
    accepted = feedback.accept(profile, draft, final)
    assert (accepted.origin, accepted.pairs) == ("edited", 3)
    pairs = read_pairs(profile.path)
    assert [(one.chosen, one.rejected, one.why) for one in pairs] == [
        (final, draft.answers[1], "changed"),
        (final, draft.answers[0], "left"),
        (final, draft.answers[2], "left"),
    ]
    assert {(one.item, one.draft, one.request, one.origin) for one in pairs} == {
        (accepted.item, draft.id, "winter sourdough", "edited")
    }
    assert stat.S_IMODE(pairs_path(profile.path).stat().st_mode) == 0o600
    again = feedback.accept(profile, draft, draft.answers[2])  # the last word counts
    assert (again.item, again.added, again.origin, again.pairs) == (accepted.item, False, "accepted", 2)
    item = profile.get(again.item)
    assert item is not None and item.title == draft.answers[2] and not item.teaches
    assert {one.chosen for one in read_pairs(profile.path)} == {item.title}
    feedback.accept(profile, replace(draft, id="other"), "my own words")
    assert feedback.forget_pairs(profile.path, lambda one: one.draft == draft.id) == 2
    assert feedback.forget_pairs(profile.path, lambda _: True) == 3
    assert not pairs_path(profile.path).exists()


def test_what_another_process_removed_is_added_again(profile: Profile) -> None:
    first = feedback.accept(profile, DRAFT, "my own words")
    assert Profile.open(profile.path).remove([first.item]) == 1
    again = feedback.accept(profile, DRAFT, "my own words")
    assert again == first and profile.get(first.item) == Profile.open(profile.path).get(first.item) is not None
    new = Profile.open(profile.path.with_name("new.jsonl"), create=True)
    assert feedback.accept(new, DRAFT).added


def test_an_answer_that_is_there_already(profile: Profile) -> None:
    first = feedback.accept(profile, DRAFT)
    same = feedback.accept(profile, replace(DRAFT, id="d2"))
    assert (same.item, same.added, same.origin) == (first.item, False, "accepted")
    typed = feedback.accept(profile, replace(DRAFT, id="d3", answers=("pale",)), DRAFT.answers[0])
    item = profile.get(typed.item)
    assert typed.item == first.item and item is not None and item.teaches
    assert feedback.accept(profile, replace(DRAFT, id="d4")).item == first.item
    item = profile.get(first.item)
    assert item is not None and item.teaches  # the user wrote it once


def test_a_draft_that_comes_back_with_an_import_does_not_teach(profile: Profile) -> None:
    commit = replace(DRAFT, task="commit", shape="change", request="Changed files: a.py", kind="commit")
    accepted = profile.get(feedback.accept(profile, commit).item)
    assert accepted is not None
    for id, title, date, teaches in (
        ("same day", accepted.title, accepted.date, False),
        ("no date", accepted.title, "", False),
        ("older", accepted.title, "2020-01-01", True),
        ("mine", f"{accepted.title}!", accepted.date, True),
    ):
        for _ in range(2):
            import_items(profile, [Item(id, f"Changed files: {id}", title, date, "commit", "git:x")], Report())
        item = profile.get(id)
        assert item is not None and item.teaches == teaches, id
    edited = profile.get(feedback.accept(profile, replace(commit, id="d2"), "what i wrote").item)
    assert edited is not None
    report = Report()
    again = [Item(date, f"Changed files: {date}", edited.title, date, "commit") for date in (edited.date, "2020-01-01")]
    import_items(profile, again, report)
    assert (report.read, report.added, report.duplicates) == (2, 1, 1)
    assert profile.get(edited.date) is None  # the same writing twice would count twice


@pytest.mark.parametrize(
    ("draft", "final", "distance"),
    [("a b c d", "a b c d", 0), ("a  b\n", "a b", 0), ("a b c d", "a b c x", 0.25), ("a", "b", 1), ("", "", 0)],
)
def test_the_distance_is_the_share_of_words_that_differ(draft: str, final: str, distance: float) -> None:
    assert feedback.distance(draft, final) == distance


def test_what_can_not_be_accepted(profile: Profile) -> None:
    ours = writer(profile, "")
    assert ours.generate("winter sourdough", task="title").draft is None
    for draft, final in ((DRAFT, "  \n"), (DRAFT, "one\n\ntwo"), ("unknown", "x")):
        with pytest.raises(UsageError):
            ours.accept(draft, final)
    with pytest.raises(UsageError, match="no profile"):
        Writer(None, load_settings(), Scripted(["x"])).accept(DRAFT)
    assert feedback.accept(profile, replace(DRAFT, multiline=True), "one\n\ntwo").added


def test_drafts_are_few_private_and_of_a_profile(profile: Profile, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    for i in range(5):
        feedback.keep(replace(DRAFT, id=str(i)), other if i == 2 else profile.path, 4)
    assert [one.draft.id for one in feedback.kept()] == ["1", "2", "3", "4"]
    assert [one.draft.id for one in feedback.kept(profile.path)] == ["1", "3", "4"]
    assert feedback.find(other).draft == replace(DRAFT, id="2")
    assert stat.S_IMODE(drafts_path().stat().st_mode) == 0o600
    with drafts_path().open("ab") as stream:
        stream.write(b'{"id": 3}\nnot json\n[]\n{"torn')
    feedback.keep(replace(DRAFT, id="3", final="mine"), profile.path, 4)
    assert [one.draft.id for one in feedback.kept()] == ["1", "2", "4", "3"]
    assert feedback.find(None, "3").draft.final == "mine"
    assert feedback.forget(lambda one: one.profile == other.resolve()) == 1
    assert feedback.forget(lambda _: True) == 3
    assert not drafts_path().exists()
    with pytest.raises(UsageError, match="no answer is kept"):
        feedback.find(None)


def test_an_accept_that_a_full_disk_stopped_is_done_again(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    real, n = os.fsync, [0]

    def full(descriptor: int) -> None:
        n[0] += 1
        if n[0] == 2:  # the profile's line is written, the pair is not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PrlmError, match="No space"):
        feedback.accept(profile, DRAFT, "my own words")
    assert read_pairs(profile.path) == []
    accepted = feedback.accept(profile, DRAFT, "my own words")
    assert len(read_pairs(profile.path)) == accepted.pairs == 2
    assert [item.id for item in Profile.open(profile.path)].count(accepted.item) == 1


def test_a_damaged_pair_is_named_and_kept(profile: Profile) -> None:
    feedback.accept(profile, DRAFT)
    path = pairs_path(profile.path)
    sound = path.read_bytes()
    path.write_bytes(b'{"draft": 1}\n' + sound)
    with pytest.raises(DataError, match=":1: damaged"):
        feedback.accept(profile, replace(DRAFT, id="d2"), "other words")
    assert path.read_bytes() == b'{"draft": 1}\n' + sound


AT_ONCE = """
import sys
from dataclasses import replace
from pathlib import Path
from prlm_edge import Profile, feedback
from prlm_edge.types import Draft
path, name = Path(sys.argv[1]), sys.argv[2]
profile = Profile.open(path)
for i in range(10):
    draft = Draft(f"{name}.{i}", "title", f"{name} {i}", "topic", "title", False, ("first", "second"))
    feedback.keep(draft, path, 100)
    feedback.accept(profile, draft, f"{name} wrote {i}")
"""


def test_processes_keep_and_accept_at_once(profile: Profile) -> None:
    names = ("a", "b", "c")
    n = len(profile)
    argv = [sys.executable, "-c", AT_ONCE, str(profile.path)]
    running = [subprocess.Popen([*argv, name], stderr=subprocess.PIPE, text=True) for name in names]
    for one in running:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said
    assert {one.draft.id for one in feedback.kept()} == {f"{name}.{i}" for name in names for i in range(10)}
    assert len(Profile.open(profile.path)) == n + 30
    assert len(read_pairs(profile.path)) == 60


def test_any_origin_but_accepted_teaches() -> None:
    made: Callable[[object], Item] = lambda origin: Item("i", title="t", meta={"origin": origin})  # noqa: E731
    assert [made(origin).teaches for origin in ("", "edited", "accepted", " accepted ", 3, None)] == [
        *(True, True, False, False, True, True)
    ]
