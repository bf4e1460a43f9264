"""Figures of what judges answers, as tables. Not here: what they mean (`prlm_edge.train.reward.evaluate`, `blend`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prlm_edge.cli.shared import console


def show_reward(figures: Mapping[str, Any]) -> None:
    """A line a kind of pair: how often the model prefers the right one, and how often simple rules do."""
    alone = figures["alone"]
    rows = [["PAIRS", "N", "RIGHT", "95%", *(f"{name.upper()} ALONE" for name in alone)]]
    for kind, found in figures["accuracy"].items():
        interval = f"{found['low']:.2f} to {found['high']:.2f}"
        simple = [f"{by_kind[kind]:.2f}" for by_kind in alone.values()]
        rows.append([kind, str(found["n_rows"]), f"{found['mean']:.2f}", interval, *simple])
    console.table(rows, right=range(1, len(rows[0])))
    shares = ", ".join(f"{one['margins']:.2f} {name}" for name, one in figures["explained"].items())
    console.note(f"calibration error {figures['calibration']['ece']:.3f}; explained of margins: {shares}")


def show_blend(path: Path) -> None:
    """The weights, what choosing by them is worth to users left out, and by how much more than one answer alone."""
    found = json.loads(path.read_bytes())
    console.table(
        [["EVIDENCE", "WEIGHT"], *([name, f"{one:+.4f}"] for name, one in found["weights"].items())], right=(1,)
    )
    figures = found["figures"]
    ways = ", ".join(f"{name} {figures[name]:.3f}" for name in ("random", "one answer", "agreement", "blend", "best"))
    gain = figures["gain"]
    console.note(f"mean of ROUGE-1 and -L: {ways}")
    console.note(f"blend over one answer {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]")
