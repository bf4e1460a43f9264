"""How good a reward model is: figures over held-out pairs, as one dict that JSON can hold.

    accuracy     share of pairs in the right order, per kind and per task and kind, with an interval over users
    swap         the same of the pairs whose profile alone differs: what a model that sees no profile gets .50 of
    calibration  how far sigmoid(margin) is from how often it is right
    alone        accuracy that closeness to the usual length, ROUGE to the past, habits kept reach by themselves

An answer's score comes from `model.score` in PyTorch, or from `RewardScorer` as users run it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.stats import estimate
from prlm_edge.rerank.overlap import Counted, rouge_1
from prlm_edge.style import observe
from prlm_edge.train.reward.pairs import Pair
from prlm_edge.types import Scoring

SWAPS = ("swap", "swap_near")
N_BINS = 10

Array = NDArray[np.float64]


def evaluate(pairs: Sequence[Pair], chosen: ArrayLike, rejected: ArrayLike, seed: int = 0) -> dict[str, Any]:
    """All figures of a model's scores.

    Args:
        pairs: Of users that the model did not learn from.
        chosen: The score of each pair's chosen text, shape (pairs,).
        rejected: The score of the rejected one.
        seed: Of the intervals.

    Raises:
        UsageError: No pairs, or scores that are not finite numbers.
    """
    a, b = np.asarray(chosen, np.float64), np.asarray(rejected, np.float64)
    if not len(pairs):
        raise UsageError("no pairs to judge the reward model by", "give it held-out users' pairs")
    if a.shape != (len(pairs),) or b.shape != a.shape or not np.isfinite(a + b).all():
        raise UsageError("the reward model did not give each text a finite score", "train it again")
    right = wins(a - b)
    kinds = list(dict.fromkeys(pair.kind for pair in pairs))
    by_kind = {kind: _accuracy(pairs, right, seed, lambda pair, kind=kind: pair.kind == kind) for kind in kinds}  # type: ignore[misc]
    swaps = {kind: by_kind[kind] for kind in SWAPS if kind in by_kind}
    return {
        "n": len(pairs),
        "accuracy": {"all": _accuracy(pairs, right, seed), **by_kind},
        "by_task": {task: _by_kind(pairs, right, task) for task in sorted({pair.context.task for pair in pairs})},
        "swap": {**swaps, "all": _accuracy(pairs, right, seed, lambda pair: pair.kind in SWAPS)} if swaps else {},
        "calibration": calibration(a - b),
        "alone": _alone(pairs),
    }


def wins(margins: ArrayLike) -> Array:
    """1 where the margin is above 0, 0 below, a half where it is 0: a constant score is right half the time."""
    return (np.sign(np.asarray(margins, np.float64)) + 1) / 2


def calibration(margins: ArrayLike, n_bins: int = N_BINS) -> dict[str, Any]:
    """Expected calibration error of the confidence max(p, 1 - p), p = sigmoid(margin), and the bins it is made of.

    Args:
        margins: Chosen less rejected, shape (pairs,).
        n_bins: Of equal width from 0.5 to 1.
    """
    margin = np.asarray(margins, np.float64)
    confidence = 1 / (1 + np.exp(-np.abs(np.clip(margin, -700, 700))))
    place = np.minimum(((confidence - 0.5) * 2 * n_bins).astype(int), n_bins - 1)
    right, bins, error = wins(margin), [], 0.0
    for i in range(n_bins):
        inside = place == i
        if inside.any():
            said, was = float(confidence[inside].mean()), float(right[inside].mean())
            error += float(inside.mean()) * abs(said - was)
            bins.append({"confidence": said, "accuracy": was, "n": int(inside.sum())})
    return {"ece": error, "bins": bins}


def usual_length(context: Scoring, text: str) -> float:
    """How near a text's number of words is to the mean of the past texts'; 0 at best."""
    n = observe(text).words
    usual = float(np.mean([observe(one).words for one in context.past])) if context.past else float(n)
    return -abs(float(np.log1p(n)) - float(np.log1p(usual)))


def nearness(context: Scoring, text: str) -> float:
    """The highest ROUGE-1 with a past text."""
    own = _counted(text)
    return max((rouge_1(own, _counted(one)) for one in context.past), default=0.0)


#: What a model that saw a single fact would score by.
_ALONE: Mapping[str, Callable[[Scoring, str], float]] = {
    "length": usual_length,
    "rouge": nearness,
    "style": lambda context, text: context.style.match(text),
}


def _accuracy(
    pairs: Sequence[Pair], right: Array, seed: int, keep: Callable[[Pair], bool] = lambda pair: True
) -> dict[str, Any]:
    """Mean over users with its interval: {"mean", "low", "high", "n_users", "n_rows"}."""
    values = [(pair.user, float(value)) for pair, value in zip(pairs, right, strict=True) if keep(pair)]
    found = estimate(values, seed)
    assert found is not None  # there is a pair of each kind that is asked for
    return asdict(found)


def _by_kind(pairs: Sequence[Pair], right: Array, task: str) -> dict[str, float]:
    """The plain share of one task's pairs, by kind."""
    found: dict[str, list[float]] = {}
    for pair, value in zip(pairs, right, strict=True):
        if pair.context.task == task:
            found.setdefault(pair.kind, []).append(float(value))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def _alone(pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    found = {}
    for name, score in _ALONE.items():
        margins = [score(pair.context, pair.chosen) - score(pair.other, pair.rejected) for pair in pairs]
        right = wins(margins).tolist()
        by_kind: dict[str, list[float]] = {"all": right}
        for pair, value in zip(pairs, right, strict=True):
            by_kind.setdefault(pair.kind, []).append(value)
        found[name] = {kind: float(np.mean(values)) for kind, values in by_kind.items()}
    return found


@lru_cache(maxsize=65536)
def _counted(text: str) -> Counted:
    """Counted once: past texts come back in every pair of a user."""
    return Counted(text)
