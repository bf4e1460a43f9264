"""Every benchmark in one run, one table, and each goal with what was measured; `make bench` calls it.

    python benchmarks/run.py [--quick] [--only decode,batch] [--data ../shared/data/acl_title/dev.jsonl.gz]

Each part runs in a process of its own and hands over JSON. Writes results/latest.json and results/README.md, with the
machine they were measured on. Takes some 30 minutes on two calm cores; `--quick` some 12, with fewer rounds.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from _common import machine, table

from prlm_edge import models

HERE = Path(__file__).parent
RESULTS = HERE / "results"


class Part(NamedTuple):
    """A script, its options, and its rounds in a full and in a quick run."""

    script: str
    options: tuple[str, ...]
    rounds: int
    quick: int


PARTS = {
    "decode": Part("decode.py", (), 7, 2),
    "decode-busy": Part("decode.py", ("--busy",), 7, 2),
    "batch": Part("batch.py", (), 5, 2),
    "fresh": Part("fresh.py", (), 7, 2),
    "answer": Part("answer.py", (), 7, 2),
    "engines": Part("engines.py", (), 5, 2),
    "server": Part("server.py", (), 5, 2),
    "growth": Part("growth.py", (), 3, 1),
    "startup": Part("startup.py", ("--sizes", "100000"), 5, 2),
    "retrieval": Part("retrieval.py", ("--sizes", "1000", "10000", "100000"), 9, 3),
    "help": Part("help_latency.py", (), 40, 10),
    "training": Part("training.py", (), 3, 1),
}


def value(parts: dict[str, Any], part: str, what: str, key: str) -> float | None:
    """One figure of the last row of that name (the largest size)."""
    rows = parts.get(part, {}).get("rows", ())
    return next((row[key] for row in reversed(rows) if row["what"] == what and key in row), None)


def goals(parts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each goal, what was measured, and whether that meets it."""

    def judge(what: str, limit: float, measured: float | None, *, at_most: bool) -> dict[str, Any]:
        met = "" if measured is None else ("yes" if (measured <= limit) == at_most or measured == limit else "no")
        sign = "<=" if at_most else ">="
        return {
            "goal": what,
            "limit": f"{sign} {limit:g}",
            "measured": measured if measured is not None else "-",
            "met": met,
        }

    decode = value(parts, "decode", "prlm-edge", "ratio_median")
    yield judge("decode speed / raw llama.cpp loop", 0.97, decode, at_most=False)
    eight = value(parts, "batch", "best of 8", "ratio_median")
    yield judge("best of 8 / one answer", 2.5, eight, at_most=True)
    for what in ("Writer", "CLI"):
        first = value(parts, "fresh", f"{what}, prefix cached on disk", "first_token_s_median")
        yield judge(f"fresh process, cached prefix, {what}: s to first token", 0.5, first, at_most=True)
    for what, limit in (("title of a draft", 1.0), ("subject of a diff", 1.2), ("title for three words", 0.8)):
        whole = value(parts, "answer", what, "answer_s_median")
        yield judge(f"fresh process, {what}: s to the whole answer", limit, whole, at_most=True)
    for what, limit in (("title query", 5), ("abstract query", 5), ("open", 50), ("open after an append", 50)):
        took = value(parts, "retrieval", f"prlm-edge: {what}", "ms_median")
        yield judge(f"BM25, 100,000 items: {what}, ms", limit, took, at_most=True)
    steps = ("embed a title", "scan and top")
    found = [took for what in steps if (took := value(parts, "retrieval", f"dense: {what}", "ms_median")) is not None]
    dense = sum(found) if len(found) == len(steps) else None
    yield judge("dense, 100,000 items: embed a title and scan, ms", 10, dense, at_most=True)
    for reasoning in ("off", "on"):
        rate = value(parts, "batch", f"evaluation, reasoning {reasoning}, batched", "ratio_median")
        yield judge(f"evaluation, batched / one at a time, reasoning {reasoning}", 2, rate, at_most=False)
    busy, calm = (value(parts, name, "prlm-edge", "decode_tps_median") for name in ("decode-busy", "decode"))
    yield judge("decode beside a busy process / calm", 0.5, busy / calm if busy and calm else None, at_most=False)
    p95 = value(parts, "help", "prlm-edge --help", "ms_p95")
    yield judge("prlm-edge --help in a fresh process, p95 ms", 150, p95, at_most=True)
    rollouts = value(parts, "training", "TRL: as many tokens", "ours_ratio_median")
    yield judge("GRPO rollouts, samples/s / TRL's own generation of as many tokens", 3, rollouts, at_most=False)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="fewer rounds")
    options.add_argument("--only", default="", help="parts, comma-separated; the others keep their last figures")
    options.add_argument("--data", type=Path, help="users of a real data set, for batch.py")
    args = options.parse_args()
    latest = RESULTS / "latest.json"
    parts = json.loads(latest.read_text())["parts"] if args.only and latest.exists() else {}
    for name in args.only.split(",") if args.only else PARTS:
        part = PARTS[name]
        more = ["--data", str(args.data)] if name == "batch" and args.data else []
        rounds = part.quick if args.quick else part.rounds
        more += ["--rounds", str(rounds)] if rounds else []
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [sys.executable, str(HERE / part.script), *part.options, *more, "--json", out.name]
            subprocess.run(command, check=True)
            parts[name] = json.loads(Path(out.name).read_text())
    path = models.resolve("default")
    facts = machine() | {"model": path.name, "model_sha256": models.sha256_of(path)[:16]}
    facts |= {"date": datetime.datetime.now().astimezone().date().isoformat(), "quick": args.quick}
    RESULTS.mkdir(exist_ok=True)
    judged = list(goals(parts))
    latest.write_text(json.dumps({"machine": facts, "goals": judged, "parts": parts}, indent=1) + "\n")
    text = "# Results\n\nWritten by `make bench`; `latest.json` has the same.\n\n"
    text += table([{"": key, " ": fact} for key, fact in facts.items()]) + "\n\n## Goals\n\n" + table(judged) + "\n"
    for name, part in parts.items():
        text += f"\n## {name}\n\n{table(part['rows'])}\n"
    (RESULTS / "README.md").write_text(text)
    print(f"\ngoals\n{table(judged)}")


if __name__ == "__main__":
    main()
