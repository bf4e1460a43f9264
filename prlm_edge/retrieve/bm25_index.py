"""The large BM25 index in use: bm25s scoring over arrays that may be memory-mapped, and the vocabulary.

Not here: building the arrays (`bm25_build.py`), files (`bm25_store.py`).
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray

from prlm_edge.retrieve.bm25 import K1, B, DamagedIndexError
from prlm_edge.retrieve.bm25_build import Postings, term_scores

_REMEMBERED = 100_000  # looked-up tokens


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
    """Scores queries with bm25s.

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
        self._bm25 = bm25s.BM25(k1=K1, b=B, method="atire", idf_method="bm25+", dtype="float64")
        self._bm25.nonoccurrence_array = None
        self._bm25.scores = {
            "data": arrays.data,
            "indices": arrays.places,
            "indptr": arrays.starts,
            "num_docs": arrays.n_items,
        }
        self._sound: set[int] = set()

    def known(self, tokens: Sequence[str]) -> list[str]:
        """See `bm25.Engine`."""
        known = {token for token in set(tokens) if self._vocabulary.number(token) is not None}
        return [token for token in tokens if token in known]

    def scores(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """See `bm25.Engine`.

        Raises:
            DamagedIndexError: The postings on disk are not those that were written.
        """
        numbers = {token: self._vocabulary.number(token) for token in set(tokens)}
        ids = [number for token in tokens if (number := numbers[token]) is not None]
        if self._on_damage is not None:
            for number in set(ids) - self._sound:
                if self._arrays.checksum(*self._arrays.starts[number : number + 2]) != self._arrays.sums[number]:
                    self._on_damage()
                    raise DamagedIndexError
                self._sound.add(number)
        scores: NDArray[np.float64] = self._bm25.get_scores_from_ids(ids)
        return scores
