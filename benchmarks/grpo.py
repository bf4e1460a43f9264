"""GRPO's settings side by side: one is changed at a time, from the same start, on the same prompts in the same order.

    python benchmarks/grpo.py --adapter warm/adapter --data train.jsonl.gz --dev dev.jsonl.gz --out sweep \\
        [--steps 20] [--recipe edge-cpu] [--set data.limit=200] [--only lr] [--json FILE]

Each setting is a run of `prlm-edge train grpo` in a folder of its own under --out: stopped or killed, the same command
goes on. "accuracy", "style" and "personalization" are mean rewards of what was drawn in the second half of the steps;
after them is the difference from the first row, with a 95% interval, paired by step. A group of another size
shares no steps with it.
Dev figures are means over greedy answers before the first step and after the last.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _common import parser, report

from prlm_edge.evaluate.stats import difference
from prlm_edge.train.run.log import Record, read_records

BASE = {"lr": "1e-4", "group_size": "8", "prompts": "4", "micro_batch": "8"}
WITHOUT = "no warm start"
SETTINGS: dict[str, dict[str, str]] = {
    "lr 1e-4, groups of 8, clipped at .2 and .28, beta 0, dapo": {},
    "lr 3e-4": {"lr": "3e-4"},
    "lr 3e-5": {"lr": "3e-5"},
    WITHOUT: {},
    "beta .04": {"beta": "0.04"},
    "loss dr_grpo": {"loss": "dr_grpo"},
    "loss grpo": {"loss": "grpo"},
    "clipped at .05 and .05": {"epsilon": "0.05", "epsilon_high": "0.05"},
    "terms summed, then normalized": {"aggregation": "sum_then_normalize"},
    "accuracy alone": {"rewards": "{accuracy: 1.0, format: 0.2, length: 0.2}"},
    "groups of 4": {"group_size": "4", "prompts": "8"},
    "groups of 16": {"group_size": "16", "prompts": "2"},
}


def run(name: str, changed: dict[str, str], args: argparse.Namespace) -> list[Record]:
    """Train, or go on, or find it done; the run's records."""
    out = args.out / "".join(letter if letter.isalnum() else "-" for letter in name)
    steps = str(args.steps)
    values = {**BASE, "steps": steps, "save_steps": steps, "eval_steps": steps, **changed}
    command = [sys.executable, "-m", "prlm_edge", "train", "grpo", "--recipe", args.recipe, "-o", str(out)]
    for option, files in (("--data", args.data), ("--dev", args.dev)):
        command += [word for file in files for word in (option, str(file))]
    command += [word for key, value in values.items() for word in ("--set", f"grpo.{key}={value}")]
    command += [word for one in args.set for word in ("--set", one)]
    command += [] if name == WITHOUT else ["--adapter", str(args.adapter)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return list(read_records(out / "run.jsonl"))


def row(name: str, records: Sequence[Record], base: Sequence[Record] | None) -> dict[str, Any]:
    late = second_half(records)
    found: dict[str, Any] = {"what": name, "steps": records[-1]["step"]}
    for term in ("accuracy", "style", "personalization"):
        values = by_step(late, lambda one, term=term: one["terms"].get(term))
        if not values:
            continue
        found[term] = sum(value for _, value in values.values()) / len(values)
        theirs = by_step(second_half(base or ()), lambda one, term=term: one["terms"].get(term))
        if theirs and base is not records:
            apart = difference(theirs, values)
            found[f"{term}_change"] = f"{apart.mean:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]" if apart else ""
    steps = [one for one in records if one["kind"] == "step"]
    dev = [one["figures"] for one in records if one["kind"] == "dev"]
    for figure in ("rouge1", "style"):
        if dev:
            found[f"dev_{figure}"] = f"{dev[0][figure]:.3f} to {dev[-1][figure]:.3f}"
    found["entropy"] = f"{steps[0]['entropy']:.2f} to {steps[-1]['entropy']:.2f}"
    for figure in ("clipped", "truncated", "zero_variance", "grad_norm", "step_s"):
        found[figure] = sum(one[figure] for one in steps) / len(steps)
    return found


def second_half(records: Sequence[Record]) -> list[Record]:
    steps = [one for one in records if one["kind"] == "step"]
    return steps[len(steps) // 2 :]


def by_step(steps: Sequence[Record], value: Callable[[Record], float | None]) -> dict[str, tuple[str, float]]:
    """A step's value as `difference` pairs them, which takes users: a step's completions aren't independent."""
    found = {str(one["step"]): value(one) for one in steps}
    return {step: (step, one) for step, one in found.items() if one is not None}


def main() -> None:
    options = parser(__doc__, None)
    options.add_argument("--adapter", type=Path, required=True, help="the warm start's")
    options.add_argument("--data", type=Path, action="append", required=True)
    options.add_argument("--dev", type=Path, action="append", default=[])
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--recipe", default="edge-cpu")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--only", action="append", default=[], help="of the settings, those whose names begin so")
    args = options.parse_args()
    first, *others = SETTINGS
    names = [first, *(name for name in others if not args.only or name.startswith(tuple(args.only)))]
    found = {name: run(name, SETTINGS[name], args) for name in names}
    same = [name for name in names if "group_size" not in SETTINGS[name]]
    report("grpo", [row(name, found[name], found[first] if name in same else None) for name in names], args.json)


if __name__ == "__main__":
    main()
