"""What all retrievers share: the check of k, top-k with ties by file order, and recent items to fill up with."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from prlm_edge.errors import UsageError
from prlm_edge.types import Hit, Item, sortable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = Sequence[float] | NDArray[np.floating]  # of all items, by their places


@dataclass(frozen=True)
class Match:
    """An item (by its place in the profile) that a retriever found, with its score and where that came from."""

    index: int
    score: float
    parts: Mapping[str, float]


class Ranker(ABC):
    """A retriever over a fixed list of items. Subclasses rank what matches; this class fills up and makes the hits.

    Attributes:
        name: One of `RETRIEVERS`.
        items: The profile's items in file order.
        notes: Sentences for the user, such as why an index could not be kept.
    """

    name: str = ""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = tuple(items)  # a copy: the profile may go on changing
        self.notes: tuple[str, ...] = ()

    def search(self, query: str, k: int) -> list[Hit]:
        """The best `k` items (all of them where the profile is smaller), best first.

        Items that match come first, then the most recent of the others, with score 0.0 and `recency_rank` in `parts`.

        Raises:
            UsageError: `k` is not positive.
        """
        check_k(k)
        matches = self.rank(query, min(k, len(self.items)))
        hits = [Hit(self.items[m.index], m.score, m.parts) for m in matches]
        if len(hits) < k:
            taken = {m.index for m in matches}
            hits.extend(self._fill(taken, k - len(hits)))
        return hits

    @abstractmethod
    def rank(self, query: str, k: int) -> list[Match]:
        """The best `k` items that match, best first; fewer where fewer match."""

    def _fill(self, taken: set[int], n: int) -> Iterator[Hit]:
        for rank, index in enumerate(self.by_recency, 1):
            if n <= 0:
                return
            if index not in taken:
                n -= 1
                yield Hit(self.items[index], 0.0, {"recency_rank": rank})

    @cached_property
    def by_recency(self) -> list[int]:
        """Places of all items, latest date first; unknown dates last; equal dates: later in the file is newer."""
        return sorted(range(len(self.items)), key=lambda i: (sortable(self.items[i].date), i), reverse=True)


def check_k(k: int) -> None:
    """Raise UsageError unless `k` is positive."""
    if k <= 0:
        raise UsageError(f"k must be 1 or more, not {k}", "to write without past items use the retriever none")


def top(scores: Scores, k: int, *, positive: bool) -> list[int]:
    """Places of the `k` highest scores, highest first, ties by place.

    Args:
        scores: Of all items; a list needs no NumPy.
        k: How many; fewer come back where there are fewer.
        positive: Leave out scores of zero and below.
    """
    if isinstance(scores, list):
        found = (place for place, score in enumerate(scores) if score > 0 or not positive)
        return heapq.nsmallest(k, found, key=lambda place: -scores[place])
    import numpy as np

    scores = np.asarray(scores)
    places = np.flatnonzero(scores > 0) if positive else np.arange(len(scores))
    if k <= 0:
        return []
    if len(places) > k:
        high = scores[places]
        places = places[high >= np.partition(high, len(high) - k)[len(high) - k]]  # every item tied at the end
    order = np.lexsort((places, -scores[places]))[:k]
    return [int(i) for i in places[order]]
