"""From reward terms to one advantage a rollout, and which groups teach nothing.

"normalize_then_sum" (GDPO, arXiv 2601.05242) normalizes each term within its group before it weighs and sums, so that a
small term is not drowned by a large one; then it normalizes over the batch. "sum" weighs and sums first, and normalizes
within the group: by its standard deviation (GRPO, DAPO), by the batch's, or not at all (Dr. GRPO). Both are TRL's
`multi_objective_aggregation` and `scale_rewards`, figure by figure (tests/train/test_reward_sum.py runs TRL's).

A term that does not vary within a group adds 0 there, whatever its weight. NaN means that a term does not apply: it
adds 0 and does not count in means; a rollout without any term has advantage 0. Not here: the terms (`rewards.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prlm_edge.errors import ConfigError

EPSILON = 1e-4  # added to standard deviations, as TRL does
_SAME = 1e-8  # values that differ by less are equal

Values = NDArray[np.float64]
Mode = Literal["normalize_then_sum", "sum"]
Scale = Literal["group", "batch", "none"]


def total(
    terms: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    group_size: int,
    *,
    mode: Mode = "normalize_then_sum",
    scale: Scale = "group",
    epsilon: float = EPSILON,
) -> Values:
    """Advantages, shape (n,): rollouts stand group by group.

    Args:
        terms: By name the values of n rollouts, shape (n,).
        weights: By name; those of terms that are not there are an error.
        group_size: Rollouts of one prompt; divides n.
        mode: See the module.
        scale: Of "sum" alone.
        epsilon: Added to each standard deviation (of n - 1).

    Raises:
        ConfigError: A term has no weight, or a weight no term.
        ValueError: Shapes that don't fit each other or the group size.
    """
    values, factors = _table(terms, weights, group_size)
    unknown = np.isnan(values).all(axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, and NaN is meant
        if mode == "sum":
            summed = np.nansum(values * factors, axis=1)
            summed[unknown] = np.nan
            advantages = _scaled(summed, group_size, scale, epsilon)
        else:
            grouped = values.reshape(-1, group_size, values.shape[1])
            centred = grouped - np.nanmean(grouped, axis=1, keepdims=True)
            parts = centred / (_std(grouped, axis=1) + epsilon)
            parts = np.where(_flat(grouped), np.where(np.isnan(parts), np.nan, 0.0), parts)
            summed = np.nansum(parts.reshape(values.shape) * factors, axis=1)
            summed[unknown] = np.nan
            advantages = (summed - np.nanmean(summed)) / (_std(summed, axis=0) + epsilon)
    advantages[~np.isfinite(advantages)] = 0.0
    return advantages


def zero_variance(terms: Mapping[str, ArrayLike], weights: Mapping[str, float], group_size: int) -> float:
    """Share of the groups in which no term with a weight varies: they move nothing.

    TRL's own figure (`frac_reward_zero_std`) is taken over the whole batch in "normalize_then_sum", and is then 0 as
    long as a single group varies.

    Raises:
        ConfigError, ValueError: As `total`.
    """
    values, factors = _table(terms, weights, group_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        flat = _flat(values.reshape(-1, group_size, values.shape[1]))[:, 0, :]
    return float(flat[:, factors != 0].all(axis=1).mean())


def _table(terms: Mapping[str, ArrayLike], weights: Mapping[str, float], group_size: int) -> tuple[Values, Values]:
    """The terms as (n, terms), and their weights."""
    if odd := set(terms) ^ set(weights):
        raise ConfigError(f"reward terms and weights differ: {', '.join(sorted(odd))}", "give each term one weight")
    columns = [np.asarray(terms[name], dtype=np.float64) for name in terms]
    shapes = {column.shape for column in columns}
    n = columns[0].shape[0] if len(shapes) == 1 and columns[0].ndim == 1 else 0
    if not n or group_size < 1 or n % group_size:
        raise ValueError(f"terms of shapes {sorted(shapes)} don't make groups of {group_size}")
    return np.stack(columns, axis=1), np.array([weights[name] for name in terms], dtype=np.float64)


def _scaled(summed: Values, group_size: int, scale: Scale, epsilon: float) -> Values:
    grouped = summed.reshape(-1, group_size)
    centred = grouped - np.nanmean(grouped, axis=1, keepdims=True)
    if scale == "group":
        centred = np.where(_flat(grouped), 0.0, centred / (_std(grouped, axis=1) + epsilon))
    elif scale == "batch":
        centred = centred / (_std(summed, axis=0) + epsilon)
    flat: Values = centred.reshape(-1)
    return flat


def _std(values: Values, axis: int) -> Values:
    """Standard deviation of n - 1; 0 of a single value, NaN where fewer than two of several are known."""
    if values.shape[axis] == 1:
        return np.zeros_like(np.nanmean(values, axis=axis, keepdims=True))
    found: Values = np.nanstd(values, axis=axis, ddof=1, keepdims=True)
    return found


def _flat(grouped: Values) -> NDArray[np.bool_]:
    """Whether the values of a group (axis 1) are equal; rounding in the mean must not make a signal of them."""
    spread = np.nanmax(grouped, axis=1, keepdims=True) - np.nanmin(grouped, axis=1, keepdims=True)
    same: NDArray[np.bool_] = ~(spread > _SAME)
    return same
