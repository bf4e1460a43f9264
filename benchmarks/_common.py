"""What the benchmarks share: medians with spread, the rows they report, the machine they ran on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prlm_edge import cpu

ROOT = Path(__file__).parents[1]
_PACKAGES = ("llama-cpp-python", "numpy", "onnxruntime", "rank_bm25", "bm25s", "torch", "transformers", "trl", "peft")


def parser(doc: str | None, rounds: int | None) -> argparse.ArgumentParser:
    """The options that every benchmark has; `rounds` is None for one that has none."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--json", type=Path, help="also write the figures to this file")
    return made


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile."""
    if len(values) < 2:
        return {"median": values[0], "p10": values[0], "p90": values[0]}
    low, *_, high = statistics.quantiles(values, n=10, method="inclusive")
    return {"median": statistics.median(values), "p10": low, "p90": high}


def ratios(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Spread of the ratio to `base`, round by round."""
    return {f"ratio_{key}": value for key, value in spread([a / b for a, b in zip(values, base, strict=True)]).items()}


def report(name: str, rows: list[dict[str, Any]], path: Path | None) -> None:
    """Print rows as a table and write them to `path`."""
    print(f"\n{name}\n{table(rows)}")
    if path:
        path.write_text(json.dumps({"name": name, "rows": rows}, indent=1) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table; the columns are all their keys, in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(column, "")) for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    total, _ = cpu.memory() or (0, 0)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "cpu": cpu.cpu_name(),
        "cores": cpu.usable_cores(),
        "flags": " ".join(cpu.cpu_flags() or ()),
        "memory_gib": round(total / (1 << 30)),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "load": round(os.getloadavg()[0], 2),
        "commit": commit.stdout.strip(),
    }


def busy_neighbour() -> subprocess.Popen[bytes]:
    """A process that never sleeps."""
    return subprocess.Popen([sys.executable, "-c", "while True: pass"])
