"""How long `prlm-edge --help` takes in a fresh process, compared with an empty Python and a plain Typer app in one run.

They are measured in turn, so that a busy neighbour slows them alike: read the ratios.

Run: .venv/bin/python benchmarks/help_latency.py
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 40
TARGET_MS = 150
TYPER_APP = """import typer
app = typer.Typer()
@app.command()
def one(name: str = "x", count: int = 1): "One."
@app.command()
def two(name: str = "x", count: int = 1): "Two."
app()
"""


def measure(command: list[str]) -> tuple[float, float]:
    """(wall clock, CPU time) of one fresh process in ms; the CPU time hardly depends on what else is running."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall * 1000, cpu * 1000


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    script = Path(sys.executable).with_name("prlm-edge")
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.py"
        app.write_text(TYPER_APP)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "prlm-edge --help": [str(script), "--help"],
            "prlm-edge config --help": [str(script), "config", "--help"],
            "plain Typer app --help": [sys.executable, str(app), "--help"],
        }
        for command in commands.values():
            measure(command)  # compiles and reads the files once
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                times[name].append(measure(command))
    walls = {name: [wall for wall, _ in values] for name, values in times.items()}
    base = statistics.median(walls["python -c pass"])
    print(
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.2f}, {RUNS} fresh processes each"
    )
    print(f"{'':<26}{'median ms':>10}{'p95 ms':>8}{'CPU ms':>8}{'x python -c pass':>18}")
    for name, values in times.items():
        wall, cpu = statistics.median(walls[name]), statistics.mean(cpu for _, cpu in values)
        print(f"{name:<26}{wall:>10.0f}{percentile(walls[name], 0.95):>8.0f}{cpu:>8.0f}{wall / base:>18.1f}")
    p95 = percentile(walls["prlm-edge --help"], 0.95)
    print(f"target: p95 <= {TARGET_MS} ms: {'met' if p95 <= TARGET_MS else 'MISSED'} ({p95:.0f} ms)")


if __name__ == "__main__":
    main()
