"""The HTML report: one file without scripts, links or fonts from elsewhere. Not here: what it shows (`view.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from prlm_edge.evaluate.metrics import METRICS
from prlm_edge.evaluate.report.view import View
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.storage import atomic_write


def write_report(runs: Sequence[RunFolder], out: Path, *, title: str = "Evaluation", examples: bool = True) -> None:
    """Write the report of `runs`, a section each, to `out`.

    Args:
        runs: Scored runs.
        out: The HTML file, replaced as a whole.
        title: Of the page.
        examples: Also show answers, with what users wrote; False leaves only figures.

    Raises:
        UsageError: A run isn't scored.
        PrlmError: The file can't be written.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    from prlm_edge.evaluate.report import plots

    source = resources.files("prlm_edge.evaluate.report").joinpath("report.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"pct": lambda value: f"{value:.0%}", "f3": lambda value: f"{value:.3f}"}
    sections = []
    for view in map(View, runs):
        drawn: dict[str, Any] = {
            "ladder": Markup(plots.ladder(view)),  # noqa: S704 - drawn by matplotlib, which escapes
            "style": Markup(plots.ladder(view, "style_match")),  # noqa: S704
            "sweeps": [(key, Markup(plots.sweep(key, points))) for key, points in view.sweeps.items()],  # noqa: S704
            "diet": Markup(plots.diet(view)) if len(view.models) > 1 else "",  # noqa: S704
            "scatter": Markup(plots.scatter(view.pairs)) if view.pairs else "",  # noqa: S704
        }
        sections.append({"view": view, "plots": drawn, "rows": [_row(view, one.name) for one in view.conditions]})
    text = environment.from_string(source).render(
        title=title,
        sections=sections,
        metrics=METRICS,
        headline=[name for name, metric in METRICS.items() if metric.headline],
        with_examples=examples,
    )
    with atomic_write(out) as stream:
        stream.write(text.encode("utf-8", "replace"))


def _row(view: View, name: str) -> Mapping[str, Any]:
    condition = next(one for one in view.conditions if one.name == name)
    return {
        "name": name,
        "trivial": bool(condition.baseline),
        "metrics": view.of(name),
        "speed": view.summary["users_per_minute"].get(name),
        "best": view.best is not None and view.best.name == name,
    }
