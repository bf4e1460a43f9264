"""The answers to a request: one that is shown as it comes, or several of which the best is shown at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from prlm_edge.rerank import rank
from prlm_edge.types import Candidate, Completion, Event, Request, Scorer, Scoring, Usage

_EMPTY = "the model gave an empty answer: try --temperature 0.7 with another --seed"
_NONE_YET = Completion("cancelled", Usage())


@dataclass
class Reply:
    """One request's answer so far: it takes a backend's events, and can be read as a Candidate at any time."""

    request: Request
    parts: dict[str, list[str]] = field(default_factory=lambda: {"reasoning": [], "answer": []})
    completion: Completion = _NONE_YET

    def take(self, event: Event) -> None:
        """Note a backend's event."""
        if event.completion is not None:
            self.completion = event.completion
        elif event.type in self.parts:
            self.parts[event.type].append(event.text)

    @property
    def candidate(self) -> Candidate:
        """The answer as it stands."""
        logprobs = [token.logprob for token in self.completion.tokens if token.channel == "answer"]
        return Candidate(
            answer="".join(self.parts["answer"]).strip(),
            reasoning="".join(self.parts["reasoning"]).strip(),
            seed=self.request.sampling.seed,
            logprob=math.fsum(logprobs) / len(logprobs) if logprobs else None,
            finish_reason=self.completion.finish_reason,
            reasoning_truncated=self.completion.reasoning_truncated,
        )

    @property
    def cancelled(self) -> bool:
        """Whether it was cut short, or never begun."""
        return self.completion.finish_reason == "cancelled"


class Drawing:
    """The answers to a plan's requests so far: it takes a backend's events and says what the user may see.

    Args:
        requests: What the backend is asked; several differ in how tokens are chosen alone.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.replies = [Reply(request) for request in requests]
        self._started, self._prefill_s = time.perf_counter(), 0.0
        self._n_read = self._n_finished = 0

    def take(self, place: int, event: Event) -> Sequence[Event]:
        """Note an event of the request at `place`; returns what to show.

        Of one request that is all but its end. Of several it is the reading of the prompt they share, which only ever
        grows, then a "candidate" event as each answer is finished.
        """
        reply = self.replies[place]
        reply.take(event)
        if len(self.replies) == 1:
            return (event,) if event.completion is None else ()
        if event.type == "prefill":
            if self._prefill_s or event.done <= self._n_read:
                return ()
            self._n_read = event.done
            return (event,)
        shown = []
        if not self._prefill_s:
            self._prefill_s = time.perf_counter() - self._started
            shown.append(Event("candidate", total=len(self.replies)))
        if event.completion is not None and not reply.cancelled:
            self._n_finished += 1
            done, total = self._n_finished, len(self.replies)
            shown.append(Event("candidate", text=reply.candidate.answer, done=done, total=total))
        return shown

    @property
    def cancelled(self) -> bool:
        """Whether any answer was cut short by cancelling."""
        return any(reply.cancelled for reply in self.replies)

    @property
    def usage(self) -> Usage:
        """Tokens of all answers, finished or not; the prompt, which they share, counts once."""
        each = [reply.completion.usage for reply in self.replies]
        if len(each) == 1:
            return each[0]
        total_s = time.perf_counter() - self._started
        return Usage(
            prompt_tokens=max(usage.prompt_tokens for usage in each),
            cached_tokens=each[0].cached_tokens,  # the others find cached what the first one had evaluated
            reasoning_tokens=sum(usage.reasoning_tokens for usage in each),
            answer_tokens=sum(usage.answer_tokens for usage in each),
            prefill_s=self._prefill_s,
            decode_s=total_s - self._prefill_s,
            total_s=total_s,
        )

    def choose(self, scorer: Scorer, scoring: Scoring) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
        """The finished answers, best first by `scorer`, and what the user should know of the choice.

        One that was cancelled is among them only where no other was asked for.
        """
        if len(self.replies) == 1:
            candidate = self.replies[0].candidate
            return (candidate,), (() if candidate.answer or self.cancelled else (_EMPTY,))
        candidates = rank([reply.candidate for reply in self.replies if not reply.cancelled], scorer, scoring)
        return candidates, _notes(candidates, scorer.name)


def _notes(candidates: Sequence[Candidate], select: str) -> tuple[str, ...]:
    """What to say of a choice that was none."""
    written = [candidate for candidate in candidates if candidate.answer]
    if candidates and not written:
        return (_EMPTY,)
    if len(written) > 1 and len({candidate.answer for candidate in written}) == 1:
        return (f"all {len(written)} answers are the same: --temperature 1 makes them differ",)
    if len(written) > 1 and len({candidate.score for candidate in written}) == 1:
        return (f"select {select} found the answers equally good: the first was kept",)
    return ()
