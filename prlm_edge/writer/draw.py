"""The answers to a request: one that is shown as it comes, or several of which the best is shown at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from prlm_edge.prompt import Plan
from prlm_edge.rerank import SOUND, Blend, different, flaw, rank, reasons, soundness
from prlm_edge.types import Candidate, Completion, Event, Request, Scorer, Usage

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


def enough(plan: Plan, drawn: Sequence[Candidate]) -> bool:
    """Whether among the answers are as many sound and different ones as are to be shown."""
    sound = [one for one in drawn if soundness(one, plan.scoring) == SOUND]
    return len(different(sound, plan.settings.n)) == plan.settings.n


def choose(plan: Plan, drawn: Sequence[Candidate], scorer: Scorer) -> tuple[Candidate, ...]:
    """The answers, best first: the different ones where several are to be shown, else all.

    Args:
        plan: What was asked.
        drawn: The answers to its requests, then to its spares if those were asked too.
        scorer: Ranks them. Where one answer was asked for, that one is first unless a spare is sounder.
    """
    if len(drawn) < 2:
        return tuple(drawn)
    if plan.settings.n_drawn == 1:
        spares = rank(drawn[1:], Blend(), plan.scoring)
        return tuple(sorted((drawn[0], *spares), key=lambda one: -soundness(one, plan.scoring)))
    ranked = rank(drawn, scorer, plan.scoring)
    return (different(ranked, plan.settings.n) or ranked[:1]) if plan.settings.n > 1 else ranked


class Drawing:
    """A plan's answers so far: says what to ask a backend, takes its events and says what the user may see.

    There are two rounds at most: the plan's requests, then its spares, where the first answers are not `enough`.

    Args:
        plan: What is asked.
        scorer: Chooses among several answers.

    Attributes:
        replies: The answers, in the order they were asked for.
        live: Whether the answer is shown as it comes: it is the only one, and no spare could take its place.
    """

    def __init__(self, plan: Plan, scorer: Scorer) -> None:
        self.replies: list[Reply] = []
        self.live = plan.settings.n_drawn == 1 and not plan.spares
        self._plan, self._scorer = plan, scorer
        self._rounds = [plan.spares, plan.requests]  # the next one last
        self._n_before = 0  # replies of the rounds before this one
        self._begun = False  # whether answers are being written in this round
        self._started, self._prefill_s = time.perf_counter(), 0.0
        self._n_read = self._n_finished = 0

    def ask(self) -> Sequence[Request]:
        """The requests of the next round; none where what is there is enough, or was cancelled."""
        done = self.replies and (self.cancelled or enough(self._plan, [reply.candidate for reply in self.replies]))
        requests = self._rounds.pop() if self._rounds and not done else ()
        self._n_before, self._begun = len(self.replies), False
        self.replies += map(Reply, requests)
        return requests

    def take(self, place: int, event: Event) -> Sequence[Event]:
        """Note an event of this round's request at `place`; returns what to show.

        Of an answer that is shown as it comes that is all but its end. Else it is the reading of the prompt that all
        share, which only ever grows, then a "candidate" event as each of several answers is finished.
        """
        reply = self.replies[self._n_before + place]
        reply.take(event)
        if self.live:
            return (event,) if event.completion is None else ()
        if event.type == "prefill":
            if self._prefill_s or event.done <= self._n_read:
                return ()
            self._n_read = event.done
            return (event,)
        self._prefill_s = self._prefill_s or time.perf_counter() - self._started
        shown, total = [], len(self.replies)
        if not self._begun:
            self._begun = True
            shown.append(Event("candidate", done=self._n_finished, total=total))
        if event.completion is not None and not reply.cancelled:
            self._n_finished += 1
            shown.append(Event("candidate", text=reply.candidate.answer, done=self._n_finished, total=total))
        return shown if total > 1 else ()

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

    def chosen(self) -> tuple[Candidate, ...]:
        """The finished answers to show, best first, with what speaks for and against each of several.

        One that was cancelled is among them only where no other was asked for.
        """
        if len(self.replies) == 1:
            return (self.replies[0].candidate,)
        finished = [reply.candidate for reply in self.replies if not reply.cancelled]
        scoring = self._plan.scoring
        best_first = choose(self._plan, finished, self._scorer)
        return tuple(replace(one, why=reasons(one.answer, scoring)) for one in best_first)

    def notes(self, chosen: Sequence[Candidate]) -> list[str]:
        """What the user should know of the answers that were chosen."""
        if not any(one.answer for one in chosen):
            return [] if self.cancelled else [_EMPTY]
        n = self._plan.settings.n
        said = flaw(chosen[0].answer, self._plan.scoring) if self._plan.spares else ""
        notes = [f"the answer {said}: say more of what it is about"] if said else []
        if n > 1:
            few = f"{len(chosen)} different answers came, not {n}: --temperature 1.2 makes more of them differ"
            return [*notes, *([few] if len(chosen) < n and not self.cancelled else [])]
        return notes + _no_choice([one for one in chosen if one.answer], self._scorer.name)


def _no_choice(written: Sequence[Candidate], select: str) -> list[str]:
    """What to say of a choice that was none."""
    if len(written) > 1 and len({one.answer for one in written}) == 1:
        return [f"all {len(written)} answers are the same: --temperature 1 makes them differ"]
    if len(written) > 1 and len({one.score for one in written}) == 1:
        return [f"select {select} found the answers equally good: the first was kept"]
    return []
