"""The Writer facade with a scripted backend: events, options, notes, threads, asyncio, profile changes."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import prlm_edge
from prlm_edge import Cancel, Profile, Writer
from prlm_edge.backends.scripted import Scripted
from prlm_edge.errors import ConfigError, MissingError, UsageError
from prlm_edge.prompt import Plan, plan
from prlm_edge.settings import load_settings
from prlm_edge.types import Candidate, Completion, Event, Item, Request, Result, Sampling, Scoring, Usage
from prlm_edge.writer import Asker

REPLY = "<think>short, a colon</think>\n<answer>winter bread: an experiment</answer>"
ITEMS = [
    Item("a", text="I tried three flours for my sourdough starter.", title="rye wins: three flours", date="2024-01"),
    Item(
        "b",
        text="The allotment flooded again, so we dug a drain.",
        title="the drain we should have dug",
        date="2024-02",
    ),
    Item("c", text="A bicycle wheel came back from the dead.", title="truing a wheel by ear", date="2024-03"),
]

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    profile = Profile.open(tmp_path / "me.jsonl", create=True)
    profile.append(ITEMS)
    return profile


def writer(profile: Profile | None, *replies: str, n_ctx: int = 8192, **flags: object) -> Writer:
    return Writer(profile, load_settings(flags=flags), Scripted(replies or [REPLY], n_ctx))


def test_events_come_in_order_and_the_last_carries_the_result(profile: Profile) -> None:
    events = list(writer(profile).stream("title for my post on winter sourdough"))
    types = list(dict.fromkeys(event.type for event in events))
    assert types == ["retrieved", "prompt", "prefill", "reasoning", "answer", "done"]
    result = events[-1].result
    assert result is not None
    assert (result.answer, result.reasoning) == ("winter bread: an experiment", "short, a colon")
    assert result.task == "title"
    assert result.used[-1].item.id == "a"
    assert result.usage.total_s > 0
    assert result.notes == ()


def test_what_the_backend_has_to_say_reaches_the_user(profile: Profile) -> None:
    backend = Scripted([REPLY])
    backend.notes = ("the disk is full",)
    assert "the disk is full" in Writer(profile, load_settings(), backend).generate("title for sourdough").notes


def test_generate_is_the_fold_of_stream(profile: Profile) -> None:
    result = writer(profile).generate("title for winter sourdough")
    assert result.answer == "winter bread: an experiment"


def test_options_of_one_request_stay_with_it(profile: Profile) -> None:
    w = writer(profile)
    assert len(w.plan("title for sourdough", k=1).hits) == 1
    assert len(w.plan("title for sourdough").hits) == 3
    assert w.plan("title for sourdough", retriever="none").hits == ()
    assert w.plan("sourdough", task="headline").task.name == "headline"
    request = w.plan("title for x", temperature=0.5, seed=3, answer_tokens=7).request
    assert (request.sampling.temperature, request.sampling.seed, request.answer_tokens) == (0.5, 3, 7)


def test_the_settings_defaults_are_those_of_sampling(profile: Profile) -> None:
    assert writer(profile).plan("title for x").request.sampling == Sampling()


def test_by_itself_reasons_only_what_was_trained_to(profile: Profile) -> None:
    backend = Scripted([REPLY])
    found = Writer(profile, load_settings(), backend)
    assert found.settings.reasoning == "auto"
    assert found.plan("title for sourdough").reasoning_tokens > 0
    backend.info = replace(backend.info, reasons=False)
    plan = found.plan("title for sourdough")
    assert plan.request.reasoning_tokens == 0
    assert "<think>" not in str(plan.prompt.turns)
    assert found.plan("title for sourdough", reasoning="hide").reasoning_tokens > 0
    assert found.plan("title for sourdough", reasoning_tokens=7).reasoning_tokens == 7  # who says how much wants it


def test_reasoning_off_asks_for_none_and_shows_none(profile: Profile) -> None:
    plan = writer(profile).plan("title for sourdough", reasoning="off")
    assert plan.request.reasoning_tokens == 0
    assert "<think>" not in "".join(turn.text for turn in plan.prompt.turns)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"k": 0}, ConfigError, "k"),
        ({"retriever": "bm52"}, ConfigError, "bm52"),
        ({"task": "titel"}, UsageError, "titel"),
        ({"model": "x"}, UsageError, "'model' can't be set for one request"),
        ({"temperature": -1}, ConfigError, "temperature"),
    ],
)
def test_wrong_options_are_named(
    profile: Profile, options: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        writer(profile).generate("title for x", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("query", ["", "   ", "\n"])
def test_an_empty_request_is_refused(profile: Profile, query: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        writer(profile).generate(query)


def test_without_a_profile_or_with_an_empty_one_it_says_so(tmp_path: Path) -> None:
    assert "no profile" in writer(None).generate("title for x").notes[0]
    (tmp_path / "empty.jsonl").touch()
    result = writer(Profile.open(tmp_path / "empty.jsonl")).generate("title for x")
    assert result.answer
    assert "no item" in result.notes[0]


def test_bad_lines_and_a_lack_of_resemblance_are_noted(profile: Profile) -> None:
    with profile.path.open("ab") as stream:
        stream.write(b"not json\n")
    notes = writer(Profile.open(profile.path)).generate("title for quantum chromodynamics").notes
    assert any("1 line of the profile can't be read" in note for note in notes)
    assert any("nothing in the profile resembles" in note for note in notes)


def test_a_profile_that_changes_is_read_again(profile: Profile) -> None:
    w = writer(profile)
    assert "d" not in [hit.item.id for hit in w.plan("title for kayaks", k=9).hits]
    line = json.dumps({"id": "d", "text": "Two kayaks on a small lake.", "title": "kayaks: wet knees"})
    with profile.path.open("ab") as stream:
        stream.write(line.encode() + b"\n")
    assert w.plan("title for kayaks").hits[0].item.id == "d"


def test_a_diff_is_retrieved_and_shown_in_the_shape_of_past_commits(profile: Profile) -> None:
    diff = "diff --git a/src/oven.py b/src/oven.py\n--- a/src/oven.py\n+++ b/src/oven.py\n@@ -1 +1 @@\n-old\n+new\n"
    text = writer(profile).plan(diff, task="commit").prompt.turns[-1].text
    assert "src/oven.py" in text
    assert "diff --git" not in text


def test_an_empty_answer_is_noted(profile: Profile) -> None:
    result = writer(profile, "<think>hm</think><answer></answer>").generate("title for x")
    assert result.answer == ""
    assert "empty answer" in result.notes[-1]


def test_a_context_too_small_for_the_budgets_is_refused_with_advice(profile: Profile) -> None:
    with pytest.raises(UsageError, match="leaves"):
        writer(profile, n_ctx=150).generate("title for x")


def test_cancelling_keeps_what_there_is(profile: Profile) -> None:
    cancel, result = Cancel(), None
    for event in writer(profile).stream("title for this:\n\nIt rose.\n\nTwice.", cancel=cancel):
        if event.type == "answer":
            cancel.cancel()
        result = event.result or result
    assert result is not None
    assert result.finish_reason == "cancelled"
    assert result.answer


def test_threads_share_a_writer(profile: Profile) -> None:
    w, answers = writer(profile), []
    threads = [threading.Thread(target=lambda: answers.append(w.generate("title for x").answer)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["winter bread: an experiment"] * 8


def test_the_async_twin_streams_the_same(profile: Profile) -> None:
    async def collect(w: Writer) -> list[str]:
        return [event.type async for event in w.astream("title for x")]

    w = writer(profile)
    assert asyncio.run(collect(w)) == [event.type for event in w.stream("title for x")]
    assert asyncio.run(w.agenerate("title for x")).answer == "winter bread: an experiment"


def test_many_async_streams_at_once_do_not_starve_each_other(profile: Profile) -> None:
    async def gather(w: Writer) -> list[str]:
        return [result.answer for result in await asyncio.gather(*(w.agenerate("title for x") for _ in range(40)))]

    lock = threading.Lock()

    class OneAtATime(Scripted):
        def stream(self, request: Request, cancel: Cancel | None = None) -> Iterator[Event]:
            with lock:
                yield from super().stream(request, cancel)

    answers = asyncio.run(gather(Writer(profile, load_settings(), OneAtATime([REPLY]))))
    assert answers == ["winter bread: an experiment"] * 40


def test_async_errors_reach_the_caller(profile: Profile) -> None:
    with pytest.raises(UsageError, match="empty"):
        asyncio.run(writer(profile).agenerate(" "))


def test_an_unexpected_error_ends_the_async_stream_too(profile: Profile) -> None:
    class Broken(Scripted):
        def stream(self, request: Request, cancel: Cancel | None = None) -> Iterator[Event]:
            raise RuntimeError("a bug")

    async def ask() -> None:
        await asyncio.wait_for(Writer(profile, load_settings(), Broken([REPLY])).agenerate("title for x"), 10)

    with pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(ask())


def test_cancelling_the_task_cancels_the_generation(profile: Profile) -> None:
    w = writer(profile, "<answer>" + "word " * 100_000)

    async def abandon() -> None:
        async for event in w.astream("title for x"):
            if event.type == "answer":
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(abandon())
    assert w.generate("title for x", answer_tokens=5).answer  # the backend is free again


def test_closing(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Counting(Scripted):
        def close(self) -> None:
            closed.append(True)

    with Writer(profile, load_settings(), Counting([REPLY])) as w:
        w.generate("title for x")
    assert not closed  # a backend that was handed in stays the caller's
    with pytest.raises(UsageError, match="closed"):
        w.generate("title for x")
    monkeypatch.setattr("prlm_edge.writer.writer.open_backend", lambda *_: Counting([REPLY]))
    with Writer(profile, load_settings()) as w:
        w.generate("title for x")
    assert closed
    closed.clear()
    dropped = Writer(profile, load_settings())
    dropped.load()
    reference = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert reference() is None
    assert closed


def test_open_reads_settings_and_names_what_is_missing(profile: Profile, home: Path) -> None:
    w = Writer.open(profile.path, k=2, model="smollm2-135m")
    assert w.settings.k == 2
    with pytest.raises(MissingError) as caught:  # this home has no models
        w.generate("title for x")
    assert "prlm-edge model pull" in caught.value.hint
    with pytest.raises(UsageError):
        Writer.open(home / "absent.jsonl")


def test_public_names_load_lazily() -> None:
    assert prlm_edge.Writer is Writer
    assert "Writer" in dir(prlm_edge)
    with pytest.raises(AttributeError):
        prlm_edge.Nothing  # noqa: B018


# -- best of n


def replies(*answers: str) -> list[str]:
    return [f"<think>thought {i}</think><answer>{answer}</answer>" for i, answer in enumerate(answers)]


FOUR = replies("the drain of 1903", "bread: cold and slow", "bread: slow", "bread: cold, slow")


def last(events: list[Event]) -> Result:
    result = events[-1].result
    assert result is not None
    return result


def test_best_of_n_streams_the_best_of_its_candidates_as_a_whole(profile: Profile) -> None:
    w = writer(profile, *FOUR, best_of=4, seed=7)
    events = list(w.stream("title for winter sourdough"))
    types = [event.type for event in events]
    assert types == ["retrieved", "prompt", "prefill", *["candidate"] * 5, "reasoning", "answer", "done"]
    progress = [(event.done, event.total) for event in events if event.type == "candidate"]
    assert progress == [(i, 4) for i in range(5)]
    assert [event.text for event in events if event.type == "candidate"][1] == "the drain of 1903"
    result = last(events)
    assert [event.text for event in events[-3:-1]] == [result.reasoning, result.answer]
    assert result.select == "blend"
    assert [one.seed for one in result.candidates if one.answer == result.answer] == [result.candidates[0].seed]
    assert sorted(one.seed for one in result.candidates) == [7, 8, 9, 10]
    scores = [one.score for one in result.candidates if one.score is not None]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 4
    assert result.candidates[-1].answer == "the drain of 1903"
    assert result.notes == ()


def test_the_first_candidate_is_the_answer_without_best_of(profile: Profile) -> None:
    plan = writer(profile).plan("title for x", best_of=3, seed=2**32 - 1)
    assert [request.sampling.temperature for request in plan.requests] == [0.0, 0.8, 0.8]
    assert [request.sampling.seed for request in plan.requests] == [2**32 - 1, 0, 1]
    assert all(request.logprobs and request.turns is plan.prompt.turns for request in plan.requests)
    warm = writer(profile).plan("title for x", best_of=3, temperature=0.4)
    assert [request.sampling.temperature for request in warm.requests] == [0.4, 0.4, 0.4]
    [alone] = writer(profile).plan("title for x", seed=2**32 - 1).requests
    assert alone.sampling == plan.requests[0].sampling
    assert not alone.logprobs


def test_one_answer_has_no_candidates(profile: Profile) -> None:
    result = writer(profile).generate("title for x")
    assert (result.candidates, result.select) == ((), "")


def test_a_request_chooses_how_to_select(profile: Profile) -> None:
    logprobs = [-3.0, -2.0, -0.5, -1.0]
    w = Writer(profile, load_settings(flags={"best_of": 4}), Scripted(FOUR, logprobs=logprobs))
    result = w.generate("title for x", select="logprob")
    assert (result.answer, result.select) == ("bread: slow", "logprob")
    assert [(one.logprob, one.score) for one in result.candidates] == [(x, x) for x in sorted(logprobs, reverse=True)]


def test_log_probabilities_that_the_backend_lacks_are_refused_before_any_work(profile: Profile) -> None:
    w = writer(profile, *FOUR, best_of=4, select="logprob")
    with pytest.raises(UsageError, match="log-probabilities"):
        w.generate("title for x")
    assert w.load().requests == []  # type: ignore[attr-defined]
    assert w.generate("title for x", best_of=1).answer  # nothing to select, nothing to refuse


class Longest:
    """What an app would plug in."""

    name = "longest"
    needs_logprobs = False

    def __init__(self) -> None:
        self.context: Scoring | None = None

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        self.context = context
        return [float(len(candidate.answer)) for candidate in candidates]


def test_an_app_plugs_its_own_scorer_in(profile: Profile) -> None:
    scorer = Longest()
    w = Writer(profile, load_settings(flags={"best_of": 4}), Scripted(FOUR), scorer)
    result = w.generate("title for winter sourdough")
    assert (result.answer, result.select) == ("bread: cold and slow", "longest")
    context = scorer.context
    assert context is not None
    assert (context.query, context.task) == ("winter sourdough", "title")
    assert context.past == tuple(hit.item.title for hit in context.used)
    assert context.used == result.used
    assert context.style.n == 3
    other = Writer(profile, load_settings(flags={"best_of": 4}), Scripted(FOUR))
    assert other.generate("title for x", select=Longest()).select == "longest"
    assert Writer.open(profile.path, scorer=scorer).scorer is scorer
    # A name given for one request is stronger than the Writer's scorer.
    assert w.generate("title for x", select="consensus").select == "consensus"


@pytest.mark.parametrize("wrong", ["concensus", 5, ""])
def test_a_wrong_way_of_selecting_is_named(profile: Profile, wrong: object) -> None:
    with pytest.raises(ConfigError, match="select"):
        writer(profile).generate("title for x", best_of=2, select=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, 65, True])
def test_the_number_of_answers_has_bounds(profile: Profile, wrong: int) -> None:
    with pytest.raises(ConfigError, match="best_of"):
        writer(profile).generate("title for x", best_of=wrong)


@pytest.mark.parametrize(
    ("answers", "select", "note"),
    [
        (["the same"] * 3, "consensus", "all 3 answers are the same"),
        (["same", "same", ""], "consensus", "all 2 answers are the same"),
        (["one thing", "other matter"], "style", "equally good: the first was kept"),
        ([""], "consensus", "empty answer"),
        (["slow bread", "slow bread in winter", "bread"], "consensus", ""),
    ],
)
def test_a_choice_that_was_none_is_noted(profile: Profile, answers: list[str], select: str, note: str) -> None:
    result = writer(profile, *replies(*answers), best_of=max(len(answers), 2), select=select).generate("title for rye")
    if note:
        assert note in result.notes[-1]
    else:
        assert result.notes == ()
    assert result.answer == answers[0]


def test_a_way_of_selecting_without_a_choice_is_noted(profile: Profile) -> None:
    assert "select chooses among several" in writer(profile).generate("title for rye", select="consensus").notes[0]
    assert "select chooses among several" in writer(profile, select="consensus").generate("title for rye").notes[0]
    assert writer(profile).generate("title for rye").notes == ()


@pytest.mark.parametrize("n_finished", [0, 1, 3])
def test_cancelled_midway_the_best_of_the_finished_is_kept(profile: Profile, n_finished: int) -> None:
    cancel, events = Cancel(), []
    for event in writer(profile, *FOUR, best_of=4).stream("title for x", cancel=cancel):
        events.append(event)
        if event.type == "candidate" and event.done == n_finished:
            cancel.cancel()
    result = last(events)
    assert result.finish_reason == "cancelled"
    assert len(result.candidates) == n_finished
    answers = ["the drain of 1903", "bread: cold and slow", "bread: slow"][:n_finished]
    assert result.answer in (answers or [""])
    assert all(one.finish_reason == "stop" for one in result.candidates)


def test_cancelled_before_anything_it_is_empty(profile: Profile) -> None:
    cancel = Cancel()
    cancel.cancel()
    result = writer(profile, *FOUR, best_of=4).generate("title for rye", cancel=cancel)
    assert (result.answer, result.finish_reason, result.candidates) == ("", "cancelled", ())
    assert result.notes == ()


def test_usage_counts_the_prompt_once_and_every_answer(profile: Profile) -> None:
    class Interleaved(Scripted):
        """Decodes side by side, as a batch does: events of all requests mixed, done in another order."""

        def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
            for done in (100, 250, 400):
                yield 0, Event("prefill", done=done, total=400)
            yield 1, Event("prefill", done=300, total=400)
            for word in ("bread", " is", " slow"):
                for place in range(len(requests)):
                    yield place, Event("answer", text=word)
            for place in reversed(range(len(requests))):
                usage = Usage(400, 128 if place == 0 else 399, 2, 3 + place)
                yield place, Event("done", completion=Completion("stop", usage))

    w = Writer(profile, load_settings(flags={"best_of": 3}), Interleaved([REPLY]))
    events = list(w.stream("title for x"))
    assert [event.done for event in events if event.type == "prefill"] == [100, 250, 400]
    result = last(events)
    usage = result.usage
    assert (usage.prompt_tokens, usage.cached_tokens) == (400, 128)
    assert (usage.reasoning_tokens, usage.answer_tokens) == (6, 12)
    assert [one.answer for one in result.candidates] == ["bread is slow"] * 3
    assert usage.total_s >= usage.prefill_s + usage.decode_s > 0


def test_the_async_twin_selects_too(profile: Profile) -> None:
    result = asyncio.run(writer(profile, *FOUR).agenerate("title for x", best_of=4, select="consensus"))
    assert len(result.candidates) == 4
    assert result.answer == result.candidates[0].answer


def test_the_order_of_items_is_a_choice_of_the_request(profile: Profile) -> None:
    w = writer(profile)
    query = "title for the flooded allotment and a drain"
    assert w.plan(query).prompt.used[-1].item.id == "b"
    assert [hit.item.id for hit in w.plan(query, item_order="date").prompt.used] == ["a", "b", "c"]
    assert [hit.item.id for hit in w.plan(query, item_order="length").prompt.used] == ["b", "a", "c"]


# -- several to choose from, and spares


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request counts as a topic."""
    plan = Asker.plan

    def shaped(*given: Any) -> Plan:
        found = plan(*given)
        return replace(found, scoring=replace(found.scoring, shape="topic"))

    monkeypatch.setattr(Asker, "plan", shaped)


