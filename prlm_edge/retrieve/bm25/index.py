"""The large BM25 index in use: arrays of scores that may be memory-mapped, and the vocabulary.

Not here: building the arrays (`bm25_build.py`), files (`bm25_store.py`).
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prlm_edge.retrieve.bm25.build import Postings, term_scores
from prlm_edge.retrieve.bm25.engine import DamagedIndexError

_REMEMBERED = 100_000  # looked-up tokens
_COMMON = 8  # a word that more than one in so many items has is added up item by item, in a tenth of the time
_ROW_BYTES = 64_000_000  # for the rows of common words; the others are added up as any word


class Vocabulary(Sequence[bytes]):
    """Terms as UTF-8, sorted, in one piece of memory; a term's number is its place."""

    def __init__(self, blob: bytes, offsets: Sequence[int]) -> None:
        self.blob, self.offsets = blob, offsets
        self._numbers: dict[str, int | None] = {}  # those looked up: a query asks twice, and words recur

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: Any) -> Any:
        return self.blob[self.offsets[number] : self.offsets[number + 1]]

    def number(self, token: str) -> int | None:
        """The token's number; None for a token that no item has."""
        if token not in self._numbers:
            if len(self._numbers) >= _REMEMBERED:
                self._numbers.clear()
            term = token.encode("utf-8", "surrogatepass")
            place = bisect_left(self, term)
            self._numbers[token] = place if place < len(self) and self[place] == term else None
        return self._numbers[token]


@dataclass(frozen=True)
class IndexArrays:
    """A sparse matrix of scores, one column a term.

    Attributes:
        data: Shape (postings,), float64: what the term adds to the item's score.
        places: Shape (postings,), int32: the item's place in the profile.
        starts: Shape (terms + 1,), int64: where each term's postings start.
        sums: Shape (terms,), uint32: crc32 of each term's part of `data` and `places`.
        n_items: Items in all.
    """

    data: NDArray[np.float64]
    places: NDArray[np.int32]
    starts: NDArray[np.int64]
    sums: NDArray[np.uint32]
    n_items: int

    def checksum(self, start: int, stop: int) -> int:
        """crc32 of the postings from `start` to before `stop`, as they are now."""
        return zlib.crc32(self.places[start:stop].data, zlib.crc32(self.data[start:stop].data))


def arrays_of(postings: Postings) -> IndexArrays:
    """The scores of all postings, with their checksums."""
    bare = IndexArrays(
        term_scores(postings), postings.places, postings.starts, np.zeros(0, np.uint32), len(postings.lengths)
    )
    sums = np.array([bare.checksum(a, b) for a, b in pairwise(postings.starts.tolist())], np.uint32)
    return IndexArrays(bare.data, bare.places, bare.starts, sums, bare.n_items)


class FastIndex:
    """Scores queries.

    Args:
        arrays: The scores.
        vocabulary: The terms.
        on_damage: Given for arrays that lie on disk: each term's postings are then checked when first read, and this
            is called when they are not those that were written.
    """

    def __init__(
        self, arrays: IndexArrays, vocabulary: Vocabulary, on_damage: Callable[[], None] | None = None
    ) -> None:
        self._arrays, self._vocabulary, self._on_damage = arrays, vocabulary, on_damage
        self._sound: set[int] = set()
        self._rows: dict[int, NDArray[np.float64]] = {}

    def known(self, tokens: Sequence[str]) -> list[str]:
        """See `bm25.Engine`."""
        known = {token for token in set(tokens) if self._vocabulary.number(token) is not None}
        return [token for token in tokens if token in known]

    def scores(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """See `bm25.Engine`.

        Raises:
            DamagedIndexError: The postings on disk are not those that were written.
        """
        scores = np.zeros(self._arrays.n_items)
        for number in self._numbers(tokens):  # in the query's order: so are rank_bm25's sums
            if (row := self._row(number)) is not None:
                scores += row
            else:
                places, added = self._postings(number)
                scores[places] += added
        return scores

    def _row(self, number: int) -> NDArray[np.float64] | None:
        """What a common word adds to each item, mostly or often 0: that changes no sum. None for other words."""
        if number in self._rows:
            return self._rows[number]
        places, added = self._postings(number)
        n_items = self._arrays.n_items
        if len(places) * _COMMON < n_items or (len(self._rows) + 1) * n_items * added.itemsize > _ROW_BYTES:
            return None
        row = self._rows[number] = np.zeros(n_items)
        row[places] = added
        return row

    def _postings(self, number: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        start, stop = self._arrays.starts[number : number + 2]
        places = self._arrays.places[start:stop].astype(np.intp)  # NumPy adds by these twice as fast
        return places, self._arrays.data[start:stop]

    def _numbers(self, tokens: Sequence[str]) -> list[int]:
        """The terms of `tokens`, in their order; those not yet read are checked."""
        numbers = {token: self._vocabulary.number(token) for token in set(tokens)}
        ids = [number for token in tokens if (number := numbers[token]) is not None]
        if self._on_damage is not None:
            for number in set(ids) - self._sound:
                if self._arrays.checksum(*self._arrays.starts[number : number + 2]) != self._arrays.sums[number]:
                    self._on_damage()
                    raise DamagedIndexError
                self._sound.add(number)
        return ids
