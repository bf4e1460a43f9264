"""Start-up, step by step, in fresh processes: from the interpreter's first line to the items that a request was given.

    python benchmarks/startup.py [--sizes 1000 10000 100000] [--words 60] [--change 0]

Profiles of made-up items, read without a cache, taken over from it, and after 100 items were appended; in each round
side by side. The model is a scripted one: fresh.py has the real ones. "open" is Writer.open, "loading" the first event,
"pool" the items that the task learns from and their style, "index" the retriever with its first search, where numpy is
imported. Goal: at most 0.25 s for "open" and "pool" together at 100,000 items.
"""

import itertools
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import fresh, medians, parser, report, spread, spreads

STEPS = """
import sys, time
marks = [time.perf_counter()]
def mark(): marks.append(time.perf_counter())
import prlm_edge; mark()
from prlm_edge import Writer; mark()
writer = Writer.open(sys.argv[1], model="smollm2-135m"); mark()
stream = writer.stream("title for my post on w1 and w20 beside w300"); assert next(stream).type == "loading"; mark()
from prlm_edge.backends.scripted import Scripted
from prlm_edge import tasks
from prlm_edge.retrieve import make_retriever
from prlm_edge.writer import make_pool
mark()
writer.profile.refresh()
pool = make_pool(writer.profile, tasks.get_task("title", None)); mark()
early = [name for name in ("numpy", "torch", "llama_cpp") if name in sys.modules]
make_retriever("bm25", pool.items).search("w1 and w20 beside w300", 4); mark()
answer = Writer(writer.profile, writer.settings, Scripted(["<answer>x</answer>"])).generate("title for w20")
import json
from prlm_edge import cpu
peak = (cpu.peak_memory() or 0) / 1e6
print(json.dumps([[1e3 * (b - a) for a, b in zip(marks, marks[1:])], peak, early, len(answer.used)]))
"""
COLUMNS = ("import_package", "import_writer", "open", "loading", "import_rest", "pool", "index")


def write_profile(path: Path, n: int, n_words: int, n_change: int) -> None:
    """Items of Zipf-distributed words, with `n_change` words more as a commit's change."""
    words = [f"w{i:x}" for i in range(50_000)]
    chances, dice = list(itertools.accumulate(1 / i for i in range(1, 50_001))), random.Random(0)
    with path.open("w") as stream:
        for i in range(n):
            drawn = dice.choices(words, cum_weights=chances, k=n_words)
            item: dict[str, Any] = {
                "id": f"i{i}",
                "title": " ".join(drawn[:8]),
                "text": " ".join(drawn),
                "date": f"2025-{i % 12 + 1}",
            }
            if n_change:
                item["meta"] = {"change": " ".join(dice.choices(words, cum_weights=chances, k=n_change))}
            stream.write(json.dumps(item) + "\n")


def run(profile: Path, home: Path) -> tuple[list[float], float]:
    """Milliseconds of each of `COLUMNS`, and peak memory in MB."""
    steps, peak, early, n_used = fresh(STEPS, str(profile), home=home)
    assert n_used and not early, (n_used, early)
    return steps, peak


def main() -> None:
    options = parser(__doc__, 7)
    options.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    options.add_argument("--words", type=int, default=60)
    options.add_argument("--change", type=int, default=0)
    args = options.parse_args()
    rows: list[dict[str, Any]] = []
    for n in args.sizes:
        figures: dict[str, list[tuple[list[float], float]]] = {}
        with tempfile.TemporaryDirectory() as folder:
            home, profile, grown = Path(folder, "home"), Path(folder, "me.jsonl"), Path(folder, "grown.jsonl")
            write_profile(profile, n, args.words, args.change)
            shutil.copy(profile, grown)
            time.sleep(2.1)  # a file that was changed just now has to be looked at again
            run(profile, home)
            profile_mb = profile.stat().st_size / 1e6
            for round_ in range(args.rounds):
                shutil.rmtree(home / "cache" / "profiles", ignore_errors=True)
                figures.setdefault("read whole", []).append(run(profile, home))
                figures.setdefault("unchanged", []).append(run(profile, home))
                shutil.copy(profile, grown)
                run(grown, home)
                with grown.open("a") as stream:
                    more = [{"id": f"n{round_}.{i}", "title": f"w{i} w20 new", "text": "w3 " * 60} for i in range(100)]
                    stream.writelines(json.dumps(item) + "\n" for item in more)
                figures.setdefault("100 items appended", []).append(run(grown, home))
        for what, measured in figures.items():
            steps = medians([steps for steps, _ in measured])
            rows.append(
                {
                    "what": what,
                    "n_items": n,
                    "profile_mb": round(profile_mb, 1),
                    **{f"{name}_ms": value for name, value in zip(COLUMNS, steps, strict=True)},
                    **spreads([steps[2] + steps[5] for steps, _ in measured], "open_and_pool_ms"),
                    "peak_mb": spread([peak for _, peak in measured])["median"],
                }
            )
    report("start-up", rows, args.json)


if __name__ == "__main__":
    main()
