"""How good a reward model is: figures over held-out pairs, as one dict that JSON can hold.

    accuracy     share of pairs in the right order, per kind and per task and kind, with an interval over users
    swap         the same of the pairs whose profile alone differs: what a model that sees no profile gets .50 of
    calibration  how far sigmoid(margin) is from how often it is right
    explained    R^2 of a linear fit of scores, and of margins, on length, on ROUGE to the past, on habits kept alone
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
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_l
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
        raise UsageError("the reward model's scores are no finite number a text", "train it anew")
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
        "explained": _explained(pairs, a, b),
        "alone": _alone(pairs),
    }


def wins(margins: ArrayLike) -> Array:
    """1 where the margin is above 0, 0 below, a half where it is 0: who always says the same is right half the time."""
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


def explained(values: ArrayLike, features: ArrayLike) -> float:
    """R^2 of the least-squares fit of `values` (n,) on `features` (n, features) and a constant; 0 of a constant."""
    y, x = np.asarray(values, np.float64), np.asarray(features, np.float64)
    spread = y - y.mean()
    if not spread @ spread:
        return 0.0
    design = np.column_stack([np.ones(len(y)), x])
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(1 - rest @ rest / (spread @ spread))


def length_features(context: Scoring, text: str) -> list[float]:
    """Words, their logarithm, characters, and the distance from the mean length of the past texts."""
    n = observe(text).words
    past = [observe(one).words for one in context.past]
    usual = float(np.mean(past)) if past else float(n)
    return [float(n), float(np.log1p(n)), float(len(text)), abs(float(np.log1p(n)) - float(np.log1p(usual)))]


def rouge_features(context: Scoring, text: str) -> list[float]:
    """Highest and mean ROUGE-1 and ROUGE-L with the past texts."""
    past, own = [_counted(one) for one in context.past], _counted(text)
    table = [[measure(own, one) for one in past] or [0.0] for measure in (rouge_1, rouge_l)]
    return [figure for row in table for figure in (max(row), float(np.mean(row)))]


def style_features(context: Scoring, text: str) -> list[float]:
    """How many of the user's habits the text keeps."""
    return [context.style.match(text)]


_FEATURES: Mapping[str, Callable[[Scoring, str], list[float]]] = {
    "length": length_features,
    "rouge": rouge_features,
    "style": style_features,
}
#: What a model that saw one kind of feature alone would prefer.
_ALONE: Mapping[str, Callable[[Sequence[float]], float]] = {
    "length": lambda features: -features[3],
    "rouge": lambda features: features[0],
    "style": lambda features: features[0],
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


def _explained(pairs: Sequence[Pair], chosen: Array, rejected: Array) -> dict[str, dict[str, float]]:
    found = {}
    for name, features in _FEATURES.items():
        a, b = _table(pairs, features)
        scores = explained(np.concatenate([chosen, rejected]), np.concatenate([a, b]))
        found[name] = {"scores": scores, "margins": explained(chosen - rejected, a - b)}
    return found


def _alone(pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    found = {}
    for name, prefer in _ALONE.items():
        a, b = _table(pairs, _FEATURES[name])
        right = wins([prefer(x) - prefer(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)])
        by_kind: dict[str, list[float]] = {"all": right.tolist()}
        for pair, value in zip(pairs, right.tolist(), strict=True):
            by_kind.setdefault(pair.kind, []).append(value)
        found[name] = {kind: float(np.mean(values)) for kind, values in by_kind.items()}
    return found


def _table(pairs: Sequence[Pair], features: Callable[[Scoring, str], list[float]]) -> tuple[Array, Array]:
    """Features of the chosen and of the rejected texts, shape (pairs, features) each."""
    chosen = np.array([features(pair.context, pair.chosen) for pair in pairs], np.float64)
    return chosen, np.array([features(pair.other, pair.rejected) for pair in pairs], np.float64)


@lru_cache(maxsize=65536)
def _counted(text: str) -> Counted:
    """Past texts come back in every pair of a user."""
    return Counted(text)
