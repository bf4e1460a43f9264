"""Best of n against one answer, and an evaluation set in batches against one request at a time.

    python benchmarks/batch.py [MODEL.gguf] [--data ../shared/data/acl_title/dev.jsonl.gz] [--users 16]

Best of n: one prompt of about 500 tokens (4 past items), reasoning and answer of at most 32 tokens each, sampled; the
time of the whole answer against n = 1, the prompt evaluated again each time. Goal: n = 8 at most 2.5.
Evaluation: real requests of `--users` users (made-up ones without --data), k = 4, greedy, through `stream_many` and one
by one. Goal: at least twice the users a minute.
"""

import gzip
import json
import time
from dataclasses import replace
from pathlib import Path

from _common import POST, parser, ratios, report, spreads

from prlm_edge import tasks
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.prompt import Renderer
from prlm_edge.retrieve import make_retriever
from prlm_edge.style import style_of
from prlm_edge.types import Item, Request, Sampling, Turn

SIZES = (1, 2, 4, 8, 16)


def users_of(path: Path | None, n_users: int) -> list[tuple[list[Item], str]]:
    """(profile, query) of each user."""
    if path is None:
        items = [Item(f"i{i}", POST.format(i) * 3, f"the loaf of week {i}") for i in range(40)]
        return [(items[u : u + 20], POST.format(u) * 2) for u in range(n_users)]
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for _, line in zip(range(n_users), stream, strict=False)]
    return [
        ([Item(str(i), p["text"], p["title"]) for i, p in enumerate(r["profile"])], r["query"]["text"]) for r in rows
    ]


def prompts_of(backend: LlamaCpp, users: list[tuple[list[Item], str]], *, reasoning: bool) -> list[tuple[Turn, ...]]:
    task = tasks.get_task("title")
    prompts = []
    for items, query in users:
        hits = make_retriever("bm25", items, cache=False).search(query, 4)
        renderer = Renderer(task, backend, style_of([item.title for item in items]), "turns", reasoning)
        prompts.append(renderer.render(query, hits, 4000).turns)
    return prompts


def timed(backend: LlamaCpp, requests: list[Request]) -> tuple[float, int]:
    """Seconds and tokens drawn, the prompt evaluated again."""
    if backend._context:
        backend._context.roll_back(0)
    tokens, started = 0, time.perf_counter()
    for _, event in backend.stream_many(requests):
        if event.completion:
            tokens += event.completion.usage.reasoning_tokens + event.completion.usage.answer_tokens
    return time.perf_counter() - started, tokens


def main() -> None:
    options = parser(__doc__, 5, model=True)
    options.add_argument("--data", type=Path)
    options.add_argument("--users", type=int, default=16)
    args = options.parse_args()
    backend = LlamaCpp(args.model, prefix_cache="off")
    users = users_of(args.data, args.users)
    turns = prompts_of(backend, users[:1], reasoning=True)[0]
    one = Request(turns, Sampling(0.8), reasoning_tokens=32, answer_tokens=32)
    times: dict[int, list[float]] = {n: [] for n in SIZES}
    drawn = dict.fromkeys(SIZES, 0)
    for round_ in range(args.rounds + 1):
        for n in SIZES:
            seeds = range(100 * round_, 100 * round_ + n)
            seconds, tokens = timed(backend, [replace(one, sampling=Sampling(0.8, seed=seed)) for seed in seeds])
            if round_:  # the first round warms up
                times[n].append(seconds)
                drawn[n] += tokens
    rows = [
        {
            "what": f"best of {n}",
            "prompt_tokens": backend.count_turns(turns),
            "tokens": drawn[n] // args.rounds,
            **spreads(times[n], "s"),
            **ratios(times[n], times[1]),
        }
        for n in SIZES
    ]
    for reasoning in (False, True):
        prompts = prompts_of(backend, users, reasoning=reasoning)
        requests = [Request(p, reasoning_tokens=48 * reasoning, answer_tokens=32) for p in prompts]
        alone, together = [], []
        for _ in range(max(args.rounds // 2, 1)):
            alone.append(sum(timed(backend, [request])[0] for request in requests))
            together.append(timed(backend, requests)[0])
        for what, seconds in (("one at a time", alone), ("batched", together)):
            rate = [60 * len(requests) / s for s in seconds]
            rows.append(
                {
                    "what": f"evaluation, reasoning {'on' if reasoning else 'off'}, {what}",
                    "prompt_tokens": sum(map(backend.count_turns, prompts)) // len(prompts),
                    **spreads(rate, "users_per_min"),
                    **ratios(alone, seconds),
                }
            )
    report("batch", rows, args.json)


if __name__ == "__main__":
    main()
