"""What training says on the terminal: a run's steps as they come, and figures of what judges answers as tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.progress import can_draw, progress


@contextmanager
def steps(label: str, every: int = 10) -> Iterator[Callable[[Mapping[str, Any], int], None]]:
    """Yield a function to call with each step's record and the number of steps.

    A terminal shows the newest figures in a bar, and keeps the last line. Elsewhere a line is written at the first
    step, at every `every`th and at the last.
    """
    from prlm_edge.train.run.log import status

    live, n, last = can_draw(), 0, ""
    with progress(label, unit="steps", at_once=True) as update:

        def shown(record: Mapping[str, Any], n_steps: int) -> None:
            nonlocal n, last
            n, last = n + 1, status(record, n_steps)
            update(record["step"], n_steps or None, last)
            if not live and (n == 1 or n % every == 0 or record["step"] == n_steps):
                console.note(last)

        yield shown
    if live and last:
        console.note(last)


def show_reward(figures: Mapping[str, Any]) -> None:
    """A line a kind of pair: how often the model prefers the right one, and how often simple rules do."""
    alone = figures["alone"]
    rows = [["PAIRS", "N", "RIGHT", "95%", *(f"{name.upper()} ALONE" for name in alone)]]
    for kind, found in figures["accuracy"].items():
        interval = f"{found['low']:.2f} to {found['high']:.2f}"
        simple = [f"{by_kind[kind]:.2f}" for by_kind in alone.values()]
        rows.append([kind, str(found["n_rows"]), f"{found['mean']:.2f}", interval, *simple])
    console.table(rows, right=range(1, len(rows[0])))
    console.note(f"calibration error {figures['calibration']['ece']:.3f}")


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
