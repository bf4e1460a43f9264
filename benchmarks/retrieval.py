"""Retrieval as profiles grow: build, open, append, a title and a whole abstract as query; rank_bm25, bm25s and ours.

    python benchmarks/retrieval.py [--sizes 1000 10000 100000] [--words 60]

Made-up items of Zipf-distributed words. rank_bm25 is asked in memory up to 10,000 items (above, its query takes
seconds), bm25s with its own builder and defaults. Dense: the float32 scan of random unit vectors of 384 dimensions; a
query also has to be embedded, a row of its own.
Goals at 100,000 items: BM25 5 ms, dense 10 ms with embedding, open 50 ms.
"""

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import bm25s
import numpy as np
from _common import parser, peak_mb, report, spreads
from rank_bm25 import BM25Plus

from prlm_edge import models
from prlm_edge.retrieve.bm25 import Bm25Retriever
from prlm_edge.retrieve.bm25.engine import K1, B, PlainEngine
from prlm_edge.retrieve.dense.embedder import OnnxEmbedder
from prlm_edge.retrieve.ranking import top
from prlm_edge.retrieve.tokens import tokenize
from prlm_edge.types import Item

N_TERMS, K = 50_000, 8


def items_of(n: int, n_words: int, seed: int = 0) -> list[Item]:
    rng = np.random.default_rng(seed)
    words = [f"w{i:x}" for i in range(N_TERMS)]
    chances = 1 / np.arange(1, N_TERMS + 1)
    drawn = rng.choice(N_TERMS, (n, n_words), p=chances / chances.sum())
    texts = [" ".join(map(words.__getitem__, row)) for row in drawn.tolist()]
    return [Item(f"{seed}-{i}", text=text, title=text[:40]) for i, text in enumerate(texts)]


def timed(run: Callable[[], Any], rounds: int) -> dict[str, float]:
    values = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        values.append(1e3 * (time.perf_counter() - started))
    return spreads(values, "ms")


def main() -> None:
    options = parser(__doc__, 9)
    options.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    options.add_argument("--words", type=int, default=60)
    args = options.parse_args()
    rows: list[dict[str, Any]] = []
    embedder = OnnxEmbedder(models.resolve("minilm", kind="embedder"))

    def add(what: str, n: int, run: Callable[[], Any], rounds: int = args.rounds) -> None:
        measured = timed(run, rounds)
        rows.append({"what": what, "n_items": n, **measured, "peak_mb": round(peak_mb())})

    for n in args.sizes:
        items, new = items_of(n, args.words), items_of(1, args.words, seed=1)
        queries = {"title query": items[n // 2].title, "abstract query": " ".join(i.text for i in items[:3])}
        for item in (*items, *new):
            _ = item.search_hash  # a profile has them when it is open
        with tempfile.TemporaryDirectory() as home:
            os.environ["PRLM_HOME"] = home
            add("prlm-edge: build and keep", n, lambda i=items: Bm25Retriever(i, fast_from=0), 1)
            add("prlm-edge: open", n, lambda i=items: Bm25Retriever(i, fast_from=0))
            ours = Bm25Retriever(items, fast_from=0)
            add("prlm-edge: open after an append", n, lambda i=[*items, *new]: Bm25Retriever(i, fast_from=0))
            grown = Bm25Retriever([*items, *new], fast_from=0)
            for name, query in queries.items():
                add(f"prlm-edge: {name}", n, lambda q=query, r=ours: r.search(q, K))
                add(f"prlm-edge: {name} after an append", n, lambda q=query, r=grown: r.search(q, K))
        documents = [tokenize(item.searchable) for item in items]
        if n <= 10_000:
            add("prlm-edge: in memory, build", n, lambda d=documents: PlainEngine(d), 1)
            plain, theirs = PlainEngine(documents), BM25Plus(documents, k1=K1, b=B, delta=0)
            for name, query in queries.items():
                tokens = plain.known(tokenize(query))
                for what, scores in (("prlm-edge, in memory", plain.scores), ("rank_bm25", theirs.get_scores)):
                    add(f"{what}: {name}", n, lambda s=scores, t=tokens: top(s(t), K, positive=True), 3)
        theirs = bm25s.BM25()
        add("bm25s: build", n, lambda b=theirs, d=documents: b.index(d, show_progress=False), 1)
        for name, query in queries.items():
            tokens = [tokenize(query)]
            add(f"bm25s: {name}", n, lambda b=theirs, t=tokens: b.retrieve(t, k=K, show_progress=False))
        vectors = np.random.default_rng(0).standard_normal((n, 384), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        add("dense: scan and top", n, lambda v=vectors: top(v @ v[0], K, positive=False))
        add("dense: embed a title", n, lambda q=queries["title query"]: embedder.embed([q]))
    report("retrieval", rows, args.json)


if __name__ == "__main__":
    main()
