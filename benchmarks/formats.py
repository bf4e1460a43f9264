"""Exported formats side by side: size, load, prompt and decode speed, peak memory; with --data also their answers.

    python benchmarks/formats.py q8_0=voice/voice-q8_0.gguf q4_0=voice4/voice-q4_0.gguf lora=default,voice-lora.gguf \\
        onnx=voice-onnx [--rounds 5] [--data ../shared/data/acl_title/dev.jsonl.gz --limit 100] [--trained RUN]

NAME=MODEL[,ADAPTER]: a name, a GGUF file, an ONNX folder, what `prlm-edge export` wrote; over it a LoRA-GGUF, or
"bundled" for the one that comes with prlm-edge. Without an adapter even the default model is run as it was pulled.

In each round every format, in turn and in a process of its own, is opened as users open it and asked for long texts,
each on a fresh ~300-token prompt, until 64 tokens were decoded. "load" is from the runtime's import to the first token
of a short request, of files that were read before. Ratios are to the first format, round by round.

--data (several make a mixture): one request of each of --limit users of each, answered as `prlm-edge eval run` does
(greedy, in batches, at once); "equal" counts the answers that are, letter for letter, the first row's, and ROUGE-L's
difference from it has a 95% interval, paired by user. --trained: the first row is a run's adapter over its base in
PyTorch, in 32 bits, before any export.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from _common import TEXT, measure, parser, peak_mb, ratios, report, spread, spreads

from prlm_edge import models
from prlm_edge.backends import model_file
from prlm_edge.errors import PrlmError
from prlm_edge.models import adapters
from prlm_edge.settings import Settings
from prlm_edge.types import Request, Span, Turn

N_TOKENS, MOST_ASKED = 64, 16
SHORT = Request((Turn("user", (Span("Name a loaf."),)),), reasoning_tokens=0, answer_tokens=1)
Answers = dict[str, tuple[str, float, float, str]]
MEASURES = ("load_s", "prompt_tps", "decode_tps", "peak_mb")


class Format(NamedTuple):
    """What is measured; `adapter` is a file, an installed adapter's name, or "none"."""

    name: str
    model: str
    adapter: str

    @property
    def argument(self) -> str:
        return f"{self.name}={self.model},{self.adapter}"

    def files(self) -> list[Path]:
        """The model's file, or all of its folder, and the adapter's."""
        path = model_file(self.model)
        over = [] if self.adapter == adapters.NONE else [models.adapter(self.adapter)]
        return [*(path.iterdir() if path.is_dir() else [path]), *over]


def format_of(text: str) -> Format:
    name, _, of = text.partition("=")
    model, _, adapter = of.partition(",")
    if not (name and model):
        raise argparse.ArgumentTypeError(f"{text!r} does not read NAME=MODEL or NAME=MODEL,ADAPTER")
    if adapter == "bundled":
        adapter = str(adapters.ours_for(model) or adapters.NONE)
    return Format(name, model, adapter or adapters.NONE)


def speed(one: Format, _args: argparse.Namespace) -> dict[str, float]:
    """The measures of a process that has just begun."""
    began = time.perf_counter()
    from prlm_edge.backends import open_backend

    backend = open_backend(Settings(model=one.model, adapter=one.adapter, prefix_cache="off"))
    list(backend.stream(SHORT))
    loaded = time.perf_counter() - began
    read = read_s = decoded = decode_s = 0.0
    for n in range(MOST_ASKED + 1):
        system = Turn("system", (Span(f"{n} is your number. You tell long stories."),))  # so that nothing is cached
        turns = (system, Turn("user", (Span(TEXT + "Tell a story about it."),)))
        *_, done = backend.stream(Request(turns, reasoning_tokens=0, answer_tokens=N_TOKENS, multiline=True))
        assert done.completion
        usage = done.completion.usage
        assert usage.cached_tokens == 0, usage
        if n == 0:  # warms up
            continue
        read, read_s = read + usage.prompt_tokens, read_s + usage.prefill_s
        if usage.answer_tokens > 1:  # the first one comes with the prompt
            decoded, decode_s = decoded + usage.answer_tokens - 1, decode_s + usage.decode_s
        if decoded >= N_TOKENS - 1:
            break
    if not decoded:
        raise SystemExit(f"{one.name}: answers nothing to {MOST_ASKED} requests")
    backend.close()
    return dict(zip(MEASURES, (loaded, read / read_s, decoded / decode_s, peak_mb()), strict=True))


def quality(one: Format, args: argparse.Namespace) -> dict[str, Any]:
    """What an evaluation finds: by row who asked, ROUGE-1, ROUGE-L and the answer; and its pace, loading included."""
    from prlm_edge.evaluate.conditions import make
    from prlm_edge.evaluate.data import load
    from prlm_edge.evaluate.provenance import header
    from prlm_edge.evaluate.run_folder import RunFolder
    from prlm_edge.evaluate.runner import answer_all

    condition = make(one.name, {"model": one.model, "adapter": one.adapter, "reasoning": "off"})
    found: Answers = {}
    seconds = 0.0
    for file in args.data:
        data = load(file, limit=args.limit, per_user=1)
        with tempfile.TemporaryDirectory(prefix="prlm-edge-bench-") as work:
            run = RunFolder.create(Path(work), header(data, [condition], 0, "benchmarks/formats.py"))
            began = time.perf_counter()
            answer_all(run, data, [condition])
            seconds += time.perf_counter() - began
            for said in run.answers():
                found[f"{file}/{said.row}"] = judged(said.user, said.answer, said.target)
    return {"answers": found, "users_per_min": 60 * len(found) / seconds}


