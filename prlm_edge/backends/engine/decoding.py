"""One request being decoded in two forced phases: takes logits, gives events, says what to evaluate next.

The format is forced without a grammar, which would cost 35-50% of the speed: the assistant's turn is opened with
<think> and runs to </think> or its budget; `</think>` and `<answer>` are appended, and the answer runs to </answer>, a
line break or its limit. What the model wrote after the reasoning's end is forgotten, so the canonical tags follow it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from prlm_edge.backends.engine.phase import Phase
from prlm_edge.backends.engine.vocabulary import Vocabulary
from prlm_edge.prompt import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE
from prlm_edge.types import Completion, Event, FinishReason, Request, SampledToken, TokenizedPrompt, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Sampler(Protocol):
    """Draws the tokens of one request. `slots` are the runtime's own, of the backend that made the sampler."""

    def next(self, slots: Any, row: int = -1) -> int:
        """Draw a token from the logits at a row of the latest call."""
        ...

    def forget(self) -> None:
        """Forget the tokens drawn so far: a new phase may repeat the words of the last one unpenalized."""
        ...

    def close(self) -> None:
        """Free what it holds. Idempotent."""
        ...


class Decoding:
    """A request whose prompt has been, or is about to be, evaluated.

    Args:
        place: Its place among those asked with it.
        request: The request.
        prompt: Its tokens.
        vocab: The model's tokenizer.
        to_answer: Tokens of the tags between reasoning and answer.
        sampler: Draws for this request alone; closed with it.

    Attributes:
        place: See above.
        request: See above.
        prompt: See above.
        tokens: What its slot should hold, the tokens to evaluate next included.
        n_kept: How many of `tokens` the slot holds already; what it holds after them is to be forgotten.
        room: Tokens that may still be evaluated after its prompt, including those that are forgotten again.
        n_cached: Tokens of the prompt that were not evaluated for it.
        finished: Whether the answer is complete.
    """

    def __init__(
        self,
        place: int,
        request: Request,
        prompt: TokenizedPrompt,
        vocab: Vocabulary,
        to_answer: Sequence[int],
        sampler: Sampler,
    ) -> None:
        self.place, self.request, self.prompt = place, request, prompt
        self.tokens = list(prompt.tokens)
        self.n_kept = self.n_cached = 0
        self.room = request.reasoning_tokens + len(to_answer) + 1 + request.answer_tokens
        self.finished = False
        self._to_answer, self._sampler = to_answer, sampler
        self._reasoning = Phase(vocab, (THINK_CLOSE, ANSWER_OPEN), request.reasoning_tokens, multiline=True)
        self._answer = Phase(vocab, (ANSWER_CLOSE,), request.answer_tokens, multiline=request.multiline)
        self._sampled: list[SampledToken] = []
        self._begun, self._prefill_s = time.perf_counter(), 0.0

    def started(self) -> None:
        """The evaluation of its prompt begins: its time counts from now."""
        self._begun = time.perf_counter()

    def draw(self, slots: Any, row: int = -1) -> list[Event]:
        """Draw a token once all `tokens` are evaluated; gives the text that this settles, and "done" with the last one.

        Args:
            slots: What evaluated it.
            row: Where its logits are.
        """
        self._prefill_s = self._prefill_s or time.perf_counter() - self._begun
        token = self._sampler.next(slots, row)
        reasons = not self._reasoning.ended
        channel: Literal["reasoning", "answer"] = "reasoning" if reasons else "answer"
        if self.request.logprobs:
            self._sampled.append(SampledToken(token, logprob(slots.logits(row), token), channel))
        phase = self._reasoning if reasons else self._answer
        text = phase.push(token)
        self.n_kept = len(self.tokens)
        self.tokens.append(token)
        events = [Event(channel, text=text)] if text else []
        if phase.ended and reasons:
            self._begin_answer()
        elif phase.ended:
            self.finished = True
            events.append(self.done())
        return events

    def done(self, *, cancelled: bool = False) -> Event:
        """The last event."""
        total = time.perf_counter() - self._begun
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

    def _begin_answer(self) -> None:
        """Keep the reasoning up to its end, then the tags."""
        n_kept = len(self.prompt.tokens) + self._reasoning.kept
        self.n_kept = min(n_kept, self.n_kept)
        self.tokens[n_kept:] = self._to_answer
        self._sampler.forget()


def logprob(logits: NDArray[np.float32], token: int) -> float:
    """A model's own log-probability of `token`, before penalties, temperature and top-k/p."""
    import numpy as np

    top = logits.max()
    return float(logits[token] - top) - float(np.log(np.exp(logits - top).sum(dtype=np.float64)))
