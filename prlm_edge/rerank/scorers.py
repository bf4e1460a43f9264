"""Scorers for best-of-n, and the ranking of candidates by their scores.

A scorer is any object with the methods of `types.Scorer`; an app may hand its own to the Writer. To add one here, write
the class and give it a line in `SCORERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from prlm_edge.errors import UsageError, nearest
from prlm_edge.rerank.blend import Blend
from prlm_edge.rerank.merits import flaw
from prlm_edge.rerank.overlap import Counted, chrf, rouge
from prlm_edge.rerank.reward.scorer import LazyReward
from prlm_edge.settings import Settings
from prlm_edge.types import Candidate, Scorer, Scoring

SOUND = 3  # the highest value of `soundness`


class Consensus:
    """Prefers the answer most like the others: the mean of ROUGE and chrF with each of them (minimum Bayes risk).

    Equal candidates agree with each other. A lone candidate scores 0.
    """

    name = "consensus"
    needs_logprobs = False

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """From 0 to 1: 1 where all candidates are equal."""
        counted = {text: Counted(text) for text in (candidate.answer for candidate in candidates)}
        texts = [candidate.answer for candidate in candidates]
        table = {(a, b): (rouge(x, y) + chrf(x, y)) / 2 for a, x in counted.items() for b, y in counted.items()}
        n_others = max(len(texts) - 1, 1)
        # fsum does not depend on the order: equal candidates get equal scores, and the earliest wins.
        return [
            math.fsum(table[text, other] for j, other in enumerate(texts) if i != j) / n_others
            for i, text in enumerate(texts)
        ]


class LogProb:
    """Prefers the answer that the model finds likeliest: the mean log-probability of a token, whatever the length."""

    name = "logprob"
    needs_logprobs = True

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """In nats a token, 0 at most.

        Raises:
            UsageError: The backend gives no log-probabilities.
        """
        known = [candidate.logprob for candidate in candidates if candidate.logprob is not None]
        if len(known) < len(candidates):
            raise no_logprobs()
        return known


class StyleMatch:
    """Prefers the answer that keeps most of the user's steady habits (`Style.match`)."""

    name = "style"
    needs_logprobs = False

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """From 0 to 1; 1 for all where the profile shows no habits."""
        return [context.style.match(candidate.answer) for candidate in candidates]


#: What the setting `select` may name.
SCORERS: dict[str, Callable[[Settings], Scorer]] = {
    "consensus": lambda settings: Consensus(),
    "logprob": lambda settings: LogProb(),
    "style": lambda settings: StyleMatch(),
    "blend": lambda settings: Blend(settings.blend_weights),
    "reward": lambda settings: LazyReward(settings.reward_model, settings.threads),
}


def make_scorer(settings: Settings) -> Scorer:
    """The scorer that `settings.select` names. Cheap: what it needs is loaded at its first score.

    Raises:
        UsageError: There is no such scorer; the hint names the nearest.
    """
    name = settings.select
    if name in SCORERS:
        return SCORERS[name](settings)
    near = nearest(name.lower(), SCORERS)
    hint = f"did you mean {near}? " if near else ""
    raise UsageError(f"no way of selecting is called {name!r}", f"{hint}there are: {', '.join(SCORERS)}")


def check_scorer(scorer: Scorer) -> None:
    """Find out before anything is drawn whether `scorer` can work.

    Raises:
        PrlmError: Files or packages of a reward model, or the weights to blend by, are missing or damaged.
    """
    if isinstance(scorer, (LazyReward, Blend)):
        scorer.check()


def no_logprobs() -> UsageError:
    """The error for a backend that gives no log-probabilities."""
    others = ", ".join(name for name in SCORERS if name != LogProb.name)
    return UsageError("this model's backend gives no log-probabilities, which select logprob needs", f"use {others}")


def rank(candidates: Sequence[Candidate], scorer: Scorer, context: Scoring) -> tuple[Candidate, ...]:
    """The candidates with their scores, best first; of equal ones the earliest.

    Whatever their scores, answers come before what is none (`merits.flaw`), that before what was cut at its limit, and
    empty ones, which are not scored, last.

    Raises:
        UsageError: The scorer did not give one finite number a candidate, or can't work with these.
    """
    written = [candidate for candidate in candidates if candidate.answer]
    scores = [float(score) for score in scorer.score(written, context)] if written else []
    if len(scores) != len(written) or not all(map(math.isfinite, scores)):
        raise UsageError(
            f"the scorer {scorer.name!r} gave {scores} for {len(written)} answers", "it must give each a finite number"
        )
    scored = iter(scores)
    rated = [replace(one, score=next(scored) if one.answer else None) for one in candidates]
    return tuple(sorted(rated, key=lambda one: (-soundness(one, context), -(one.score or 0.0))))


def soundness(candidate: Candidate, context: Scoring) -> int:
    """`SOUND` for an answer, 2 for what is none (`merits.flaw`), 1 for one cut at its limit, 0 for an empty one."""
    if not candidate.answer:
        return 0
    if candidate.finish_reason != "stop":
        return 1
    return 2 if flaw(candidate.answer, context) else SOUND