def trained(one: Format, args: argparse.Namespace) -> dict[str, Any]:
    """The same of a run's adapter (`one.model`) in PyTorch, from the same prompts."""
    from prlm_edge.evaluate.data import load
    from prlm_edge.export import merge
    from prlm_edge.export.source import open_source
    from prlm_edge.train import base
    from prlm_edge.train.data.prompts import ask_of
    from prlm_edge.train.grpo.rollout_hf import HfDrawer
    from prlm_edge.types import Sampling
    from prlm_edge.writer import Asker

    source = open_source(Path(one.model), model=args.base)
    recipe = source.recipe.model_copy(update={"base": source.recipe.base.model_copy(update={"precision": "fp32"})})
    tokens, asker, settings = base.load_tokens(source.base, 2048), Asker(), Settings(reasoning="off")
    rows = {f"{file}/{row.id}": row for file in args.data for row in load(file, limit=args.limit, per_user=1).rows}
    plans = [
        asker.plan(row.query, row.profile, replace(settings, task=row.task), tokens.prompts, tokens.info)
        for row in rows.values()
    ]
    asks = [ask_of(row, plan) for row, plan in zip(rows.values(), plans, strict=True)]
    engine = HfDrawer(recipe, source.base, tokens)
    engine.load(merge.adapted(source.base, source.adapter))
    began = time.perf_counter()
    said = engine.best(asks, Sampling(temperature=0.0, repeat_penalty=settings.repeat_penalty))
    seconds = time.perf_counter() - began
    found = {
        key: judged(row.user, told.said.answer, row.target) for (key, row), told in zip(rows.items(), said, strict=True)
    }
    return {"answers": found, "users_per_min": 60 * len(found) / seconds}


def judged(user: str, answer: str, target: str) -> tuple[str, float, float, str]:
    from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_l

    ours, theirs = Counted(answer), Counted(target)
    return user, rouge_1(ours, theirs), rouge_l(ours, theirs), answer


PARTS = {"speed": speed, "quality": quality, "trained": trained}


def child(part: str, one: Format, args: argparse.Namespace, _round: int = 0) -> dict[str, Any]:
    """A part in a process of its own."""
    command = [sys.executable, __file__, one.argument, "--part", part]
    command += ["--base", args.base, "--limit", str(args.limit)]
    command += [word for file in args.data for word in ("--data", str(file))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{one.name}: {part} failed with {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def speeds(args: argparse.Namespace) -> list[dict[str, Any]]:
    sizes = [sum(path.stat().st_size for path in one.files()) / (1 << 20) for one in args.formats]
    runs = {one.name: functools.partial(child, "speed", one, args) for one in args.formats}
    found = measure(runs, args.rounds)  # the round that warms up reads the files, and hashes them
    rows = []
    first = next(iter(found.values()))
    for (name, rounds), size in zip(found.items(), sizes, strict=True):
        row: dict[str, Any] = {"what": name, "size_mb": size, "size_ratio": size / sizes[0]}
        for what in MEASURES:
            values, base = ([one[what] for one in some] for some in (rounds, first))
            row |= spreads(values, what) if what == "decode_tps" else {f"{what}_median": spread(values)["median"]}
            row[f"{what.rpartition('_')[0]}_ratio"] = ratios(values, base)["ratio_median"]
        rows.append(row)
    return rows


def qualities(args: argparse.Namespace) -> list[dict[str, Any]]:
    from prlm_edge.evaluate.stats import difference, estimate

    asked = [("quality", one) for one in args.formats]
    if args.trained:
        asked.insert(0, ("trained", Format("trained", str(args.trained), adapters.NONE)))
    found = {one.name: child(part, one, args) for part, one in asked}
    first, rows = next(iter(found.values()))["answers"], []
    for name, one in found.items():
        some: Answers = one["answers"]
        rouge1 = estimate((user, value) for user, value, _, _ in some.values())
        apart = difference(*({row: (said[0], said[2]) for row, said in each.items()} for each in (first, some)))
        assert rouge1, "rows are read before they are answered"
        assert apart
        rows.append(
            {
                "what": name,
                "users": apart.n_users,
                "users_per_min": one["users_per_min"],
                "rouge1": rouge1.mean,
                "rouge1_95": f"{rouge1.low:.3f} to {rouge1.high:.3f}",
                "rougeL": apart.b,
                "rougeL_change_95": f"{apart.low:+.3f} to {apart.high:+.3f}",
                "equal": f"{sum(some[row][3] == said[3] for row, said in first.items())} of {len(first)}",
            }
        )
    return rows


def main() -> None:
    options = parser(__doc__, 5)
    options.add_argument("formats", nargs="+", type=format_of, metavar="NAME=MODEL[,ADAPTER]")
    options.add_argument("--data", type=Path, action="append", default=[], help="a data set, to compare answers on")
    options.add_argument("--limit", type=int, default=100, help="users of each")
    options.add_argument("--trained", type=Path, metavar="RUN", help="a training run, whose answers are the first row")
    options.add_argument("--base", default="default", help="what that run was trained on")
    options.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.trained and not args.data:
        options.error("--trained needs --data")
    if len({one.name for one in args.formats}) < len(args.formats):
        options.error("two formats of one name")
    try:
        if args.part:
            print(json.dumps(PARTS[args.part](args.formats[0], args)))
            return
        rows = {one["what"]: one for one in (speeds(args) if args.rounds else ())}
        for one in qualities(args) if args.data else ():
            rows[one["what"]] = {**rows.get(one["what"], {}), **one}
    except PrlmError as error:
        raise SystemExit(f"{error.message}: {error.hint}") from None
    report("formats", list(rows.values()), args.json)


if __name__ == "__main__":
    main()