def test_n_different_answers_are_shown_best_first(profile: Profile) -> None:
    w = writer(profile, *replies("bread: slow", "Bread: slow.", "bread: cold", "cold loaves", "old loaves"), best_of=5)
    result = w.generate("title for winter sourdough", n=3)
    assert len(w.load().requests) == 5  # type: ignore[attr-defined]
    assert result.candidates[0].answer == result.answer
    assert {one.answer.lower().strip(".") for one in result.candidates} < {
        "bread: slow",
        "bread: cold",
        "cold loaves",
        "old loaves",
    }
    scores = [one.score for one in result.candidates]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    assert all(any(said.startswith(("keeps: ", "breaks: ")) for said in one.why) for one in result.candidates)
    assert (result.select, result.notes) == ("blend", ())


def test_where_too_few_differ_others_are_drawn_once(profile: Profile) -> None:
    same = replies(*["bread: slow"] * 4)
    w = writer(profile, *same, *replies("cold loaves", *["bread: slow"] * 4, "the oven"))
    events = list(w.stream("title for winter sourdough", n=4))
    progress = [(event.done, event.total) for event in events if event.type == "candidate"]
    assert progress == [*((i, 4) for i in range(5)), *((i, 10) for i in range(4, 11))]
    result = last(events)
    assert sorted(one.answer for one in result.candidates) == ["bread: slow", "cold loaves", "the oven"]
    assert "3 different answers came, not 4" in result.notes[-1]
    sampled = [request.sampling for request in w.load().requests]  # type: ignore[attr-defined]
    assert [one.temperature for one in sampled] == pytest.approx([0.0, *[0.8] * 3, *[1.2] * 6])
    assert len({one.seed for one in sampled}) == 10


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize(
    ("answers", "shown", "n_drawn"),
    [
        (["rye: slow"], "rye: slow", 1),  # nothing wrong with it: no spare is drawn
        (["My rye.", "rye", "the rye that waits", "Rye!"], "the rye that waits", 4),
        (["rye wins: three flours", "rye", "rye and time", "rye"], "rye and time", 4),
        (["", "rye", "rye and time", "rye"], "rye and time", 4),
        (["My rye.", "rye", "", "Rye!"], "My rye.", 4),  # no spare is better
    ],
)
def test_a_topic_again_gives_way_to_a_spare(profile: Profile, answers: list[str], shown: str, n_drawn: int) -> None:
    w = writer(profile, *replies(*answers))
    events = list(w.stream("title for rye"))
    assert [event.text for event in events if event.type == "answer"] == [shown]
    result = last(events)
    assert (result.answer, result.candidates[0].answer if result.candidates else shown) == (shown, shown)
    assert len(w.load().requests) == n_drawn  # type: ignore[attr-defined]
    assert len(result.candidates) == (n_drawn if n_drawn > 1 else 0)
    assert any("says the request again" in note for note in result.notes) == (shown == "My rye.")
    assert result.select == ""


def test_spares_can_be_turned_off_and_are_for_one_line(
    profile: Profile, topics: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    prose = writer(profile, "<answer>rye</answer>").generate("rye", task="write")
    assert (prose.answer, prose.candidates) == ("rye", ())
    monkeypatch.setitem(plan.SPARES, "topic", 0)
    w = writer(profile, *replies("rye", "rye and time"))
    types = [event.type for event in w.stream("title for rye")]
    assert (types[-2], len(w.load().requests)) == ("answer", 1)  # type: ignore[attr-defined]


def test_cancelled_there_are_no_spares(profile: Profile, topics: None) -> None:
    cancel, w = Cancel(), writer(profile, *replies("rye", "rye and time"))
    for event in w.stream("title for rye", cancel=cancel):
        if event.type == "prefill":
            cancel.cancel()
    assert event.result is not None
    assert (event.result.finish_reason, len(w.load().requests)) == ("cancelled", 1)  # type: ignore[attr-defined]
