"""Rules that end a run which learns nothing or the wrong thing, and say what to change.

    non_finite      loss, gradient, reward or a reward term is NaN or infinite
    zero_variance   within nearly all groups every rollout earns the same: nothing to learn
    truncated       most completions are cut off: their rewards say nothing about what the model would have written
    hacking         the reward rises while the dev figure falls: the reward is gamed

`stop_callback.py` applies them to a Trainer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

Record = Mapping[str, Any]

ADVICE = {
    "non_finite": "lower grpo.lr or grpo.max_grad_norm, or base.precision=fp32; then begin again from the best "
    "checkpoint",
    "zero_variance": "raise grpo.group_size, add a graded term to grpo.rewards, or leave prompts out of data.files "
    "that always or never succeed",
    "truncated": "raise grpo.reasoning_tokens, give format and length more weight in grpo.rewards, or warm-start "
    "longer (warmstart.epochs) so that the model ends by itself",
    "hacking": "raise grpo.beta, lower grpo.lr, or lower the weight in grpo.rewards of the term that rose; the best "
    "checkpoint is kept",
}


@dataclass(frozen=True)
class StopLimits:
    """When to stop.

    Attributes:
        window: Logged steps that shares are averaged over; nothing is judged before there are as many.
        zero_variance: Share of groups, above which.
        truncated: Share of completions, above which.
        dev_figure: Which of the dev figures counts; higher is better.
        dev_points: So many dev points in a row must lie below the best,
        dev_drop: by at least this.
    """

    window: int = 20
    zero_variance: float = 0.9
    truncated: float = 0.5
    dev_figure: str = "rouge1"
    dev_points: int = 2
    dev_drop: float = 0.01

    def __post_init__(self) -> None:
        if self.window < 1 or self.dev_points < 1 or self.dev_drop < 0:
            raise ValueError("window and dev_points are at least 1, dev_drop is not negative")


@dataclass(frozen=True)
class Verdict:
    """Whether to stop: by which rule, why (one line), and what to change (one line)."""

    stop: bool = False
    reason: str = ""
    advice: str = ""
    rule: str = ""


def judge(records: Sequence[Record], limits: StopLimits | None = None) -> Verdict:
    """Apply the rules, in the order of the module's list, to a run's records so far.

    Args:
        records: Of kinds "step" and "dev", oldest first, as `log.py` describes them.
        limits: When to stop.
    """
    limits = limits or StopLimits()
    steps = [one for one in records if one["kind"] == "step"]
    for rule, check in _RULES.items():
        reason = check(steps, records, limits) if steps else ""
        if reason:
            return Verdict(True, f"step {records[-1]['step']}: {reason}", ADVICE[rule], rule)
    return Verdict()


def dev_points(records: Sequence[Record], figure: str) -> list[tuple[int, float]]:
    """(step, value) of each dev point that has `figure`, oldest first."""
    found = [(one["step"], one["figures"].get(figure)) for one in records if one["kind"] == "dev"]
    return [(step, float(value)) for step, value in found if value is not None and math.isfinite(value)]


def _non_finite(steps: Sequence[Record], _records: Sequence[Record], _limits: StopLimits) -> str:
    last = steps[-1]
    values = {name: last[name] for name in ("loss", "grad_norm", "reward") if name in last}
    values |= {f"reward term {name}": value for name, value in last.get("terms", {}).items()}
    for name, value in values.items():
        if value is None or not math.isfinite(value):
            return f"{name} is {'NaN' if value is None or math.isnan(value) else 'infinite'}"
    broken = last.get("non_finite") or 0.0
    return f"{broken:.0%} of the rollouts have a reward that is no number" if broken else ""


def _zero_variance(steps: Sequence[Record], _records: Sequence[Record], limits: StopLimits) -> str:
    share = _mean(steps, "zero_variance", limits.window)
    if share is None or share <= limits.zero_variance:
        return ""
    return f"{share:.0%} of the groups of the last {limits.window} logged steps earn one reward throughout"


def _truncated(steps: Sequence[Record], _records: Sequence[Record], limits: StopLimits) -> str:
    share = _mean(steps, "truncated", limits.window)
    if share is None or share <= limits.truncated:
        return ""
    return f"{share:.0%} of the completions of the last {limits.window} logged steps are cut off"


def _hacking(steps: Sequence[Record], records: Sequence[Record], limits: StopLimits) -> str:
    """The reward rises by more than its standard error while the dev figure falls."""
    points = dev_points(records, limits.dev_figure)
    if not points:
        return ""
    best_step, best = max(points, key=lambda point: (point[1], -point[0]))
    later = [value for step, value in points if step > best_step][-limits.dev_points :]
    if len(later) < limits.dev_points or max(later) > best - limits.dev_drop:
        return ""
    rewards = [(one["step"], one["reward"]) for one in steps if "reward" in one]
    before = [reward for step, reward in rewards if step <= best_step]
    if len(before) < 2:  # the best point is that of the start: compare the run's halves
        before = [reward for _, reward in rewards[: len(rewards) // 2]][: limits.window]
        after = [reward for _, reward in rewards[len(before) :]]
    else:
        after = [reward for step, reward in rewards if step > best_step]
    before, after = before[-limits.window :], after[-limits.window :]
    if min(len(before), len(after)) < 2:
        return ""
    rise = fmean(after) - fmean(before)
    error = math.sqrt(variance(before) / len(before) + variance(after) / len(after))
    if not rise > error:
        return ""
    return (
        f"the reward rose by {rise:.3f} since step {best_step} while dev {limits.dev_figure} fell from {best:.3f} to "
        f"{later[-1]:.3f}"
    )


def _mean(steps: Sequence[Record], key: str, window: int) -> float | None:
    """Mean over the last `window` steps; None unless all of them know it."""
    values = [one[key] for one in steps[-window:] if one.get(key) is not None]
    return fmean(values) if len(values) == window else None


_RULES: dict[str, Callable[[Sequence[Record], Sequence[Record], StopLimits], str]] = {
    "non_finite": _non_finite,
    "zero_variance": _zero_variance,
    "truncated": _truncated,
    "hacking": _hacking,
}
