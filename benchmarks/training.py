"""Training: GRPO's rollouts against TRL's own generation, where a GRPO step's time goes, and the warm start's pace.

    python benchmarks/training.py [MODEL.gguf] [--rounds 3] [--prompts 4] [--group 8] [--only rollouts]

Rows are made of the example profile: each newer post is asked for, with all older ones as its profile. The recipe is
`edge-cpu`: SmolLM2-135M in bf16 under a LoRA adapter; rollouts reason before they answer. Each part has a process of
its own.

Rollouts: our engine takes over the policy's adapter (written to disk) and draws; TRL's GRPOTrainer draws for the very
same prompt tokens by Transformers' `generate`, all in one batch. Twice: just as many tokens a sample as ours drew on
average in that round (nobody waits for a long one, which is to TRL's favour), and as it is by default, up to the same
budget. Goal: three times TRL's samples/s, each of as many tokens.

A step: its parts, and the forward and backward passes by TRL's own way, in which each completion carries its prompt.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import parser, ratios, report, spread

PARTS = Path(__file__).with_name("_training_parts.py")
OURS, AS_MANY, TO_THE_END = "prlm-edge: adapter and draw", "TRL: as many tokens", "TRL: until they end"
LEARNING = "forward and backward"
APART = f"TRL: {LEARNING}, a row for each completion"


class Child:
    """A part in a process of its own."""

    def __init__(self, part: str, args: argparse.Namespace) -> None:
        command = [sys.executable, str(PARTS), part]
        for name in ("model", "work", "steps", "prompts", "group"):
            command += [f"--{name}", str(getattr(args, name))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if part in ("ours", "theirs"):
            self._line()

    def ask(self, **values: Any) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(values) + "\n")
        self._process.stdin.flush()
        return self.figures()

    def figures(self) -> dict[str, Any]:
        return dict(json.loads(self._line()))

    def end(self) -> None:
        self._process.communicate()
        if self._process.returncode:
            raise SystemExit(self._failed())

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(self._failed())
        return line

    def _failed(self) -> str:
        return f"failed with {self._process.wait()}: {' '.join(map(str, self._process.args))}"  # type: ignore[arg-type]


def once(part: str, args: argparse.Namespace) -> dict[str, Any]:
    child = Child(part, args)
    found = child.figures()
    child.end()
    return found


def rollouts(args: argparse.Namespace) -> list[dict[str, Any]]:
    ours, theirs = Child("ours", args), Child("theirs", args)
    figures: dict[str, list[dict[str, Any]]] = {OURS: [], AS_MANY: [], TO_THE_END: []}
    for round_ in range(args.rounds + 1):
        drawn = ours.ask(round=round_)
        found = {
            OURS: drawn,
            AS_MANY: theirs.ask(round=round_, tokens=round(drawn["tokens"] / drawn["samples"])),
            TO_THE_END: theirs.ask(round=round_, tokens=0),
        }
        if round_:  # the first round warms up
            for name, one in found.items():
                figures[name].append(one)
    for child in (ours, theirs):
        child.end()
    rates = {name: [one["samples"] / one["seconds"] for one in some] for name, some in figures.items()}
    paces = {name: [one["tokens"] / one["seconds"] for one in some] for name, some in figures.items()}
    rows = [
        {
            "what": name,
            "samples": sum(one["samples"] for one in some),
            "tokens_a_sample": sum(one["tokens"] for one in some) / sum(one["samples"] for one in some),
            "samples_per_s": spread(rates[name])["median"],
            "tokens_per_s": spread(paces[name])["median"],
            **{f"ours_{key}": value for key, value in ratios(rates[OURS], rates[name]).items()},
            "ours_tokens_ratio": ratios(paces[OURS], paces[name])["ratio_median"],
        }
        for name, some in figures.items()
    ]
    rows[0]["adapter_s"] = spread([one["adapter_s"] for one in figures[OURS]])["median"]
    rows[0]["prompt_tokens"] = round(spread([one["prompt_tokens"] for one in figures[OURS]])["median"])
    return rows


def step(args: argparse.Namespace) -> list[dict[str, Any]]:
    found = once("step", args)
    parts = sorted(found["parts"].items(), key=lambda pair: -pair[1])  # the whole step comes first
    rows = [{"what": f"GRPO: {part}", "s": s, "share": s / found["parts"]["whole step"]} for part, s in parts]
    rows[0] |= {"samples": found["samples"], "peak_mb": found["peak_mb"]}
    theirs = once("apart", args)
    took = theirs["parts"][LEARNING]
    rows.append({"what": APART, "s": took, "peak_mb": theirs["peak_mb"], "ours_ratio": took / found["parts"][LEARNING]})
    return rows


def warm(args: argparse.Namespace) -> list[dict[str, Any]]:
    found = once("warm", args)
    pace = spread(found["tokens_per_s"])
    figures = {"samples": found["examples"], "tokens_a_sample": found["tokens"] / found["examples"]}
    return [{"what": "warm start", **figures, "tokens_per_s": pace["median"], "peak_mb": found["peak_mb"]}]


SECTIONS = {"rollouts": rollouts, "step": step, "warm": warm}


def main() -> None:
    options = parser(__doc__, 3)
    options.add_argument("model", nargs="?", default="default", help="a name or a GGUF file")
    options.add_argument("--steps", type=int, help="of GRPO and of the warm start, the first warms up; rounds + 1")
    options.add_argument("--prompts", type=int, default=4, help="a step")
    options.add_argument("--group", type=int, default=8, help="completions of a prompt")
    options.add_argument("--only", choices=SECTIONS, help="one of the three sections")
    args = options.parse_args()
    args.steps = args.steps or args.rounds + 1
    if args.steps < 2:
        options.error("--steps: at least 2")
    with tempfile.TemporaryDirectory(prefix="prlm-edge-bench-") as work:
        args.work = Path(work)
        once("prepare", args)
        sections = [args.only] if args.only else SECTIONS
        rows = [row for name in sections for row in SECTIONS[name](args)]
    report("training", rows, args.json)


if __name__ == "__main__":
    main()
