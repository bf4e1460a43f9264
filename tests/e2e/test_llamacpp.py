"""The llama.cpp backend with the real SmolLM2: format, determinism, budgets, cancellation, quiet, and bad files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import SYSTEM, CancelAfter, fold, shot

from prlm_edge.backends.engine.decoding import Decoding
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.errors import ModelError, UsageError
from prlm_edge.types import Cancel, Completion, Request, Sampling, Span, Turn

pytestmark = pytest.mark.model
TURNS = (
    SYSTEM,
    *shot("The allotment flooded again, so we dug a drain.", "8 words, lower case.", "the drain we should have dug"),
    *shot("I tried three flours for my starter.", "5 words, lower case, a colon.", "rye wins: three flours"),
    Turn("user", (Span("Write a title for: my post on winter sourdough"),)),
)
REQUEST = Request(TURNS, reasoning_tokens=24, answer_tokens=24)


@pytest.fixture(scope="module")
def backend(smollm2_path: Path) -> Iterator[LlamaCpp]:
    backend = LlamaCpp(smollm2_path)
    yield backend
    backend.close()


def run(backend: LlamaCpp, request: Request = REQUEST, cancel: Cancel | None = None) -> tuple[str, str, Completion]:
    return fold(backend, request, cancel)


def test_reasons_then_answers_in_the_forced_format(backend: LlamaCpp) -> None:
    reasoning, answer, completion = run(backend)
    assert reasoning.strip()
    assert answer.strip()
    assert "\n" not in answer
    assert not any(tag in reasoning + answer for tag in ("<think>", "</think>", "<answer>", "</answer>"))
    assert completion.usage.prompt_tokens > 100
    assert 0 < completion.usage.reasoning_tokens <= 24
    assert 0 < completion.usage.answer_tokens <= 24


def test_the_cache_holds_the_canonical_tags(backend: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[list[int]] = []
    monkeypatch.setattr(Decoding, "close", lambda one: held.append(one.tokens))
    reasoning, _, _ = run(backend)
    text = b"".join(map(backend._vocab.piece, held[0])).decode()
    assert text.count(f"<think>{reasoning}</think>\n<answer>") == 1


def test_greedy_is_the_same_cold_warm_and_after_other_prompts(backend: LlamaCpp, smollm2_path: Path) -> None:
    first = run(backend)[:2]
    warm, completion = run(backend)[:2], run(backend)[2]
    assert completion.usage.cached_tokens > 0
    run(backend, replace(REQUEST, turns=(*TURNS[:3], Turn("user", (Span("something else " * 50),)))))
    assert first == warm == run(backend)[:2]
    fresh = LlamaCpp(smollm2_path, n_ctx=1024)
    try:
        assert run(fresh)[:2] == first
    finally:
        fresh.close()


def test_a_seed_repeats_and_another_differs(backend: LlamaCpp) -> None:
    hot = Sampling(temperature=1.2, top_k=0, top_p=1.0, min_p=0.0, seed=7)
    request = replace(REQUEST, sampling=hot)
    assert run(backend, request)[:2] == run(backend, request)[:2]
    others = {run(backend, replace(request, sampling=replace(hot, seed=seed)))[:2] for seed in range(1, 4)}
    assert len(others) == 3


def test_repeat_penalty_changes_what_repeats(backend: LlamaCpp) -> None:
    chant = (Turn("user", (Span("Repeat after me, again and again: rye rye rye rye rye rye rye rye rye"),)),)
    request = Request(chant, reasoning_tokens=0, answer_tokens=48, multiline=True)
    plain = run(backend, replace(request, sampling=Sampling(repeat_penalty=1.0)))[1]
    penalized = run(backend, replace(request, sampling=Sampling(repeat_penalty=1.8)))[1]
    assert plain != penalized
    words = penalized.split()
    assert len(set(words)) / len(words) >= len(set(plain.split())) / len(plain.split())


def test_budgets_are_kept_to_the_token(backend: LlamaCpp) -> None:
    request = Request((SYSTEM, Turn("user", (Span("Tell a long story about the sea."),))), Sampling(), 5, 7, True)
    _, _, completion = run(backend, request)
    assert completion.usage.reasoning_tokens == 5
    assert completion.reasoning_truncated
    assert completion.usage.answer_tokens == 7
    assert completion.finish_reason == "length"


def test_reasoning_off_answers_at_once(backend: LlamaCpp) -> None:
    reasoning, answer, completion = run(backend, replace(REQUEST, reasoning_tokens=0))
    assert reasoning == ""
    assert answer
    assert completion.usage.reasoning_tokens == 0


def test_cancels_while_llama_cpp_reads_the_prompt(backend: LlamaCpp) -> None:
    """The flag is looked at many times a second, within a call of llama.cpp too, which then ends at once."""
    cancel = CancelAfter(10)
    request = Request((SYSTEM, Turn("user", (Span("word " * 6000),))), Sampling(), 0, 1500, True)
    assert run(backend, request, cancel)[2].finish_reason == "cancelled"
    assert cancel.looks < 15
    assert run(backend)[1]  # and it goes on working


def test_cancels_between_two_tokens(backend: LlamaCpp) -> None:
    cancel, types = Cancel(), []
    request = Request((SYSTEM, Turn("user", (Span("Tell a very long story."),))), Sampling(), 0, 1500, True)
    for event in backend.stream(request, cancel):
        types.append(event.type)
        if types.count("answer") == 5:
            cancel.cancel()
    assert types[-2:] == ["answer", "done"] and types.count("answer") == 5
    assert run(backend)[1]


def test_prompts_and_budgets_beyond_the_context_are_refused(smollm2_path: Path) -> None:
    small = LlamaCpp(smollm2_path, n_ctx=512)
    try:
        with pytest.raises(UsageError, match="exceed the context of 512"):
            run(small, replace(REQUEST, answer_tokens=600))
        assert run(small)[1]
    finally:
        small.close()
    small.close()
    for use in (lambda: run(small), lambda: small.count("x"), lambda: small.count_turns(TURNS)):
        with pytest.raises(ModelError, match="closed"):
            use()


def test_file_descriptors_stay_untouched_and_the_library_quiet(smollm2_path: Path) -> None:
    code = """
import os, sys
before = [os.fstat(fd)[1:3] for fd in (1, 2)]
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.types import Request, Span, Turn
backend = LlamaCpp(sys.argv[1])
for event in backend.stream(Request((Turn("user", (Span("hi"),)),), answer_tokens=3, reasoning_tokens=0)):
    assert [os.fstat(fd)[1:3] for fd in (1, 2)] == before
assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ)
backend.close()
"""
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code, str(smollm2_path)], capture_output=True, env=env, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_bad_model_files_are_one_clear_error(tmp_path: Path, smollm2_path: Path) -> None:
    def refused(path: Path, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text) as caught:
            LlamaCpp(path)
        assert "\n" not in str(caught.value)
        assert caught.value.hint

    refused(tmp_path / "absent.gguf", UsageError, "no such model file")
    refused(tmp_path, UsageError, "is a folder")
    (tmp_path / "text.gguf").write_text("hello")
    refused(tmp_path / "text.gguf", ModelError, "not a GGUF file")
    (tmp_path / "empty.gguf").touch()
    refused(tmp_path / "empty.gguf", ModelError, "not a GGUF file")
    data = smollm2_path.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: len(data) // 2])
    refused(tmp_path / "cut.gguf", ModelError, "can't load it")
    (tmp_path / "header.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    refused(tmp_path / "header.gguf", ModelError, "can't load it")
