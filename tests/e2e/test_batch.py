"""Batched decoding with the real SmolLM2: every answer is, token for token, the one its request gets alone."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import SYSTEM, fold, shot

from prlm_edge.backends.engine import batch
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.backends.llama.slots import BatchSlots, LlamaSlots, Threads
from prlm_edge.types import Cancel, Completion, Request, Sampling, Span, Turn

pytestmark = pytest.mark.model
SHOTS = (
    SYSTEM,
    *shot("The allotment flooded again, so we dug a drain.", "8 words, lower case.", "the drain we should have dug"),
    *shot("I tried three flours for my starter.", "5 words, lower case, a colon.", "rye wins: three flours"),
)
TOPICS = ("my talk on bees", "a long winter " * 12, "how to mend a tyre", "a cold kitchen " * 30, "the garden")


def ask(text: str, n_turns: int = 5, **fields: object) -> Request:
    turns = (*SHOTS[:n_turns], Turn("user", (Span(f"Write a title for: {text}"),)))
    return replace(Request(turns, reasoning_tokens=16, answer_tokens=16), **fields)


# Greedy and sampled, with and without reasoning, long and short, one-line and many lines, one prompt twice.
MIXED = [
    ask(
        TOPICS[i % 5],
        (1, 3, 5)[i % 3],
        sampling=Sampling(temperature=(0.0, 0.9)[i % 2], seed=i),
        reasoning_tokens=(16, 5, 0)[i % 3],
        answer_tokens=4 + i,
        multiline=i % 4 == 0,
    )
    for i in range(11)
]
MIXED.append(replace(MIXED[3], sampling=Sampling(temperature=0.9, seed=99)))


@pytest.fixture(scope="module")
def backend(smollm2_path: Path) -> Iterator[LlamaCpp]:
    backend = LlamaCpp(smollm2_path)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def alone(backend: LlamaCpp) -> list[tuple[str, str, str]]:
    return [told(*fold(backend, request)) for request in MIXED]


def told(reasoning: str, answer: str, completion: Completion) -> tuple[str, str, str]:
    counts = completion.usage.reasoning_tokens, completion.usage.answer_tokens, completion.reasoning_truncated
    return reasoning, answer, f"{completion.finish_reason} {counts}"


def together(
    backend: LlamaCpp, requests: Sequence[Request], cancel: Cancel | None = None
) -> list[tuple[str, str, Completion]]:
    """Reasoning, answer and completion of each; every request must end with exactly one "done"."""
    texts = [{"reasoning": "", "answer": ""} for _ in requests]
    done: dict[int, Completion] = {}
    for place, event in backend.stream_many(requests, cancel):
        assert place not in done
        if event.type in texts[place]:
            texts[place][event.type] += event.text
        if event.completion:
            done[place] = event.completion
    return [(text["reasoning"], text["answer"], done[place]) for place, text in enumerate(texts)]


def batch_sizes(backend: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Slots of each batch from now on."""
    sizes, make = [], backend._batch_slots
    monkeypatch.setattr(backend, "_batch_slots", lambda n_slots, n: (sizes.append(n_slots), make(n_slots, n))[1])
    return sizes


def test_a_batch_says_what_each_request_would_say_alone(backend: LlamaCpp, alone: list[tuple[str, str, str]]) -> None:
    assert [told(*one) for one in together(backend, MIXED)] == alone
    assert len(set(alone)) > 8


def test_so_does_a_batch_that_has_to_wait_and_to_move_its_cells(
    backend: LlamaCpp, alone: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Sequence[int]] = []
    compact = BatchSlots.compact
    monkeypatch.setattr(BatchSlots, "compact", lambda slots: (moved.append(list(slots.lengths)), compact(slots)))
    monkeypatch.setattr(backend, "_max_slots", 4)
    monkeypatch.setattr(batch, "_SLACK", 1.2)
    monkeypatch.setattr(batch, "_GRAIN", 1)
    assert [told(*one) for one in together(backend, MIXED)] == alone
    assert any(sum(length > 0 for length in lengths) > 1 for lengths in moved)


def test_one_prompt_is_evaluated_once(backend: LlamaCpp) -> None:
    requests = [ask("a talk on wasps", sampling=Sampling(temperature=1.0, seed=seed)) for seed in range(8)]
    results = together(backend, requests)
    assert [c.usage.cached_tokens == c.usage.prompt_tokens for *_, c in results] == [False] + [True] * 7
    assert len({answer for _, answer, _ in results}) > 4


