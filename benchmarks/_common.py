"""What the benchmarks share: options, made-up writing, fresh processes, medians with spread, rows, the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from prlm_edge import cpu
from prlm_edge.backends import model_file

ROOT = Path(__file__).parents[1]
POST = "The oven was cold and the dough was slow, and nobody wrote down what the weather did to the loaf in week {}. "
TEXT = "We study how loaves rise in a cold kitchen, and what a baker writes down about it. " * 16  # some 300 tokens
Figures = TypeVar("Figures")
_PACKAGES = ("llama-cpp-python", "numpy", "onnxruntime", "rank_bm25", "bm25s", "torch", "transformers", "trl", "peft")


def parser(doc: str | None, rounds: int | None, *, model: bool = False) -> argparse.ArgumentParser:
    """The options that benchmarks have in common.

    Args:
        doc: The benchmark's docstring.
        rounds: How many by default; None for a benchmark that has none.
        model: Whether it takes a model; by default the one that users run by default.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if model:
        made.add_argument("model", nargs="?", type=model_file, default="default", help="a name or a GGUF file")
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--json", type=Path, help="also write the figures to this file")
    return made


def write_profile(path: Path, n_items: int) -> None:
    """A profile of made-up posts, each of some 110 tokens."""
    items = (
        {"id": str(i), "text": POST.format(i) * 4, "title": f"the loaf of week {i}", "date": f"2025-{i % 12 + 1:02}"}
        for i in range(n_items)
    )
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def environment(home: str | Path) -> dict[str, str]:
    """Of a process whose files lie under `home`, compiled modules among them, which an installed package has.

    A clone may lack them, or be told not to write them: then each process compiles, for some 0.2 s.
    """
    ours = {"PRLM_HOME": str(home), "PYTHONPYCACHEPREFIX": str(Path(home, "compiled"))}
    return {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | ours


def fresh(code: str, *arguments: str, home: str | Path) -> Any:
    """What a fresh Python, whose files lie under `home`, prints as JSON in its last line."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment(home))
    return json.loads(done.stdout.splitlines()[-1])


def measure(runs: Mapping[str, Callable[[int], Figures]], rounds: int) -> dict[str, list[Figures]]:
    """Call each of `runs` in turn, round by round, with the round's number; the first round, 0, only warms up."""
    found: dict[str, list[Figures]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            figures = run(round_)
            if round_:
                found[name].append(figures)
    return found


def peak_mb() -> float:
    """The most memory that this process has held, in MB of 10^6 bytes."""
    return (cpu.peak_memory() or 0) / 1e6


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile."""
    if len(values) < 2:
        return {"median": values[0], "p10": values[0], "p90": values[0]}
    low, *_, high = statistics.quantiles(values, n=10, method="inclusive")
    return {"median": statistics.median(values), "p10": low, "p90": high}


def spreads(values: Sequence[float], prefix: str) -> dict[str, float]:
    """`spread` with a prefix before each name."""
    return {f"{prefix}_{key}": value for key, value in spread(values).items()}


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    """The median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def ratios(values: Sequence[float], base: Sequence[float], prefix: str = "ratio") -> dict[str, float]:
    """Spread of the ratio to `base`, round by round."""
    return spreads([a / b for a, b in zip(values, base, strict=True)], prefix)


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
