"""The one way from a request to a prompt: alike for the Writer and evaluation, and without growing by each request.

tests/train/test_train_data.py holds training to the same.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from evaluation import asked, row, write_rows

from prlm_edge import Profile, Writer, models
from prlm_edge.backends.scripted import Scripted
from prlm_edge.errors import UsageError
from prlm_edge.evaluate import runner
from prlm_edge.evaluate.conditions import make, settings_of
from prlm_edge.evaluate.data import load
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.retrieve.ranking import Ranker
from prlm_edge.settings import load_settings
from prlm_edge.tasks import get_task
from prlm_edge.types import Hit, Item, ModelInfo, Turn
from prlm_edge.writer import Asker, as_text, make_pool
from prlm_edge.writer.asker import ENOUGH_OF_KIND, LARGER, model_notes
from prlm_edge.writer.pool import profile_notes, search_notes

DIFF = """diff --git a/ovens/steam.py b/ovens/steam.py
--- a/ovens/steam.py
+++ b/ovens/steam.py
@@ -1,2 +1,2 @@
-    water = 20
+    water = 35  # grams
"""
EMPTY_DIFF = "diff --git a/x b/x\nBinary files a/x and b/x differ\n"
BACKEND = Scripted(["<answer>x</answer>"])
ITEMS = [Item(f"i{i}", text=f"a post on bread number {i}", title=f"bread {i}", kind="post") for i in range(30)]

pytestmark = pytest.mark.usefixtures("home")


def alive(kind: type) -> list[object]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, kind)]


@pytest.mark.parametrize("retriever", ["bm25", "recency", "random"])
def test_seeds_do_not_add_up(retriever: str) -> None:
    """There was an index for every seed: ten seeds over 1,900 items took 250 MB."""
    asker, before = Asker(), len(alive(Ranker))
    found = set()
    for seed in range(10):
        settings = load_settings(flags={"task": "title", "retriever": retriever, "seed": seed, "k": 5})
        plan = asker.plan("bread", ITEMS, settings, BACKEND, BACKEND.info)
        found.add(tuple(hit.item.id for hit in plan.hits))
    assert len(found) == (10 if retriever == "random" else 1)
    assert len(alive(Ranker)) - before == (0 if retriever == "random" else 1)


def test_another_profile_takes_the_place_of_the_one_before() -> None:
    asker, task = Asker(), get_task("title")
    first = asker.pool(ITEMS, task)
    assert asker.pool(list(ITEMS), task) is first  # the same items, read again
    assert asker.pool(ITEMS[:3], task).items == ITEMS[:3]
    assert asker.pool(ITEMS, task) is not first


def test_past_items_are_shown_in_the_shape_of_the_request() -> None:
    settings = load_settings(flags={"task": "title", "k": 1})
    item = Item("long", text="I keep rye for people with time. " * 2, title="patience", meta={"topic": "slow bread"})
    for query, shown in (("my post on rye", "slow bread"), ("I keep rye.\n\nIt is sticky.", item.text.strip())):
        plan = Asker().plan(query, [item], settings, BACKEND, BACKEND.info)
        assert plan.prompt.turns[-3].text == f"Write a title for: {shown}"
        assert plan.scoring.shape == ("topic" if shown == item.topic else "text")
    assert Asker().plan("my post on rye", [item], settings, BACKEND, BACKEND.info).scoring.query == "rye"


@pytest.mark.parametrize(("n_talks", "kinds"), [(ENOUGH_OF_KIND, {"talk"}), (ENOUGH_OF_KIND - 1, {"talk", "post"})])
def test_a_kind_that_the_request_names_is_learned_from_alone_where_there_are_enough(n_talks: int, kinds: set) -> None:
    talks = [Item(f"t{i}", text="a talk", title=f"rye, part {i}", kind="talk") for i in range(n_talks)]
    settings = load_settings(flags={"task": "title", "k": 20})
    plan = Asker().plan("my talk about rye", [*ITEMS, *talks], settings, BACKEND, BACKEND.info)
    assert {hit.item.kind for hit in plan.hits} == kinds


RYE = Item("r", text="Rye needs time. It's sticky.", title="on rye")


@pytest.mark.parametrize(
    ("text", "retriever", "parts", "said"),
    [
        ("rye bread", "bm25", {"bm25": 1.0}, ""),
        ("the bench on the harbour: it's new", "bm25", {"bm25": 0.3}, "the nearest items were used"),
        ("my harbour", "bm25", {"recency_rank": 1}, "the most recent items were used"),
        ("sourdough", "dense", {"dense": 0.4}, ""),
        ("sourdough", "hybrid", {"dense_rank": 1, "dense": 0.1}, "the nearest items were used"),
        ("rye", "dense", {"dense": 0.1}, ""),
        ("sourdough", "recency", {"recency_rank": 1}, ""),
        ("sourdough", "random", {}, ""),
    ],
)
def test_where_nothing_is_about_the_same_that_is_said(text: str, retriever: str, parts: dict, said: str) -> None:
    notes = search_notes(text, [Hit(RYE, 1.0, parts)], retriever)
    assert notes == ([f"nothing in the profile resembles the request: {said}"] if said else [])
    assert search_notes(text, [], retriever) == []


@pytest.mark.parametrize(
    ("task", "trained_for", "n_parameters", "said"),
    [
        ("title", "title commit note", 135e6, ""),
        ("headline", "title commit note", 135e6, "this voice was trained for title, commit and note, not for headline"),
        ("headline", "title", 0, "this voice was trained for title, not for headline"),
        ("headline", "", 135e6, ""),
        ("write", "write", 135e6, "write with 135 million parameters is poor: a larger model"),
        ("write", "title", 135e6, "not for write; write with 135 million parameters is poor: a larger model"),
        ("paraphrase", "", 494e6, ""),
        ("paraphrase", "", 0, ""),  # a server's
    ],
)
def test_what_a_model_can_not_do_is_said(task: str, trained_for: str, n_parameters: float, said: str) -> None:
    info = ModelInfo("m", tasks=tuple(trained_for.split()), n_parameters=int(n_parameters))
    notes = model_notes(get_task(task), info)
    assert len(notes) == bool(said)
    assert said in "".join(notes)
    assert models.find(LARGER).kind == "llm"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("title", []),
        ("commit", ["the profile has no commit: items of other kinds are shown"]),
        ("headline", ["the profile has no headline, news or article: items of other kinds are shown"]),
    ],
)
def test_a_profile_without_items_of_the_kind_says_so(task: str, said: list[str]) -> None:
    assert profile_notes(ITEMS, make_pool(ITEMS, get_task(task)), get_task(task)) == said


def asked_in_evaluation(path: Path, query: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Turn, ...]:
    one = row(0)
    file = write_rows(path / "rows.jsonl", [one | {"task": "commit_subject", "query": {"id": "q", "text": query}}])
    data, condition = load(file), make("c", {"reasoning": "off"})
    backend = Scripted(["<answer>x</answer>"])
    monkeypatch.setattr(runner, "open_backend", lambda settings: backend)
    run = RunFolder.create(path / "run", {"asked": asked(), "seed": 0})
    assert runner.answer_all(run, data, [condition])
    profile = Profile.open(path / "me.jsonl", create=True)
    profile.append(data.rows[0].profile)
    writer = Writer(profile, settings_of(condition, "commit"), Scripted(["<answer>x</answer>"]))
    assert writer.plan(query).prompt.turns == backend.requests[0].turns
    return backend.requests[0].turns


@pytest.mark.parametrize("query", [DIFF, "  more steam in the oven\n", f"steam, at last\n\n{DIFF}"])
def test_evaluation_asks_what_the_writer_asks(query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = asked_in_evaluation(tmp_path, query, monkeypatch)
    assert as_text(query) in turns[-1].text
    assert ("Changed files: ovens/steam.py" in turns[-1].text) == ("diff" in query)


def test_a_request_that_says_nothing_is_refused_and_such_a_row_left_out(tmp_path: Path) -> None:
    settings = load_settings(flags={"task": "commit"})
    for query in ("", " \n"):
        with pytest.raises(UsageError, match="empty"):
            Asker().plan(query, ITEMS, settings, BACKEND, BACKEND.info)
    rows = [row(0), row(1) | {"query": {"id": "q", "text": " \n"}}]
    assert load(write_rows(tmp_path / "rows.jsonl", rows)).skipped == 1
