"""The prefix cache with the real SmolLM2: less to read, the same answer, in one process and in the next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import SYSTEM, fold, shot

from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.storage import cache_dir
from prlm_edge.types import Request, Span, Turn

pytestmark = pytest.mark.model
NOTE = "the oven was cold, the dough was slow, and nobody wrote down what the weather did that week. " * 3


def profile(name: str) -> tuple[Turn, ...]:
    turns = [turn for i in range(4) for turn in shot(f"{name} {i}: {NOTE}", "5 words.", f"{name} and bread, part {i}")]
    return (SYSTEM, *turns)


def ask(turns: tuple[Turn, ...], text: str) -> Request:
    ending = Turn("user", (Span(f"Write a title for: {text}"),))
    return Request((*turns, ending), reasoning_tokens=12, answer_tokens=12)


ANNA, BEN = ask(profile("anna"), "my winter loaf"), ask(profile("ben"), "a talk on yeast")


def run(path: Path, *requests: Request, cache: str) -> list[tuple[str, str, int]]:
    backend = LlamaCpp(path, prefix_cache=cache)
    try:
        results = [fold(backend, request) for request in requests]
    finally:
        backend.close()
    return [(reasoning, answer, done.usage.cached_tokens) for reasoning, answer, done in results]


def test_memory_brings_back_what_another_prompt_displaced(home: Path, smollm2_path: Path) -> None:
    cold = run(smollm2_path, ANNA, BEN, ANNA, cache="off")
    warm = run(smollm2_path, ANNA, BEN, ANNA, cache="memory")
    assert [one[:2] for one in warm] == [one[:2] for one in cold]
    assert cold[2][2] < 60 < 300 < warm[2][2]  # of the system prompt; of all turns but the request
    assert not (cache_dir() / "prefix").exists()


def test_a_new_process_begins_where_the_last_one_ended(home: Path, smollm2_path: Path) -> None:
    other = replace(ANNA, turns=(*ANNA.turns[:-1], Turn("user", (Span("Write a title for: spring and rye"),))))
    cold = run(smollm2_path, ANNA, cache="off") + run(smollm2_path, other, cache="off")
    first = run(smollm2_path, ANNA, cache="disk")
    second = run(smollm2_path, other, cache="disk")
    assert [one[:2] for one in first + second] == [one[:2] for one in cold]
    assert second[0][2] > 300
    (file,) = (cache_dir() / "prefix").glob("*.kept")
    for part in (b"winter loaf", b"spring and rye"):
        assert part not in file.read_bytes()


def test_a_prefix_that_shares_a_part_serves_that_part(home: Path, smollm2_path: Path) -> None:
    run(smollm2_path, ANNA, cache="disk")
    mixed = replace(ANNA, turns=(*ANNA.turns[:5], *BEN.turns[5:]))
    cold, warm = run(smollm2_path, mixed, cache="off"), run(smollm2_path, mixed, cache="disk")
    assert warm[0][:2] == cold[0][:2]
    assert 100 < warm[0][2] < run(smollm2_path, ANNA, cache="disk")[0][2]


def test_a_state_that_llama_cpp_refuses_is_evaluated_anew(home: Path, smollm2_path: Path) -> None:
    cold = run(smollm2_path, ANNA, cache="off")
    run(smollm2_path, ANNA, cache="disk")
    (file,) = (cache_dir() / "prefix").glob("*.kept")
    backend = LlamaCpp(smollm2_path, prefix_cache="disk")
    try:
        assert backend._prefixes
        prompt = backend._decoding(0, ANNA).prompt
        digests, n_tokens = prompt.digests[: prompt.n_stable], prompt.cuts[: prompt.n_stable]
        file.unlink()
        backend._prefixes.store.keep(digests, n_tokens, b"sound by its checksum, and no state at all" * 50)
        reasoning, answer, done = fold(backend, ANNA)
        assert (reasoning, answer) == cold[0][:2]
        assert done.usage.cached_tokens == 0
    finally:
        backend.close()


def test_batches_use_it_too(home: Path, smollm2_path: Path) -> None:
    cold = run(smollm2_path, ANNA, BEN, cache="off")
    run(smollm2_path, ANNA, cache="disk")
    run(smollm2_path, BEN, cache="disk")
    backend = LlamaCpp(smollm2_path, prefix_cache="disk")
    try:
        texts = [{"reasoning": "", "answer": ""} for _ in range(4)]
        cached = [0] * 4
        for place, event in backend.stream_many([ANNA, BEN, ANNA, BEN]):
            if event.type in texts[place]:
                texts[place][event.type] += event.text
            if event.completion:
                cached[place] = event.completion.usage.cached_tokens
    finally:
        backend.close()
    assert [(text["reasoning"], text["answer"]) for text in texts] == [one[:2] for one in cold] * 2
    assert min(cached) > 300


def test_a_disk_that_takes_nothing_is_a_note_and_no_error(home: Path, smollm2_path: Path) -> None:
    cache_dir().mkdir(parents=True)
    (cache_dir() / "prefix").write_text("in the way")
    backend = LlamaCpp(smollm2_path, prefix_cache="disk")
    try:
        assert backend.notes == ()
        assert fold(backend, ANNA)[1]
        (note,) = backend.notes
        assert "could not be kept on disk" in note
    finally:
        backend.close()
