"""Draws what a plan asks for: one answer, streamed as it comes, or several of which the best is streamed at the end.

Not here: which one is the best (`prlm_edge.rerank`), and the Result made of it (`writer.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from prlm_edge.prompt import Plan
from prlm_edge.rerank import rank
from prlm_edge.types import Backend, Cancel, Candidate, Completion, Event, Request, Usage

_EMPTY = "the model gave an empty answer: try --temperature 0.7 with another --seed"
_NONE_YET = Completion("cancelled", Usage())


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        candidates: The finished answers, best first; one that was cancelled only where no other was asked for.
        usage: Tokens of all answers, finished or not; the prompt, which they share, counts once.
        cancelled: Whether any was cut short by cancelling.
        notes: What the user should know of the choice.
    """

    candidates: tuple[Candidate, ...]
    usage: Usage
    cancelled: bool = False
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate:
        """The chosen answer; an empty one where none was finished."""
        return self.candidates[0] if self.candidates else Candidate("", finish_reason="cancelled")


@dataclass
class Reply:
    """What has come of one request so far: fed a backend's events, it is a Candidate at any time."""

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


def draw(backend: Backend, plan: Plan, cancel: Cancel | None) -> Generator[Event, None, Drawn]:
    """Ask `backend` what `plan` says; yields the events that a user may follow, returns what was drawn."""
    requests = plan.requests
    if len(requests) == 1:
        return (yield from _draw_one(backend, requests[0], cancel))
    replies, usage = yield from _draw_several(backend, requests, cancel)
    finished = [reply.candidate for reply in replies if not reply.cancelled]
    candidates = rank(finished, plan.scorer, plan.scoring)
    drawn = Drawn(candidates, usage, len(finished) < len(replies), _notes(candidates, plan.scorer.name))
    if drawn.best.reasoning:
        yield Event("reasoning", text=drawn.best.reasoning)
    if drawn.best.answer:
        yield Event("answer", text=drawn.best.answer)
    return drawn


def _draw_one(backend: Backend, request: Request, cancel: Cancel | None) -> Generator[Event, None, Drawn]:
    reply = Reply(request)
    for event in backend.stream(request, cancel):
        reply.take(event)
        if event.completion is None:
            yield event
    notes = () if reply.candidate.answer or reply.cancelled else (_EMPTY,)
    return Drawn((reply.candidate,), reply.completion.usage, reply.cancelled, notes)


def _draw_several(
    backend: Backend, requests: Sequence[Request], cancel: Cancel | None
) -> Generator[Event, None, tuple[list[Reply], Usage]]:
    """Yield "prefill" of the prompt they share, which only ever grows, then "candidate" as answers are finished."""
    replies = [Reply(request) for request in requests]
    started, prefill_s = time.perf_counter(), 0.0
    n_read = n_finished = 0
    for place, event in backend.stream_many(requests, cancel):
        if event.type == "prefill":
            if event.done > n_read and not prefill_s:
                n_read = event.done
                yield event
            continue
        if not prefill_s:
            prefill_s = time.perf_counter() - started
            yield Event("candidate", total=len(replies))
        replies[place].take(event)
        if event.completion is not None and not replies[place].cancelled:
            n_finished += 1
            yield Event("candidate", text=replies[place].candidate.answer, done=n_finished, total=len(replies))
    return replies, _usage(replies, prefill_s, time.perf_counter() - started)


def _usage(replies: Sequence[Reply], prefill_s: float, total_s: float) -> Usage:
    each = [reply.completion.usage for reply in replies]
    return Usage(
        prompt_tokens=max(usage.prompt_tokens for usage in each),
        cached_tokens=each[0].cached_tokens,  # the others find cached what the first one had evaluated
        reasoning_tokens=sum(usage.reasoning_tokens for usage in each),
        answer_tokens=sum(usage.answer_tokens for usage in each),
        prefill_s=prefill_s,
        decode_s=total_s - prefill_s,
        total_s=total_s,
    )


def _notes(candidates: Sequence[Candidate], select: str) -> tuple[str, ...]:
    """What the user should know of a choice that was none."""
    written = [candidate for candidate in candidates if candidate.answer]
    if candidates and not written:
        return (_EMPTY,)
    if len(written) > 1 and len({candidate.answer for candidate in written}) == 1:
        return (f"all {len(written)} answers are the same: --temperature 1 makes them differ",)
    if len(written) > 1 and len({candidate.score for candidate in written}) == 1:
        return (f"select {select} found the answers equally good: the first was kept",)
    return ()
