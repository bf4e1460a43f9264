"""The llama.cpp backend: a GGUF model on this machine's CPU, decoded in two forced phases.

Forced format instead of a grammar (which costs 35-50% of the speed): the assistant's turn is opened with <think>,
runs to </think> or its budget, `</think>` and `<answer>` are appended, and the answer runs to </answer>, a line break
or its limit. What the model wrote behind a phase's end is rolled back, so the cache always holds the canonical tags.

Deterministic at temperature 0, and at any temperature for a given seed, prompt and cache state.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prlm_edge.backends import llama_lib, one_by_one
from prlm_edge.backends.chat_template import CHATML, ChatTemplate, append
from prlm_edge.backends.llama_context import Cancelled, Context, Sampler
from prlm_edge.backends.llama_phase import Phase
from prlm_edge.backends.llama_vocab import Vocab
from prlm_edge.cpu import default_threads
from prlm_edge.errors import ModelError, PrlmError, UsageError
from prlm_edge.reasoning import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, TO_ANSWER
from prlm_edge.types import Cancel, Completion, Event, ModelInfo, Request, Span, Turn, Usage

# A step of a smaller model is over sooner than sleeping threads wake: 47 tokens/s on one thread against 20 on two. Two
# spinning threads do 74, but 25 beside one busy process, where one thread stays at 48 (SmolLM2-135M, 2 cores).
ONE_THREAD_BYTES = 256 << 20
_SMALLEST_CONTEXT = 512
_POLL_S = 0.05


@dataclass
class _Tally:
    """What is counted while one request runs."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    answer_tokens: int = 0
    prefill_s: float = 0.0
    started: float = 0.0
    reasoning_truncated: bool = False
    stopped: bool = False

    def completion(self, *, cancelled: bool = False) -> Completion:
        total = time.perf_counter() - self.started
        usage = Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
            answer_tokens=self.answer_tokens,
            prefill_s=self.prefill_s,
            decode_s=total - self.prefill_s,
            total_s=total,
        )
        reason: Literal["stop", "length", "cancelled"] = "stop" if self.stopped else "length"
        return Completion("cancelled" if cancelled else reason, usage, self.reasoning_truncated)


