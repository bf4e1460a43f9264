"""One condition against another, metric by metric, on the rows that both answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.metrics import METRICS
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.stats import Difference, difference


@dataclass(frozen=True)
class Side:
    """A condition of a run."""

    run: RunFolder
    condition: str

    @property
    def name(self) -> str:
        """Such as "dev:k=4"."""
        return f"{self.run.path.name}:{self.condition}"


@dataclass(frozen=True)
class Compared:
    """The comparison by one metric; `better` as in `metrics.Metric`."""

    metric: str
    better: int
    difference: Difference


def side(spec: str) -> Side:
    """The condition that "RUN:CONDITION" names, or the only one of RUN.

    Raises:
        UsageError: No such run or condition, or the run has several and none is named.
    """
    path, colon, condition = spec.partition(":")
    run = RunFolder(Path(path))
    names = [one["name"] for one in run.header["asked"]["conditions"]]
    if not colon and len(names) == 1:
        condition = names[0]
    if condition not in names:
        what = f"no condition {condition!r}" if colon else "several conditions"
        raise UsageError(f"{path}: {what}", f"name one: {path}:{names[0]}; there are: {', '.join(names)}")
    return Side(run, condition)


def compare(a: Side, b: Side, metrics: Sequence[str] = ()) -> list[Compared]:
    """B against A by paired bootstrap.

    Args:
        a: The condition to compare with.
        b: The condition to compare.
        metrics: Names of metrics; without any, all that apply.

    Raises:
        UsageError: An unknown metric, a run that isn't scored, or no row in common.
    """
    for name in metrics:
        if name not in METRICS:
            raise UsageError(f"no metric {name!r}", f"there are: {', '.join(METRICS)}")
    ours, theirs = _scores(a), _scores(b)
    if ours.keys().isdisjoint(theirs):
        raise UsageError(f"{a.name} and {b.name} share no row", "compare runs over the same data")
    found = []
    for name in metrics or METRICS:
        a_values, b_values = (
            {row: (score["user"], score[name]) for row, score in one.items() if score.get(name) is not None}
            for one in (ours, theirs)
        )
        known = difference(a_values, b_values)
        if known:
            found.append(Compared(name, METRICS[name].better, known))
    return found


def _scores(side: Side) -> dict[str, Mapping[str, Any]]:
    found = {score["row"]: score for score in side.run.scores() if score["condition"] == side.condition}
    if not found:
        raise UsageError(f"{side.name}: not scored yet", f"`prlm-edge eval score {side.run.path}` does it")
    return found
