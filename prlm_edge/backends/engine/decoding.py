"""One request being decoded in two forced phases: takes tokens, gives events, says what to evaluate next.

Forced format instead of a grammar (which costs 35-50% of the speed): the assistant's turn is opened with <think>,
runs to </think> or its budget, `</think>` and `<answer>` are appended, and the answer runs to </answer>, a line break
or its limit. What the model wrote behind the reasoning's end is forgotten, so the cache holds the canonical tags.

Not here: who evaluates, alone (`local.py`) or with others (`batch.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal, Protocol

from prlm_edge.backends.engine.phase import Phase
from prlm_edge.backends.engine.vocabulary import Vocabulary
from prlm_edge.prompt import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, TO_ANSWER
from prlm_edge.types import Completion, Event, FinishReason, Request, SampledToken, TokenizedPrompt, Usage


class Sampler(Protocol):
    """Draws the tokens of one sequence. `source` is whatever its driver computes logits in."""

    def next(self, source: Any, row: int = -1) -> int:
        """Draw a token from the logits of a row of the latest call."""
        ...

    def logprob(self, source: Any, token: int, row: int = -1) -> float:
        """The model's own log-probability of `token` there."""
        ...

    def forget(self) -> None:
        """Forget the tokens drawn so far, which the next ones may repeat."""
        ...

    def close(self) -> None:
        """Free what it holds. Idempotent."""
        ...


class Decoding:
    """A request that has been, or is about to be, evaluated up to its last prompt token.

    Args:
        vocab: The model's tokenizer.
        request: The request.
        prompt: Its tokens.
        sampler: Draws for this sequence alone; closed with it.

    Attributes:
        request: The request.
        prompt: Its tokens.
        n_tokens: Tokens of it that are in the cache, prompt included; the driver's to add to.
        pending: Tokens to evaluate next, behind the first `n_kept` of those in the cache.
        n_kept: What of the cache is still wanted.
        finished: Whether the answer is complete.
        n_cached: Tokens of the prompt that were not evaluated for it.
    """

    def __init__(self, vocab: Vocabulary, request: Request, prompt: TokenizedPrompt, sampler: Sampler) -> None:
        self.request, self.prompt = request, prompt
        self._vocab = vocab
        self._sampler = sampler
        self._reasoning = Phase(vocab, (THINK_CLOSE, ANSWER_OPEN), request.reasoning_tokens, multiline=True)
        self._answer = Phase(vocab, (ANSWER_CLOSE,), request.answer_tokens, multiline=request.multiline)
        self._begun_at = 0  # tokens in the cache when the reasoning began
        self._drawn: list[int] = []  # tokens of the reasoning
        self._sampled: list[SampledToken] = []
        self.pending: list[int] = []
        self.n_tokens = self.n_kept = 0
        self.finished = False
        self.n_cached = 0
        self._started, self._prefill_s = time.perf_counter(), 0.0

    @staticmethod
    def room(vocab: Vocabulary, request: Request) -> int:
        """Cells that a request may need behind its prompt."""
        return request.reasoning_tokens + vocab.count(TO_ANSWER) + 1 + request.answer_tokens

    def started(self) -> None:
        """The evaluation of its prompt begins: its time counts from now."""
        self._started = time.perf_counter()

    def evaluated(self) -> None:
        """Its whole prompt is in the cache."""
        self._prefill_s = time.perf_counter() - self._started
        self.n_tokens = self.n_kept = self._begun_at = len(self.prompt.tokens)

    def draw(self, source: Any, row: int = -1) -> Iterator[Event]:
        """Draw a token from the logits of a row of the latest call; yields the text that it settles."""
        token = self._sampler.next(source, row)
        reasons = not self._reasoning.ended
        channel: Literal["reasoning", "answer"] = "reasoning" if reasons else "answer"
        if self.request.logprobs:
            self._sampled.append(SampledToken(token, self._sampler.logprob(source, token, row), channel))
        phase = self._reasoning if reasons else self._answer
        text = phase.push(token)
        self.pending, self.n_kept = [token], self.n_tokens
        if reasons:
            self._drawn.append(token)
        if phase.ended:
            self._next_phase() if reasons else self._finish()
        if text:
            yield Event(channel, text=text)

    def done(self, *, cancelled: bool = False) -> Event:
        """The last event."""
        total = time.perf_counter() - self._started
        usage = Usage(
            prompt_tokens=len(self.prompt.tokens),
            cached_tokens=self.n_cached,
            reasoning_tokens=self._reasoning.n_tokens,
            answer_tokens=self._answer.n_tokens,
            prefill_s=self._prefill_s,
            decode_s=total - self._prefill_s,
            total_s=total,
        )
        reason: FinishReason = "stop" if self._answer.stopped else "length"
        truncated = self._reasoning.ended and not self._reasoning.stopped and self.request.reasoning_tokens > 0
        return Event(
            "done",
            completion=Completion(
                "cancelled" if cancelled else reason, usage, truncated, tuple(self._sampled), self._reasoning.kept
            ),
        )

    def close(self) -> None:
        """Free the sampler. Idempotent."""
        self._sampler.close()

    def _next_phase(self) -> None:
        """Keep the reasoning up to its end, then the tags, then the answer begins."""
        kept = self._drawn[: self._reasoning.kept]
        self.n_kept = min(self._begun_at + len(kept), self.n_tokens)
        missing = kept[self.n_kept - self._begun_at :]
        self.pending = [*missing, *self._vocab.encode_text(TO_ANSWER, trusted=True)]
        self._sampler.forget()

    def _finish(self) -> None:
        self.pending, self.finished = [], True
