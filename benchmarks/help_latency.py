"""How long `prlm-edge --help` takes in a fresh process, compared with an empty Python and a plain Typer app in one run.

    python benchmarks/help_latency.py [--rounds 40]

They are measured in turn, so that a busy neighbour slows them alike: read the ratios. The CPU time hardly depends on
what else is running. Goal: at most 150 ms at the 95th percentile.
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from _common import measure, parser, ratios, report, spreads

TYPER_APP = """import typer
app = typer.Typer()
@app.command()
def one(name: str = "x", count: int = 1): "One."
@app.command()
def two(name: str = "x", count: int = 1): "Two."
app()
"""


def timed(command: list[str], _round: int) -> tuple[float, float]:
    """Wall clock and CPU time of a fresh process, in ms."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall * 1000, cpu * 1000


def main() -> None:
    args = parser(__doc__, 40).parse_args()
    python, prlm = sys.executable, str(Path(sys.executable).with_name("prlm-edge"))
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.py"
        app.write_text(TYPER_APP)
        commands = {
            "python -c pass": [python, "-c", "pass"],
            "prlm-edge --help": [prlm, "--help"],
            "prlm-edge config --help": [prlm, "config", "--help"],
            "plain Typer app --help": [python, str(app), "--help"],
        }
        found = measure({name: partial(timed, command) for name, command in commands.items()}, args.rounds)
    base = [wall for wall, _ in found["python -c pass"]]
    rows = []
    for name, times in found.items():
        walls, cpus = (list(column) for column in zip(*times, strict=True))
        p95 = sorted(walls)[min(len(walls) - 1, int(0.95 * len(walls)))]
        row = {"what": name, **spreads(walls, "ms"), "ms_p95": p95, "cpu_ms": sum(cpus) / len(cpus)}
        rows.append({**row, "ratio_median": ratios(walls, base)["ratio_median"]})
    report("help", rows, args.json)


if __name__ == "__main__":
    main()
