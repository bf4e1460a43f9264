"""What scores items for a query: the `Bm25Engine` protocol, and rank_bm25 as the engine of small profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from prlm_edge.types import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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

    def scores(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """BM25 of every item, shape (items,); `tokens` are known ones, at least one."""
        ...


class RankBm25Engine:
    """rank_bm25 in memory: the reference.

    Args:
        documents: Each item's tokens; at least one item has one.
    """

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        from rank_bm25 import BM25Plus

        self._bm25 = BM25Plus(documents, k1=K1, b=B, delta=0)

    def known(self, tokens: Sequence[str]) -> list[str]:
        """See `Bm25Engine`."""
        return [token for token in tokens if token in self._bm25.idf]

    def scores(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """See `Bm25Engine`."""
        scores: NDArray[np.float64] = self._bm25.get_scores(tokens)
        return scores


def watched(items: Sequence[Item], progress: Progress | None) -> Iterator[Item]:
    """The items, reporting to `progress` now and then and at the end."""
    for done, item in enumerate(items):
        if progress is not None and done % _STEP == 0:
            progress(done, len(items))
        yield item
    if progress is not None:
        progress(len(items), len(items))
