"""Best-of-n: which of several answers is the best, by a scorer of choice.

    rank(candidates, make_scorer(settings), scoring)[0]

Not here: drawing the candidates (`prlm_edge.writer.draw`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from prlm_edge.errors import UsageError
from prlm_edge.rerank.scorers import SCORERS as SCORERS
from prlm_edge.rerank.scorers import check_scorer as check_scorer
from prlm_edge.rerank.scorers import make_scorer as make_scorer
from prlm_edge.rerank.scorers import no_logprobs as no_logprobs
from prlm_edge.types import Candidate, Scorer, Scoring


def rank(candidates: Sequence[Candidate], scorer: Scorer, context: Scoring) -> tuple[Candidate, ...]:
    """The candidates with their scores, best first; of equals the earliest.

    Finished answers stand before those cut at their limit, whatever their scores, and empty ones, which are not scored,
    come last.

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
    return tuple(sorted(rated, key=lambda one: (-_soundness(one), -(one.score or 0.0))))


def _soundness(candidate: Candidate) -> int:
    return 0 if not candidate.answer else 1 + (candidate.finish_reason == "stop")
