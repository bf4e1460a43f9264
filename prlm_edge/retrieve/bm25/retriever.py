"""BM25 retrieval: an index in memory for small profiles, a kept one for large ones, bit for bit the same scores.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with the idf of Lv and Zhai's
BM25+ (CIKM 2011), log((N + 1) / df), and no lower bound (delta = 0): Okapi's idf is zero or below for terms of small
profiles, this one is always positive, and an item without a query term scores exactly 0. rank_bm25's BM25Plus, which
builds in 80 ms for 1,000 items after an import of 45, gives the same bits; this takes 20.
"""

from __future__ import annotations

from collections.abc import Sequence

from prlm_edge.retrieve.bm25.engine import Bm25Engine, DamagedIndexError, PlainEngine, Progress, RankBm25Engine, watched
from prlm_edge.retrieve.ranking import Match, Ranker, top
from prlm_edge.retrieve.tokens import tokenize
from prlm_edge.types import Item

FAST_FROM = 2000  # items from which the kept index is quicker, counting the first building
MAX_QUERY_TOKENS = 512  # of those the profile knows; a whole diff as query stays affordable


class Bm25Retriever(Ranker):
    """BM25 over `Item.searchable`.

    From `FAST_FROM` items on, an index is kept in the cache folder and memory-mapped; below, the profile is read again
    in every process, which takes less time than it takes to import NumPy. Without the cache rank_bm25 scores it.
    """

    name = "bm25"

    def __init__(
        self, items: Sequence[Item], *, cache: bool = True, progress: Progress | None = None, fast_from: int = FAST_FROM
    ) -> None:
        super().__init__(items)
        self._cache, self._progress = cache, progress
        self._fast = len(items) >= fast_from
        self._engine = self._open()

    def rank(self, query: str, k: int) -> list[Match]:
        """The `k` items with the highest BM25 above 0, ties by file order; `parts` has the score as "bm25"."""
        tokens = self._engine.known(tokenize(query))[:MAX_QUERY_TOKENS] if self._engine else []
        if self._engine is None or not tokens:
            return []
        try:
            scores = self._engine.scores(tokens)
        except DamagedIndexError:
            self._engine, self._cache = self._open(), False  # where it can't be deleted it is not opened again
            return self.rank(query, k)
        return [Match(i, float(scores[i]), {"bm25": float(scores[i])}) for i in top(scores, k, positive=True)]

    def _open(self) -> Bm25Engine | None:
        if self._fast:
            from prlm_edge.retrieve.bm25.store import open_index

            index, note = open_index(self.items, cache=self._cache, progress=self._progress)
            self.notes = (note,) if note else ()
            return index
        documents = [tokenize(item.searchable) for item in watched(self.items, self._progress)]
        engine = PlainEngine if self._cache else RankBm25Engine
        return engine(documents) if any(documents) else None
