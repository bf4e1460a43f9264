"""What all backends that run a model in this process share: streams that take turns, prompts evaluated, cells drawn on.

One request is decoded in the context its prompt was evaluated in (`stream`), several at a time in a batch
(`stream_many`). What prompts share stands evaluated in that context or in a `PrefixStore`.

Not here: the two phases (`decoding.py`), loading and computing (`llamacpp.py`, `onnx.py`).
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterator, Sequence

from prlm_edge.backends.engine.batch import Batch
from prlm_edge.backends.engine.context import Context
from prlm_edge.backends.engine.decoding import Decoding, Sampler
from prlm_edge.backends.engine.prefixes import Prefixes
from prlm_edge.backends.engine.prompt_tokens import PromptTokenizer
from prlm_edge.backends.engine.raw import Cancelled, Cells, Raw
from prlm_edge.backends.engine.vocabulary import Vocabulary
from prlm_edge.errors import ModelError, UsageError
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

_SMALLEST_CONTEXT = 512
_POLL_S = 0.05
BATCH_BYTES = 1 << 30  # of a batch's cache; fewer requests run at a time where that is too little
_CANCELLED = Event("done", completion=Completion("cancelled", Usage()))


class Local(abc.ABC):
    """A model in this process. One stream runs at a time; those of other threads wait for it."""

    reports_logprobs = True
    info: ModelInfo
    _vocab: Vocabulary
    _prompts: PromptTokenizer
    many_slots = 0  # of a batch, see `Batch`; set where answers need not equal those of smaller batches to the last bit

    def __init__(self) -> None:
        self._context: Context | None = None
        self._prefixes: Prefixes | None = None
        self._lock = threading.Lock()  # held by the running stream
        self._owner = 0  # the thread that began it
        self._closing = False

    @abc.abstractmethod
    def _make_raw(self, n_ctx: int) -> Raw:
        """What evaluates prompts of up to `n_ctx` tokens."""

    @abc.abstractmethod
    def _make_cells(self, n_cells: int, n_slots: int) -> Cells:
        """What a batch is decoded in."""

    @abc.abstractmethod
    def _make_sampler(self, sampling: Sampling) -> Sampler:
        """What draws the tokens of one request."""

    @abc.abstractmethod
    def _free_model(self) -> None:
        """Free the weights. Idempotent."""

    @property
    @abc.abstractmethod
    def _max_cells(self) -> int:
        """What a batch's `n_cells` should not exceed, that it stays below `BATCH_BYTES`."""

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
        """Yield "prefill", "reasoning" and "answer" events, then "done" with a Completion.

        Raises:
            ModelError: The model is closed, or it failed.
            UsageError: Prompt and budgets don't fit into the model's context, or a stream of this thread is still open.
        """
        cancel = cancel or Cancel()
        if not self._acquire(cancel):
            yield _CANCELLED
            return
        try:
            yield from self._alone(self._decoding(request), cancel)
        finally:
            self._release()

    def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
        """See `Backend.stream_many`: as many at a time as `Batch` finds room for; raises as `stream` does."""
        cancel = cancel or Cancel()
        if len(requests) == 1:  # alone is quicker: its state needn't move
            yield from ((0, event) for event in self.stream(requests[0], cancel))
            return
        if not self._acquire(cancel):
            yield from ((place, _CANCELLED) for place in range(len(requests)))
            return
        try:
            batch = Batch(
                len(requests),
                prepare=lambda place: self._decoding(requests[place]),
                evaluate=lambda sequence: self._evaluate(sequence, cancel),
                make_cells=self._make_cells,
                room=lambda sequence: Decoding.room(self._vocab, sequence.request),
                max_cells=self._max_cells,
                many_slots=self.many_slots,
            )
            yield from batch.run(cancel)
        finally:
            self._release()

    def _alone(self, sequence: Decoding, cancel: Cancel) -> Iterator[Event]:
        try:
            context, events = self._evaluate(sequence, cancel)
            yield from events
            yield from sequence.draw(context.raw)
            while not sequence.finished:
                if cancel.cancelled:
                    raise Cancelled
                context.roll_back(sequence.n_kept)
                context.append(sequence.pending)
                sequence.n_tokens = len(context.tokens)
                yield from sequence.draw(context.raw)
            yield sequence.done()
        except Cancelled:
            yield sequence.done(cancelled=True)
        finally:
            sequence.close()

    def _decoding(self, request: Request) -> Decoding:
        vocab, prompt = self._vocab, self._open_prompts.prompt_of(request)
        need = len(prompt.tokens) + Decoding.room(vocab, request)
        if need > self.info.n_ctx_max:
            raise UsageError(
                f"{need} tokens of prompt and budgets exceed the context of {self.info.n_ctx_max}",
                "lower -k, --item-words, --reasoning-tokens or --answer-tokens",
            )
        return Decoding(vocab, request, prompt, self._make_sampler(request.sampling))

    def _evaluate(self, sequence: Decoding, cancel: Cancel) -> tuple[Context, Iterator[Event]]:
        """The context in which the sequence's prompt gets evaluated while the events are read."""
        prompt = sequence.prompt
        context = self._context_for(len(prompt.tokens) + Decoding.room(self._vocab, sequence.request))

        def events() -> Iterator[Event]:
            sequence.started()
            if self._prefixes:
                self._prefixes.fetch(context, prompt)
            sequence.n_cached = context.begin(prompt)
            for done in context.evaluate(cancel):
                yield Event("prefill", done=done, total=len(prompt.tokens))
            sequence.evaluated()

        return context, events()

    def _context_for(self, n_tokens: int) -> Context:
        """The prompt context, grown to at least `n_tokens` in powers of two."""
        if self._context and self._context.n_ctx >= n_tokens:
            return self._context
        size = _SMALLEST_CONTEXT
        while size < n_tokens:
            size *= 2
        if self._context:
            if self._prefixes:
                self._prefixes.keep(self._context)
            self._drop_context()
        self._context = Context(self._make_raw(min(size, self.info.n_ctx_max)))
        return self._context

    def _drop_context(self) -> None:
        if self._context:
            self._context.close()
            self._context = None

    def _free(self) -> None:
        self._drop_context()
        self._free_model()

    def _acquire(self, cancel: Cancel) -> bool:
        """Wait for the running stream to end; False where `cancel` was set meanwhile."""
        while not self._lock.acquire(timeout=_POLL_S):
            if self._owner == threading.get_ident():  # it would wait for itself
                raise UsageError("another stream of this thread is still open", "finish it or close() it first")
            if cancel.cancelled:
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
