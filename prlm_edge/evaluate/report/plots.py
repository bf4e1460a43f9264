"""The report's plots, drawn by matplotlib as SVG text: no pyplot, no global state, no date in the file.

Plots stand on a light panel in dark pages too, since not every viewer understands `currentColor`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from prlm_edge.evaluate.report.view import QUALITY, Point, UserGain, View, frontier

_BLUE, _GREY, _RED, _INK = "#2f5d8a", "#b9bec6", "#b4553c", "#23272e"
_STYLE = {
    "svg.fonttype": "none",  # text that can be read aloud and searched, in a third of the bytes
    "svg.hashsalt": "prlm-edge",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "axes.titlesize": 10,
}


def ladder(view: View, metric: str = QUALITY) -> str:
    """Bars of every condition with intervals: baselines grey, models blue."""
    shown = [one for one in view.conditions if metric in view.of(one.name)]

    def draw(axes: Any) -> None:
        for at, one in enumerate(shown):
            found = view.of(one.name)[metric]
            mean = found["mean"]
            error = [[mean - found["low"]], [found["high"] - mean]]
            axes.barh(at, mean, xerr=error, color=_GREY if one.baseline else _BLUE, ecolor=_INK, capsize=2, height=0.7)
        axes.set_yticks(range(len(shown)), [one.name for one in shown])
        axes.invert_yaxis()
        axes.set_xlabel(f"{metric}, mean over users, 95% interval")
        axes.set_xlim(left=0)

    return svg(draw, 6.6, 0.6 + 0.26 * len(shown))


def sweep(key: str, points: Sequence[Point]) -> str:
    """Quality and style match over one setting."""
    numeric = all(isinstance(point.value, int | float) for point in points)
    places = [point.value for point in points] if numeric else list(range(len(points)))

    def draw(axes: Any) -> None:
        for metric, colour, dashes in ((QUALITY, _BLUE, "-"), ("style_match", _RED, "--")):
            known = [(at, p.summary[metric]) for at, p in zip(places, points, strict=True) if metric in p.summary]
            if not known:
                continue
            xs, ys = [at for at, _ in known], [found["mean"] for _, found in known]
            errors = [[f["mean"] - f["low"] for _, f in known], [f["high"] - f["mean"] for _, f in known]]
            style = dashes if numeric else ""
            axes.errorbar(xs, ys, yerr=errors, color=colour, linestyle=style, marker="o", ms=4, capsize=2, label=metric)
        axes.set_xticks(places, [str(point.value) for point in points])
        axes.set_xlabel(key)
        axes.set_ylim(0, 1)
        axes.legend(frameon=False, fontsize=8)

    return svg(draw, 3.3, 2.6)


def diet(view: View) -> str:
    """Quality against prompt tokens; a line joins the conditions that no cheaper one equals."""
    points = {one.name: (view.mean(one.name, "prompt_tokens"), view.mean(one.name)) for one in view.models}
    best = frontier(list(points.values()))

    def draw(axes: Any) -> None:
        axes.plot([cost for cost, _ in best], [quality for _, quality in best], color=_GREY, zorder=1)
        for name, (cost, quality) in points.items():
            on = (cost, quality) in best
            axes.scatter(cost, quality, color=_BLUE if on else _GREY, zorder=2, s=22)
            if on:
                axes.annotate(name, (cost, quality), (4, -9), textcoords="offset points", fontsize=8)
        axes.set_xlabel("prompt tokens, mean")
        axes.set_ylabel(QUALITY)

    return svg(draw, 6.6, 3.0)


def scatter(gains: Sequence[UserGain]) -> str:
    """A point a user: quality without and with their profile."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
        for one in gains:
            colour = _BLUE if one.with_profile >= one.without else _RED
            axes.scatter(one.without, one.with_profile, color=colour, s=14, alpha=0.7, linewidths=0)
        axes.set_xlabel(f"{QUALITY} without a profile")
        axes.set_ylabel(f"{QUALITY} with their profile")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")

    return svg(draw, 4.0, 4.0)


def svg(draw: Callable[[Any], None], width: float, height: float) -> str:
    """The <svg> element of what `draw(axes)` draws; width and height in inches."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
