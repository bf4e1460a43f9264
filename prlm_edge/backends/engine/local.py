"""What all backends share that run a model in this process: `stream_many`, the loop from requests to events.

One stream runs at a time. Each prompt is evaluated in one context, call by call; what it shares with prompts before is
found there or among the kept prefixes (`prefixes.py`). Then its answer is drawn token by token, in the same context or
in a batch (`batch.py`).
"""

from __future__ import annotations

import abc
import itertools
import os
import threading
from collections.abc import Iterator, Sequence

from prlm_edge.backends.engine.batch import MAX_SLOTS, Batch
from prlm_edge.backends.engine.context import Context
from prlm_edge.backends.engine.decoding import Decoding, Sampler
from prlm_edge.backends.engine.prefixes import Prefixes
from prlm_edge.backends.engine.prompt_tokens import PromptTokenizer
from prlm_edge.backends.engine.slots import Cancelled, Slots
from prlm_edge.backends.engine.vocabulary import Vocabulary
from prlm_edge.errors import ModelError, UsageError
from prlm_edge.prompt import TO_ANSWER
from prlm_edge.types import (
    Cancel,
    Completion,
    Event,
    ModelInfo,
    Request,
    Sampling,
    TokenizedPrompt,
    Turn,
    Usage,
)

_SMALLEST_CONTEXT = 512  # tokens
_POLL_S = 0.05
BATCH_BYTES = 1 << 30  # of a batch's cache; fewer requests run at a time where that is too little
_CANCELLED = Event("done", completion=Completion("cancelled", Usage()))