class LlamaCpp:
    """A GGUF model. One stream runs at a time; those of other threads wait for it.

    Args:
        path: The GGUF file; it is mapped, not read.
        n_ctx: Upper bound of the context in tokens; 0 for the model's own. Memory is taken as needed.
        n_threads: Threads; 0 for as many as this process may use, but one to decode with a model under
            `ONE_THREAD_BYTES`. After long prompts another number decodes otherwise in the last bits.
        sha256: The file's hash where known, for the record.

    Raises:
        UsageError: No such file.
        ModelError: Not a GGUF file, damaged, or of an unsupported architecture.
        MissingError: llama-cpp-python isn't installed.
    """

    def __init__(self, path: str | Path, *, n_ctx: int = 0, n_threads: int = 0, sha256: str = "") -> None:
        self._path = Path(path)
        _check_file(self._path)
        self._lib = lib = llama_lib.load()
        llama_lib.last_errors.clear()
        self._context: Context | None = None
        self._lock = threading.Lock()  # held by the running stream
        self._owner = 0  # the thread that began it
        self._closing = False
        self._model = lib.llama_model_load_from_file(str(self._path).encode(), lib.llama_model_default_params())
        if not self._model:
            raise ModelError(
                f"{self._path}: llama.cpp can't load it: {'; '.join(llama_lib.last_errors) or 'no reason given'}",
                "pull it again (`prlm-edge model pull NAME`) or choose another file",
            )
        try:
            self._vocab = Vocab(lib, self._model)
            self._template = self._chat_template()
        except PrlmError:
            self.close()
            raise
        trained = int(lib.llama_model_n_ctx_train(self._model))
        self.info = ModelInfo(self._path.stem, sha256, min(n_ctx, trained) if n_ctx else trained)
        self._n_prompt_threads = n_threads or default_threads()
        small = self._path.stat().st_size < ONE_THREAD_BYTES
        self._n_step_threads = n_threads or (1 if small else self._n_prompt_threads)

    def close(self) -> None:
        """Free context and model, at once or when the running stream ends. Idempotent."""
        self._closing = True
        if self._lock.acquire(blocking=False):
            try:
                self._free()
            finally:
                self._lock.release()

    def _free(self) -> None:
        if self._context:
            self._context.close()
            self._context = None
        if self._model:
            self._lib.llama_model_free(self._model)
            self._model = None

    def count(self, text: str) -> int:
        """Tokens of an untrusted text."""
        return self._open_vocab.count(text)

    def truncate(self, text: str, n_tokens: int) -> str:
        """The longest prefix of `text` of at most `n_tokens` tokens."""
        return self._open_vocab.truncate(text, n_tokens)

    def count_turns(self, turns: Sequence[Turn]) -> int:
        """Tokens of the whole prompt, chat template included, opening tag excluded."""
        return len(self._open_vocab.encode(self._template.render(turns)))

    def _fit(self, n_tokens: int) -> int:
        """Grow the context to at least `n_tokens`, in powers of two; returns its size, at most the model's."""
        have = self._context.n_ctx if self._context else 0
        if have >= min(n_tokens, self.info.n_ctx_max):
            return have
        size = _SMALLEST_CONTEXT
        while size < n_tokens:
            size *= 2
        if self._context:
            self._context.close()
            self._context = None
        self._context = Context(
            self._lib,
            self._model,
            min(size, self.info.n_ctx_max),
            n_prompt_threads=self._n_prompt_threads,
            n_step_threads=self._n_step_threads,
        )
        return self._context.n_ctx

    def stream(self, request: Request, cancel: Cancel | None = None) -> Iterator[Event]:
        """Yield "prefill", "reasoning" and "answer" events, then "done" with a Completion.

        Raises:
            ModelError: The model is closed, or llama.cpp failed.
            UsageError: Prompt and budgets don't fit into the model's context, or a stream of this thread is still open.
        """
        cancel = cancel or Cancel()
        while not self._lock.acquire(timeout=_POLL_S):
            if self._owner == threading.get_ident():  # it would wait for itself
                raise UsageError("another stream of this thread is still open", "finish it or close() it first")
            if cancel.cancelled:
                yield Event("done", completion=Completion("cancelled", Usage()))
                return
        self._owner = threading.get_ident()
        try:
            yield from self._stream(request, cancel)
        finally:
            self._owner = 0
            if self._closing:
                self._free()
            self._lock.release()

    def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
        """See `Backend.stream_many`."""
        return one_by_one(self, requests, cancel)

    @property
    def _open_vocab(self) -> Vocab:
        if self._closing:  # a freed model would crash the process, not raise
            raise ModelError("the model is closed", "open a new Writer")
        return self._vocab

    def _stream(self, request: Request, cancel: Cancel) -> Iterator[Event]:
        vocab = self._open_vocab
        tally = _Tally(started=time.perf_counter())
        spans = self._template.render(request.turns)
        append(spans, Span(THINK_OPEN if request.reasoning_tokens else ANSWER_OPEN, trusted=True))
        tokens = vocab.encode(spans)
        tally.prompt_tokens = len(tokens)
        context = self._room_for(len(tokens), request)
        sampler = context.sampler(request.sampling, vocab.n_tokens)
        try:
            tally.cached_tokens = context.keep_common(tokens)
            for done in context.evaluate(tokens[tally.cached_tokens :], cancel):
                yield Event("prefill", done=tally.cached_tokens + done, total=len(tokens))
            tally.prefill_s = time.perf_counter() - tally.started
            if request.reasoning_tokens:
                yield from self._reason(context, sampler, request, tally, cancel)
            yield from self._answer(context, sampler, request, tally, cancel)
            yield Event("done", completion=tally.completion())
        except Cancelled:
            yield Event("done", completion=tally.completion(cancelled=True))
        finally:
            sampler.close()

    def _reason(
        self, context: Context, sampler: Sampler, request: Request, tally: _Tally, cancel: Cancel
    ) -> Iterator[Event]:
        phase = Phase(self._vocab, (THINK_CLOSE, ANSWER_OPEN), request.reasoning_tokens, multiline=True)
        for text in phase.run(context, sampler, cancel):
            yield Event("reasoning", text=text)
        tally.reasoning_tokens, tally.reasoning_truncated = phase.n_tokens, not phase.stopped
        context.roll_back(phase.start + len(phase.tokens))
        missing = phase.tokens[len(context.tokens) - phase.start :]
        for _ in context.evaluate([*missing, *self._vocab.encode_text(TO_ANSWER, trusted=True)], cancel):
            pass

    def _answer(
        self, context: Context, sampler: Sampler, request: Request, tally: _Tally, cancel: Cancel
    ) -> Iterator[Event]:
        sampler.forget()
        phase = Phase(self._vocab, (ANSWER_CLOSE,), request.answer_tokens, multiline=request.multiline)
        for text in phase.run(context, sampler, cancel):
            yield Event("answer", text=text)
        tally.answer_tokens, tally.stopped = phase.n_tokens, phase.stopped

    def _room_for(self, n_prompt: int, request: Request) -> Context:
        n_tags = self._vocab.count(TO_ANSWER) + 1
        need = n_prompt + request.reasoning_tokens + n_tags + request.answer_tokens
        if self._fit(need) < need:
            raise UsageError(
                f"{need} tokens of prompt and budgets exceed the context of {self.info.n_ctx_max}",
                "lower -k, --item-words, --reasoning-tokens or --answer-tokens",
            )
        assert self._context is not None
        return self._context

    def _chat_template(self) -> ChatTemplate:
        source = self._lib.llama_model_chat_template(self._model, None)
        text = source.decode("utf-8", "replace") if source else CHATML
        return ChatTemplate(text, self._vocab.text_of("bos"), self._vocab.text_of("eos"))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a GGUF file", "name the .gguf file in it")
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such model file", "`prlm-edge model list` names the models there are") from None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check the file's permissions") from None
    if magic != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file", "choose another, or pull one: `prlm-edge model pull default`")
