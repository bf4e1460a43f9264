"""What makes one candidate better than another: agreement, belief, style, all of it, a model trained on users.

A scorer is anything that looks like `types.Scorer`; an app hands its own to the Writer. Not here: how the best is
found from the scores (`prlm_edge.rerank`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from prlm_edge.errors import UsageError, did_you_mean
from prlm_edge.rerank.blend import Blend
from prlm_edge.rerank.overlap import Counted, chrf, rouge
from prlm_edge.rerank.reward.lazy import LazyReward
from prlm_edge.settings import Settings
from prlm_edge.types import Candidate, Scorer, Scoring

Utility = Callable[[Counted, Counted], float]


class Consensus:
    """Minimum Bayes risk: the mean utility of a candidate, each of the others taken for what should have been written.

    Equal candidates vote for each other. A lone candidate scores 0.
    """

    needs_logprobs = False

    def __init__(self, name: str, *utilities: Utility) -> None:
        self.name = name
        self._utilities = utilities

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """From 0 to 1: 1 where all candidates are equal."""
        counted = {text: Counted(text) for text in (candidate.answer for candidate in candidates)}
        texts = [counted[candidate.answer] for candidate in candidates]
        table = {(a.text, b.text): self._utility(a, b) for a in counted.values() for b in counted.values()}
        n_others = max(len(texts) - 1, 1)
        # fsum does not depend on the order: equal candidates get equal scores, and the earliest wins.
        return [
            math.fsum(table[text.text, other.text] for j, other in enumerate(texts) if i != j) / n_others
            for i, text in enumerate(texts)
        ]

    def _utility(self, a: Counted, b: Counted) -> float:
        return sum(utility(a, b) for utility in self._utilities) / len(self._utilities)


class LogProb:
    """The model's own belief: mean log-probability of the answer's tokens, so that length does not count against it."""

    name = "logprob"
    needs_logprobs = True

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """In nats a token, 0 at most.

        Raises:
            UsageError: The backend told no log-probabilities.
        """
        known = [candidate.logprob for candidate in candidates if candidate.logprob is not None]
        if len(known) < len(candidates):
            raise no_logprobs()
        return known


class StyleMatch:
    """How many of the user's steady habits an answer keeps (`Style.match`)."""

    name = "style"
    needs_logprobs = False

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """From 0 to 1; 1 for all where the profile shows no habits."""
        return [context.style.match(candidate.answer) for candidate in candidates]


SCORERS: dict[str, Callable[[Settings], Scorer]] = {
    "consensus": lambda settings: Consensus("consensus", rouge, chrf),
    "rouge": lambda settings: Consensus("rouge", rouge),
    "chrf": lambda settings: Consensus("chrf", chrf),
    "logprob": lambda settings: LogProb(),
    "style": lambda settings: StyleMatch(),
    "blend": lambda settings: Blend(settings.blend_weights),
    "reward": lambda settings: LazyReward(settings.reward_model, settings.threads),
}


def make_scorer(settings: Settings) -> Scorer:
    """The scorer that `settings.select` names. Cheap: what one needs is loaded when it first scores.

    Raises:
        UsageError: There is none; the hint names the nearest.
    """
    name = settings.select
    if name in SCORERS:
        return SCORERS[name](settings)
    hint = did_you_mean(name, SCORERS, f"there are: {', '.join(SCORERS)}")
    raise UsageError(f"no way of selecting is called {name!r}", hint)


def check_scorer(scorer: Scorer) -> None:
    """Say before anything is drawn what would keep `scorer` from choosing.

    Raises:
        PrlmError: The files or packages of a reward model, or the weights to blend by, are missing or damaged.
    """
    if isinstance(scorer, (LazyReward, Blend)):
        scorer.check()


def no_logprobs() -> UsageError:
    """What to say where the log-probabilities are missing."""
    others = ", ".join(name for name in SCORERS if name != LogProb.name)
    return UsageError("this model's backend tells no log-probabilities, which select logprob needs", f"use {others}")
