"""Writes reports: the HTML page of an evaluation, its tables as Markdown, and any page that extends base.html.j2.

A page is one file without scripts, and with no link or font from elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from prlm_edge.evaluate.metrics import METRICS, cell
from prlm_edge.evaluate.report.view import View
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.scoring import Estimates, most_users
from prlm_edge.storage import atomic_write

_HERE = "prlm_edge.evaluate.report"
_HEADLINE = [name for name, metric in METRICS.items() if metric.headline]


def write_page(out: Path, package: str, template: str, **values: Any) -> None:
    """Render a Jinja template to `out`, which is replaced as a whole.

    Args:
        out: The HTML file.
        package: The package that holds the template.
        template: File name of the template; it may extend base.html.j2 of this package.
        values: What the template shows. Text is escaped; "title" is the page's title.

    Raises:
        PrlmError: The file can't be written.
    """
    from jinja2 import Environment, FunctionLoader

    def source(name: str) -> str:
        return resources.files(package if name == template else _HERE).joinpath(name).read_text("utf-8")

    page = Environment(loader=FunctionLoader(source), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"pct": lambda value: f"{value:.0%}", "f3": lambda value: f"{value:.3f}", "figure": figure}
    with atomic_write(out) as stream:
        stream.write(page.get_template(template).render(**values).encode("utf-8", "replace"))


def figure(value: Any) -> str:
    """A number for people; "–" where there is none."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_report(
    runs: Sequence[RunFolder],
    out: Path,
    *,
    title: str = "Evaluation",
    examples: bool = True,
    seen: Collection[str] = (),
) -> None:
    """Write the report of `runs`, a section each, to `out`.

    Args:
        runs: Scored runs.
        out: The HTML file, replaced as a whole.
        title: Of the page.
        examples: Also show answers, with what users wrote; False leaves only figures.
        seen: Domains of which users are also shown apart from others.

    Raises:
        UsageError: A run isn't scored.
        PrlmError: The file can't be written.
    """
    from markupsafe import Markup

    from prlm_edge.evaluate.report import plots

    sections = []
    for view in (View(run, seen) for run in runs):
        drawn: dict[str, Any] = {
            "ladder": Markup(plots.ladder(view)),  # noqa: S704 - drawn by matplotlib, which escapes
            "style": Markup(plots.ladder(view, "style_match")),  # noqa: S704
            "sweeps": [(key, Markup(plots.sweep(key, points))) for key, points in view.sweeps.items()],  # noqa: S704
            "diet": Markup(plots.diet(view)) if len(view.models) > 1 else "",  # noqa: S704
            "scatter": Markup(plots.scatter(view.gains)) if view.gains else "",  # noqa: S704
        }
        groups = [(name, most_users(found), _table(view, found)) for name, found in view.groups.items()]
        rows = _table(view, view.summary["conditions"])
        sections.append({"view": view, "plots": drawn, "rows": rows, "groups": groups})
    write_page(
        out,
        _HERE,
        "report.html.j2",
        title=title,
        sections=sections,
        metrics=METRICS,
        cell=cell,
        headline=_HEADLINE,
        with_examples=examples,
    )


def _table(view: View, estimates: Estimates) -> list[Mapping[str, Any]]:
    """The rows of a table of these estimates by condition."""
    return [
        {
            "name": one.name,
            "trivial": bool(one.baseline),
            "metrics": estimates[one.name],
            "speed": view.summary["users_per_minute"].get(one.name),
            "best": one == view.best,
        }
        for one in view.conditions
        if one.name in estimates
    ]


def markdown_tables(runs: Sequence[RunFolder], seen: Collection[str] = ()) -> str:
    """A heading and a table a run: headline metrics, mean over users ± half the 95% interval.

    With `seen` domains, also a table of the users of these and one of the others.
    """
    return "\n".join(_markdown(View(run, seen)) for run in runs)


def _markdown(view: View) -> str:
    data = view.header["asked"]["data"]
    about = f"{data['name']}, {data['n_users']} users, {data['n_rows']} rows, seed {view.header['seed']}"
    lines = [f"### {view.name}", "", about, "", *_markdown_table(view, view.summary["conditions"])]
    for name, found in view.groups.items():
        lines += ["", f"{most_users(found)} users of {name}", "", *_markdown_table(view, found)]
    return "\n".join(lines) + "\n"


def _markdown_table(view: View, estimates: Estimates) -> list[str]:
    lines = [
        "| condition | " + " | ".join([*_HEADLINE, "prompt tokens"]) + " |",
        "|---|" + "---|" * (len(_HEADLINE) + 1),
    ]
    for row in _table(view, estimates):
        found = row["metrics"]
        tokens = found.get("prompt_tokens", {}).get("mean", 0)
        cells = [cell(name, found.get(name)) for name in _HEADLINE] + [f"{tokens:.0f}" if tokens else "-"]
        label = f"*{row['name']}*" if row["trivial"] else row["name"]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines
