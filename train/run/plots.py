"""Curves over steps, drawn by matplotlib as SVG text; the look is that of the evaluation's report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl

from prlm_edge.evaluate.report.plots import svg

COLOURS = ("#2f5d8a", "#b4553c", "#4f7f52", "#8a6d2f", "#6f4f8a", "#5b6470", "#2f8a86", "#a34d7a")
MAX_POINTS = 400  # of a curve
_SMOOTH = 40  # a curve of more points gets a running mean over a fortieth of them


@dataclass(frozen=True)
class Curve:
    """A named curve of (step, value) points; NaN is left out. `marked` draws dots and does not smooth."""

    name: str
    points: tuple[tuple[float, float], ...]
    marked: bool = False

    @property
    def known(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(step, value) for step, value in self.points if math.isfinite(value)]


def curves(lines: list[Curve]) -> str:
    """One panel as an <svg> element; long curves are thinned, noisy ones drawn with their running mean."""

    def draw(axes: Any) -> None:
        for place, line in enumerate(lines):
            colour = COLOURS[place % len(COLOURS)]
            label = line.name.lstrip("_")  # matplotlib leaves such names out of the legend
            known = line.known
            window = 1 if line.marked else len(known) // _SMOOTH
            if window > 1:
                _plot(axes, known, color=colour, linewidth=0.7, alpha=0.3)
                _plot(axes, running_mean(known, window), color=colour, linewidth=1.6, label=label)
            else:
                marker = "o" if line.marked or len(known) < 3 else ""
                _plot(axes, known, color=colour, linewidth=1.4, marker=marker, markersize=4, label=label)
        axes.set_xlabel("step")
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8)
        else:
            axes.set_ylabel(lines[0].name)

    with mpl.rc_context({"text.parse_math": False}):  # a name's dollar sign is a dollar sign
        return svg(draw, 4.6, 2.6)


def running_mean(points: list[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Each point's mean with the `window - 1` before it (fewer at the start)."""
    found, total = [], 0.0
    for place, (step, value) in enumerate(points):
        total += value - (points[place - window][1] if place >= window else 0.0)
        found.append((step, total / min(place + 1, window)))
    return found


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` of them and the last, evenly."""
    stride = max(1, math.ceil(len(points) / MAX_POINTS))
    kept = points[::stride]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _plot(axes: Any, points: list[tuple[float, float]], **look: Any) -> None:
    points = thinned(points)
    axes.plot([step for step, _ in points], [value for _, value in points], **look)