def test_groups_that_share_their_prompt_run_more_at_a_time(backend: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = batch_sizes(backend, monkeypatch)
    monkeypatch.setattr(backend, "_max_slots", 32)
    requests = [ask("a talk on ants", sampling=Sampling(temperature=0.9, seed=seed)) for seed in range(24)]
    found = together(backend, requests)
    assert sizes == [24]
    for place in (0, 17, 23):
        assert told(*found[place]) == told(*fold(backend, requests[place]))
    sizes.clear()
    monkeypatch.setattr(batch, "FEW_CELLS", 1)
    assert [told(*one) for one in together(backend, requests)] == [told(*one) for one in found]
    assert sizes == [batch.MAX_SLOTS]


def test_prompts_that_begin_alike_share_their_beginning(backend: LlamaCpp) -> None:
    first, second = together(backend, [ask("a talk on ants"), ask("a talk on moths and their long nights")])
    n_shared = second[2].usage.cached_tokens
    assert n_shared >= 80  # system prompt and both past items
    assert n_shared < first[2].usage.prompt_tokens


def test_many_that_end_their_reasoning_in_one_step(backend: LlamaCpp) -> None:
    """Sixteen times the tags in one call is more rows than llama.cpp's attention treats like a single one."""
    requests = [ask(f"item {i}", sampling=Sampling(temperature=1.0, seed=i), reasoning_tokens=2) for i in range(16)]
    results = together(backend, requests)
    assert sum(c.reasoning_truncated for *_, c in results) > 10
    assert [told(*one) for one in results] == [told(*fold(backend, request)) for request in requests]


def test_log_probabilities_are_those_of_the_model(backend: LlamaCpp) -> None:
    import numpy as np

    request = ask("my talk on bees", reasoning_tokens=8, sampling=Sampling(temperature=0.8, seed=5), logprobs=True)
    (_, _, completion), _ = together(backend, [request, request])
    assert completion.tokens == fold(backend, request)[2].tokens
    answer = [token for token in completion.tokens if token.channel == "answer"]
    reasoning = [token for token in completion.tokens if token.channel == "reasoning"]
    assert completion.usage.reasoning_tokens <= len(reasoning) <= 8
    assert completion.usage.answer_tokens <= len(answer) <= 16
    prompt = backend._decoding(0, request).prompt.tokens
    ids, last = [token.id for token in reasoning], len(prompt) - 1
    slots = LlamaSlots(backend._lib, backend._weights, 1024, Threads(1, 1), n_batch=1024)
    rows = range(last, last + len(ids))
    slots.append([(0, [*prompt, *ids])], wanted=rows)
    expected = [
        row[i] - row.max() - math.log(np.exp(row - row.max()).sum())
        for row, i in zip((slots.logits(row).astype(np.float64) for row in rows), ids, strict=True)
    ]
    slots.close()
    # calls of other sizes round otherwise, by some 0.1; a wrong row or a wrong token would be off by whole units
    assert np.abs(np.array([token.logprob for token in reasoning]) - expected).mean() < 0.2


def test_log_probabilities_only_on_request(backend: LlamaCpp) -> None:
    assert fold(backend, ask("my talk on bees"))[2].tokens == ()


def test_cancelled_everyone_is_told_and_the_next_batch_works(
    backend: LlamaCpp, alone: list[tuple[str, str, str]]
) -> None:
    cancel, seen, done = Cancel(), 0, {}
    for place, event in backend.stream_many(MIXED, cancel):
        seen += event.type in ("reasoning", "answer")
        if seen == 12:
            cancel.cancel()
        if event.completion:
            done[place] = event.completion.finish_reason
    assert sorted(done) == list(range(len(MIXED)))
    assert list(done.values()).count("cancelled") > 6
    assert {c.finish_reason for *_, c in together(backend, MIXED[:3], cancel)} == {"cancelled"}
    assert [told(*one) for one in together(backend, MIXED)] == alone


def test_a_thousand_answers_leak_nothing(backend: LlamaCpp) -> None:
    requests = [
        Request((Turn("user", (Span("Title: bees"),)),), Sampling(0.8, seed=seed), reasoning_tokens=0, answer_tokens=2)
        for seed in range(4)
    ]

    def run(times: int) -> int:
        for i in range(times):
            events = backend.stream_many(requests)
            if i % 10:
                list(events)
            else:  # abandoned half way
                list(itertools.islice(events, 5))
                events.close()
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = run(25)
    assert run(250) - before < 8 << 20
