"""Best of n with the real model: through the Writer, and as users type it, on pipes, a terminal and with Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import EXAMPLE, PRLM, answer_alone, on_terminal, stopped_at

from prlm_edge import Cancel, Profile, Writer
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.rerank.merits import COPY
from prlm_edge.settings import load_settings

# A draft: of a few words other answers would be drawn where the first ones only repeat them.
REQUEST = "title for my post:\n\nSourdough takes its time in winter.\n\nMine stands by the stove for two days."
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def backend(smollm2_path: Path) -> Iterator[LlamaCpp]:
    backend = LlamaCpp(smollm2_path)
    yield backend
    backend.close()


@pytest.fixture
def writer(home: Path, backend: LlamaCpp) -> Writer:
    flags = {"k": 2, "reasoning_tokens": 24, "answer_tokens": 16}
    return Writer(Profile.open(EXAMPLE), load_settings(flags=flags), backend)


def test_the_answer_one_would_have_got_alone_is_among_the_candidates(writer: Writer) -> None:
    alone = writer.generate(REQUEST)
    several = writer.generate(REQUEST, best_of=5)
    [first] = [one for one in several.candidates if one.seed == 0]
    assert (first.answer, first.reasoning) == (alone.answer, alone.reasoning)
    assert sorted(one.seed for one in several.candidates) == list(range(5))
    assert len({one.answer for one in several.candidates}) > 1
    assert several.usage.prompt_tokens == alone.usage.prompt_tokens
    assert several.usage.answer_tokens > alone.usage.answer_tokens
    again = writer.generate(REQUEST, best_of=5)
    assert again.candidates == several.candidates


def test_every_way_of_selecting_ranks_the_same_candidates(writer: Writer) -> None:
    ranked = {
        select: writer.generate(REQUEST, best_of=5, select=select).candidates
        for select in ("consensus", "logprob", "style", "blend")
    }
    by_seed = {select: {one.seed: one.answer for one in found} for select, found in ranked.items()}
    assert by_seed["consensus"] == by_seed["logprob"] == by_seed["style"] == by_seed["blend"]
    sound = [one for one in ranked["logprob"] if one.finish_reason == "stop" and one.answer and COPY not in one.why]
    assert sound == sorted(sound, key=lambda one: -(one.logprob or 0.0))
    assert all(one.logprob is not None and one.logprob < 0 for one in ranked["logprob"] if one.answer)


def test_cancelling_from_the_stream_keeps_the_best_of_the_finished(writer: Writer) -> None:
    cancel, finished, result = Cancel(), [], None
    for event in writer.stream(REQUEST, cancel=cancel, best_of=6, temperature=1.2):
        if event.type == "candidate" and event.done:
            finished.append(event.text)
            cancel.cancel()
        result = event.result or result
    assert result is not None
    assert result.finish_reason == "cancelled"
    assert sorted(one.answer for one in result.candidates) == sorted(finished)
    assert result.answer in finished
    assert len(finished) < 6


# -- as users type it


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm2_path: Path) -> list[str]:
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRLM_MODEL", str(smollm2_path))
    budgets = ["--reasoning-tokens", "24", "--answer-tokens", "16", "-k", "2"]
    return [*PRLM, "generate", "-u", str(EXAMPLE), *budgets, REQUEST]


def test_the_chosen_answer_alone_is_on_stdout_and_json_has_them_all(typed: list[str]) -> None:
    plain = subprocess.run([*typed, "--best-of", "4"], capture_output=True, check=True)
    told = subprocess.run([*typed, "--best-of", "4", "--json"], capture_output=True, check=True)
    record = json.loads(told.stdout)
    assert plain.stdout.decode() == record["answer"] + "\n"
    assert plain.stderr.decode().startswith(record["reasoning"])
    assert record["select"] == "blend"
    best = record["candidates"][0]
    assert (best["answer"], best["reasoning"]) == (record["answer"], record["reasoning"])
    assert {"answer", "reasoning", "seed", "logprob", "score", "finish_reason"} <= best.keys()
    assert len(record["candidates"]) == 4


def test_events_tell_of_the_candidates(typed: list[str]) -> None:
    done = subprocess.run([*typed, "--best-of", "3", "--jsonl"], capture_output=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [event for event in events if event["type"] == "candidate"]
    assert [(step["done"], step["total"]) for step in steps] == [(i, 3) for i in range(4)]
    assert [event["type"] for event in events][-3:] == ["reasoning", "answer", "done"]
    assert events[-2]["text"] == events[-1]["answer"]
    assert sorted(step["text"] for step in steps[1:]) == sorted(one["answer"] for one in events[-1]["candidates"])


def test_on_a_terminal_the_bar_is_gone_before_the_answer_comes(typed: list[str]) -> None:
    code, shown = on_terminal([*typed, "--best-of", "3"])
    assert code == 0
    assert b"0/3" in answer_alone(shown, b"writing")


def test_ctrl_c_gives_the_best_of_what_was_finished(typed: list[str]) -> None:
    def one_is_done(line: str) -> bool:
        event = json.loads(line)
        return event["type"] == "candidate" and event["done"] == 1

    code, lines, _ = stopped_at([*typed, "--best-of", "64", "--jsonl"], one_is_done, signal.SIGINT)
    assert code == 130
    events = list(map(json.loads, lines))
    done = events[-1]
    assert (done["type"], done["finish_reason"]) == ("done", "cancelled")
    finished = [event["text"] for event in events if event["type"] == "candidate" and event["done"]]
    assert sorted(one["answer"] for one in done["candidates"]) == sorted(finished)
    assert done["answer"] in finished
    assert len(finished) < 64
