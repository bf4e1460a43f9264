"""A run's tables in Markdown, for a README or a note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prlm_edge.evaluate.metrics import METRICS
from prlm_edge.evaluate.report.view import View
from prlm_edge.evaluate.run_folder import RunFolder


def markdown_tables(runs: Sequence[RunFolder]) -> str:
    """A heading and a table a run: headline metrics, mean over users ± half the 95% interval."""
    return "\n".join(_section(View(run)) for run in runs)


def _section(view: View) -> str:
    names = [name for name, metric in METRICS.items() if metric.headline]
    data = view.header["asked"]["data"]
    lines = [
        f"### {view.name}",
        "",
        f"{data['name']}, {data['n_users']} users, {data['n_rows']} rows, seed {view.header['seed']}",
        "",
        "| condition | " + " | ".join([*names, "prompt tokens"]) + " |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for condition in view.conditions:
        found = view.of(condition.name)
        tokens = found.get("prompt_tokens", {}).get("mean", 0)
        cells = [cell(found.get(name)) for name in names] + [f"{tokens:.0f}" if tokens else "-"]
        label = f"*{condition.name}*" if condition.baseline else condition.name
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(found: Mapping[str, float] | None) -> str:
    """Such as ".284 ±.047"."""
    if not found:
        return "-"
    half = (found["high"] - found["low"]) / 2
    return f"{found['mean']:.3f} ±{half:.3f}".replace("0.", ".")