class Local(abc.ABC):
    """A model in this process. One stream runs at a time; those of other threads wait for it.

    Attributes:
        _cell_bytes: What a token takes in the cache.
        _shares_cells: Whether a batch's slots share their cells; else each has its own.
        _max_slots: Sequences that a batch decodes at a time.
    """

    reports_logprobs = True
    info: ModelInfo
    _vocab: Vocabulary
    _prompts: PromptTokenizer
    _cell_bytes: int
    _shares_cells: bool
    _max_slots = MAX_SLOTS

    def __init__(self) -> None:
        self._context: Context | None = None
        self._prefixes: Prefixes | None = None
        self._lock = threading.Lock()  # held by the running stream
        self._owner = 0  # the thread that began it
        self._process = os.getpid()
        self._closing = False

    @abc.abstractmethod
    def _prompt_slots(self, n_cells: int) -> Slots:
        """A single slot, which evaluates prompts of up to `n_cells` tokens."""

    @abc.abstractmethod
    def _batch_slots(self, n_slots: int, n_cells: int) -> Slots:
        """What a batch is decoded in; `n_cells` are those of all slots together, or of each (`_shares_cells`)."""

    @abc.abstractmethod
    def _make_sampler(self, sampling: Sampling) -> Sampler:
        """What draws the tokens of one request."""

    @abc.abstractmethod
    def _free_model(self) -> None:
        """Free the weights. Idempotent."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the last request, such as why its prefix could not be kept."""
        files = self._prefixes.store.files if self._prefixes else None
        return (files.problem,) if files is not None and files.problem else ()

    def close(self) -> None:
        """Free context and model, at once or when the running stream ends. Idempotent."""
        self._closing = True
        if self._lock.acquire(blocking=False):
            try:
                self._free()
            finally:
                self._lock.release()

    def count(self, text: str) -> int:
        """Tokens of an untrusted text."""
        return self._open_prompts.count(text)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of an untrusted text: nothing in it is a control token."""
        return list(self._open_prompts.ids(text))

    def prompt_ids(self, request: Request) -> list[int]:
        """Token ids of a request's whole prompt, the opening tag of its first phase included."""
        reasons = request.reasoning_tokens > 0
        return list(self._open_prompts.encode_turns(request.turns, reasons=reasons).tokens)

    def truncate(self, text: str, n_tokens: int) -> str:
        """The longest prefix of `text` of at most `n_tokens` tokens."""
        return self._open_prompts.truncate(text, n_tokens)

    def count_turns(self, turns: Sequence[Turn]) -> int:
        """Tokens of the whole prompt, chat template included, opening tag excluded."""
        return self._open_prompts.count_turns(turns)

    def encode_turns(self, turns: Sequence[Turn], *, reasons: bool) -> TokenizedPrompt:
        """The whole prompt as tokens, with the tag that opens reasoning or answer."""
        return self._open_prompts.encode_turns(turns, reasons=reasons)

    def stream(self, request: Request, cancel: Cancel | None = None) -> Iterator[Event]:
        """Yield "prefill", "reasoning" and "answer" events, then "done" with a Completion; raises as `stream_many`."""
        return (event for _, event in self.stream_many([request], cancel))

    def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
        """See `Backend.stream_many`: as many at a time as `Batch` finds room for.

        Raises:
            ModelError: The model is closed, or it failed.
            UsageError: Prompt and budgets don't fit into the model's context, or a stream of this thread is still open.
        """
        if not self._acquire(cancel):
            yield from ((place, _CANCELLED) for place in range(len(requests)))
            return
        batch = Batch(
            len(requests),
            itertools.starmap(self._decoding, enumerate(requests)),
            self._batch_slots,
            max_cells=BATCH_BYTES // self._cell_bytes,
            shares_cells=self._shares_cells,
            max_slots=self._max_slots,
        )
        try:
            while batch.waiting or batch.running:
                if cancel is not None and cancel.cancelled:
                    raise Cancelled
                while sequence := batch.begin():
                    context, n_tokens = self._begin(sequence), len(sequence.prompt.tokens)
                    while not context.evaluated:
                        yield sequence.place, Event("prefill", done=context.evaluate(cancel), total=n_tokens)
                    yield from batch.enter(sequence, context)
                if batch.running:
                    yield from batch.step()
        except Cancelled:
            yield from ((one.place, one.done(cancelled=True)) for one in batch.running.values())
            yield from ((place, _CANCELLED) for place in batch.waiting)
        except KeyboardInterrupt:  # between any two steps: what the context holds is no longer known
            self._drop_context()
            raise
        finally:
            batch.close()
            self._release()

    def _decoding(self, place: int, request: Request) -> Decoding:
        prompts = self._open_prompts
        prompt, to_answer = prompts.prompt_of(request), prompts.ids(TO_ANSWER, trusted=True)
        sampler = self._make_sampler(request.sampling)
        sequence = Decoding(place, request, prompt, self._vocab, to_answer, sampler)
        if (need := len(prompt.tokens) + sequence.room) > self.info.n_ctx_max:
            sequence.close()
            raise UsageError(
                f"{need} tokens of prompt and budgets exceed the context of {self.info.n_ctx_max}",
                "lower -k, --item-words, --reasoning-tokens or --answer-tokens",
            )
        return sequence

    def _begin(self, sequence: Decoding) -> Context:
        """The context that evaluates a sequence's prompt, with the part that is evaluated already."""
        sequence.started()
        context = self._context_for(len(sequence.prompt.tokens) + sequence.room)
        if self._prefixes:
            self._prefixes.fetch(context, sequence.prompt)
        sequence.n_cached = context.begin(sequence.prompt)
        return context

    def _context_for(self, n_tokens: int) -> Context:
        """The prompt context, grown to at least `n_tokens` in powers of two."""
        if self._context and self._context.n_cells >= n_tokens:
            return self._context
        size = _SMALLEST_CONTEXT
        while size < n_tokens:
            size *= 2
        if self._context:
            if self._prefixes:
                self._prefixes.keep(self._context)
            self._drop_context()
        self._context = Context(self._prompt_slots(min(size, self.info.n_ctx_max)))
        return self._context

    def _drop_context(self) -> None:
        if self._context:
            self._context.close()
            self._context = None

    def _free(self) -> None:
        self._drop_context()
        self._free_model()

    def _acquire(self, cancel: Cancel | None = None) -> bool:
        """Wait for the running stream to end; False where `cancel` was set meanwhile."""
        if os.getpid() != self._process:  # the runtime's threads, and whoever holds the lock, stayed with the parent
            raise UsageError(
                "this model was opened before the process was forked",
                'open the first Writer in the child, or start children with multiprocessing\'s "spawn"',
            )
        while not self._lock.acquire(timeout=_POLL_S):
            if self._owner == threading.get_ident():  # it would wait for itself
                raise UsageError("another stream of this thread is still open", "finish it or close() it first")
            if cancel is not None and cancel.cancelled:
                return False
        self._owner = threading.get_ident()
        return True

    def _release(self) -> None:
        self._owner = 0
        try:
            if self._closing:
                self._free()
            elif self._prefixes and self._context:
                self._prefixes.finished(self._context)
        finally:
            self._lock.release()

    @property
    def _open_prompts(self) -> PromptTokenizer:
        if self._closing:  # a freed model would crash the process, not raise
            raise ModelError("the model is closed", "open a new Writer")
        return self._prompts
