"""How sure a figure is: 95% intervals by bootstrap, for one condition and for the difference between two.

A user's rows are averaged first, then the users, so that a user with many rows counts once. Users are resampled, and
the intervals are percentiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

N_RESAMPLES = 10_000
LEVEL = 0.95
_TIE = 1e-9
_CHUNK = 500  # resamples at a time, so that memory stays small


@dataclass(frozen=True)
class Estimate:
    """A mean over users with its interval."""

    mean: float
    low: float
    high: float
    n_users: int
    n_rows: int


@dataclass(frozen=True)
class Difference:
    """B against A on the rows that both answered.

    Attributes:
        a: A's mean over users.
        b: B's.
        mean: B - A.
        low: Lower end of the interval of B - A.
        high: Upper end.
        p: Two-sided: how often a resampled difference has the other sign (twice), at least 1 / resamples.
        wins: Users for whom B is higher.
        ties: Users for whom both are equal.
        losses: Users for whom A is higher.
        n_users: Users.
        n_rows: Rows.
    """

    a: float
    b: float
    mean: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int
    n_users: int
    n_rows: int


def estimate(values: Iterable[tuple[str, float]], seed: int = 0) -> Estimate | None:
    """The mean of (user, value) pairs over users, with its interval; None without values."""
    values = list(values)
    if not values:
        return None
    means = _user_means(values)
    low, high, _ = _interval(means, seed)
    return Estimate(fmean(means), low, high, len(means), len(values))


def difference(a: Mapping[str, tuple[str, float]], b: Mapping[str, tuple[str, float]]) -> Difference | None:
    """Paired bootstrap of B - A; None where they have no row in common.

    Args:
        a: (user, value) by row.
        b: The same of the other.
    """
    rows = [row for row in a if row in b]
    if not rows:
        return None
    ours, theirs = (fmean(_user_means(one[row] for row in rows)) for one in (a, b))
    means = _user_means((a[row][0], b[row][1] - a[row][1]) for row in rows)
    low, high, p = _interval(means, seed=0)
    wins, losses = sum(m > _TIE for m in means), sum(m < -_TIE for m in means)
    ties = len(means) - wins - losses
    return Difference(ours, theirs, fmean(means), low, high, p, wins, ties, losses, len(means), len(rows))


def summarize(
    scores: Sequence[Mapping[str, Any]], metrics: Iterable[str], seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """{condition: {metric: Estimate}} of a run's score lines; metrics that never apply are left out."""
    by_condition: dict[str, list[Mapping[str, Any]]] = {}
    for score in scores:
        by_condition.setdefault(score["condition"], []).append(score)
    names = list(metrics)
    return {
        condition: {
            name: found
            for name in names
            if (found := estimate(((s["user"], s[name]) for s in lines if s.get(name) is not None), seed))
        }
        for condition, lines in by_condition.items()
    }


def _user_means(values: Iterable[tuple[str, float]]) -> list[float]:
    """The mean value of each user."""
    by_user: dict[str, list[float]] = {}
    for user, value in values:
        by_user.setdefault(user, []).append(value)
    return list(map(fmean, by_user.values()))


def _interval(means: Sequence[float], seed: int) -> tuple[float, float, float]:
    """(low, high, p): the percentile interval of the mean, and the two-sided p-value against a mean of 0."""
    import numpy as np

    values = np.asarray(means, np.float64)
    dice = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            values[dice.integers(0, len(values), (_CHUNK, len(values)))].mean(axis=1)
            for _ in range(N_RESAMPLES // _CHUNK)
        ]
    )
    tail = (1 - LEVEL) / 2
    low, high = (float(q) for q in np.quantile(drawn, (tail, 1 - tail)))
    one_sided = min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    return low, high, min(1.0, max(2 * one_sided, 1 / N_RESAMPLES))
