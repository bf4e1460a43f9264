"""What scores items for a query: the `Bm25Engine` protocol, and the engine of small profiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from prlm_edge.types import Item

if TYPE_CHECKING:
    from prlm_edge.retrieve.ranking import Scores

K1 = 1.5
B = 0.75
_STEP = 500  # items between two calls of `progress`

Progress = Callable[[int, int], None]


class DamagedIndexError(Exception):
    """A kept index turned out to be damaged; it has been deleted."""


class Bm25Engine(Protocol):
    """Scores all items for a query."""

    def known(self, tokens: Sequence[str]) -> list[str]:
        """The tokens that some item has, in order, repetitions kept."""
        ...

    def scores(self, tokens: Sequence[str]) -> Scores:
        """BM25 of every item, by its place; `tokens` are known ones, at least one."""
        ...


class PlainEngine:
    """An index of a small profile in memory, without NumPy, whose import takes as long as this does for 1,000 items.

    The operations and their order are rank_bm25's (BM25Plus, delta 0): so are the scores, bit for bit.

    Args:
        documents: Each item's tokens; at least one item has one.
    """

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        self._counts: dict[str, dict[int, int]] = {}  # of each term: how often items have it, by their places
        for place, document in enumerate(documents):
            for token in document:
                counts = self._counts.setdefault(token, {})
                counts[place] = counts.get(place, 0) + 1
        mean = sum(map(len, documents)) / len(documents)
        self._norm = [K1 * (1 - B + B * len(document) / mean) for document in documents]

    def known(self, tokens: Sequence[str]) -> list[str]:
        """See `Bm25Engine`."""
        return [token for token in tokens if token in self._counts]

    def scores(self, tokens: Sequence[str]) -> list[float]:
        """See `Bm25Engine`."""
        norm, scores = self._norm, [0.0] * len(self._norm)
        for token in tokens:
            counts = self._counts[token]
            idf = math.log((len(scores) + 1) / len(counts))
            for place, count in counts.items():
                scores[place] += idf * (count * (K1 + 1) / (norm[place] + count))
        return scores


class RankBm25Engine:
    """rank_bm25, the reference: it finds the nearest own text in an evaluation, and what is asked without the cache.

    Args:
        documents: Each item's tokens; at least one item has one.
    """

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        from rank_bm25 import BM25Plus

        self._bm25 = BM25Plus(documents, k1=K1, b=B, delta=0)

    def known(self, tokens: Sequence[str]) -> list[str]:
        """See `Bm25Engine`."""
        return [token for token in tokens if token in self._bm25.idf]

    def scores(self, tokens: Sequence[str]) -> Scores:
        """See `Bm25Engine`."""
        scores: Scores = self._bm25.get_scores(tokens)
        return scores


def watched(items: Sequence[Item], progress: Progress | None) -> Iterator[Item]:
    """The items, reporting to `progress` now and then and at the end."""
    for done, item in enumerate(items):
        if progress is not None and done % _STEP == 0:
            progress(done, len(items))
        yield item
    if progress is not None:
        progress(len(items), len(items))
