"""The large BM25 index in use: scores computed from counts, for the terms of a query alone.

A term's weight depends on all items (how many there are, how long they are, how many have the term), so one new item
changes every score. What is kept is therefore the counts. An index can be made of parts that follow one another in the
profile: a kept one, memory-mapped, and the items that were appended since. The operations and their order are
rank_bm25's, so each score is, bit for bit, that of a newly built index.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prlm_edge.retrieve.bm25.engine import K1, B, DamagedIndexError
from prlm_edge.retrieve.bm25.postings import Postings

_REMEMBERED = 100_000  # looked-up tokens
_COMMON = 8  # a term that more than one in so many items has is added up item by item, in a tenth of the time
_WEIGHTS_BYTES = 64_000_000  # of the terms' weights that are remembered: a long session asks for the same words


Weights = tuple[NDArray[np.intp] | None, NDArray[np.float64]]  # places (None: all items), what is added to each


class Terms(Sequence[bytes]):
    """The vocabulary: terms as UTF-8, sorted, in one piece of memory; a term's number is its place."""

    def __init__(self, blob: bytes, offsets: Sequence[int]) -> None:
        self.blob, self.offsets = blob, offsets
        self._numbers: dict[str, int | None] = {}  # those looked up: a query asks twice, and words recur

    @classmethod
    def of(cls, terms: Sequence[bytes]) -> Terms:
        """From terms in order of their bytes."""
        return cls(b"".join(terms), np.cumsum([0, *map(len, terms)], dtype=np.int64).tolist())

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
class Part:
    """The postings of some items that follow one another.

    Attributes:
        postings: Which term stands how often in which item.
        terms: Their terms.
        sums: Shape (terms,): crc32 of each term's postings, checked when they are first read; None where they need no
            check.
    """

    postings: Postings
    terms: Terms
    sums: NDArray[np.uint32] | None = None

    def is_sound(self, number: int) -> bool:
        """Whether a term's postings are those that were written."""
        start, stop = self.postings.starts[number : number + 2]
        return self.sums is None or checksum(self.postings, start, stop) == self.sums[number]


class Bm25Index:
    """Scores queries over `parts`, which follow one another in the profile. See `Bm25Engine`.

    Args:
        parts: The postings.
        on_damage: Called before DamagedIndexError is raised.
    """

    def __init__(self, parts: Sequence[Part], on_damage: Callable[[], None] = lambda: None) -> None:
        self._parts, self._on_damage = parts, on_damage
        lengths = np.concatenate([part.postings.lengths for part in parts])
        self._norm = K1 * (1 - B + B * lengths / lengths.mean())
        self._sound: set[tuple[int, int]] = set()
        self._weights: dict[str, Weights] = {}
        self._n_bytes = 0  # of these

    def known(self, tokens: Sequence[str]) -> list[str]:
        """See `Bm25Engine`."""
        known = {t for t in set(tokens) if any(part.terms.number(t) is not None for part in self._parts)}
        return [token for token in tokens if token in known]

    def scores(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """See `Bm25Engine`.

        Raises:
            DamagedIndexError: The postings on disk are not those that were written.
        """
        weights = {token: self._weigh(token) for token in set(tokens)}
        scores = np.zeros(len(self._norm))
        for token in tokens:  # in the query's order: so are rank_bm25's sums
            places, added = weights[token]
            if places is None:
                scores += added
            else:
                scores[places] += added
        return scores

    def _weigh(self, token: str) -> Weights:
        """The items that have the token, and what it adds to their scores; of a common one that of all items.

        Items without the token then get 0 added, which changes no sum.
        """
        if token in self._weights:
            return self._weights[token]
        n_items = len(self._norm)
        places, counts = self._postings(token)
        added = self._norm.take(places)  # in place from here on: idf * (counts * (K1 + 1) / (counts + norm))
        added += counts
        np.divide(np.multiply(counts, K1 + 1, out=counts), added, out=added)
        added *= math.log((n_items + 1) / len(places))
        weights: Weights = places, added
        if len(places) * _COMMON >= n_items:
            row = np.zeros(n_items)
            row[places] = added
            weights = None, row
        n_bytes = sum(part.nbytes for part in weights if part is not None)
        if self._n_bytes + n_bytes <= _WEIGHTS_BYTES:
            self._weights[token] = weights
            self._n_bytes += n_bytes
        return weights

    def _postings(self, token: str) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The items that have the token, and how often."""
        places, counts, first = [], [], 0
        for i, part in enumerate(self._parts):
            if (number := part.terms.number(token)) is not None:
                if (i, number) not in self._sound and not part.is_sound(number):
                    self._on_damage()
                    raise DamagedIndexError
                self._sound.add((i, number))
                start, stop = part.postings.starts[number : number + 2]
                places.append(part.postings.places[start:stop].astype(np.intp) + first)  # NumPy's own kind of index
                counts.append(part.postings.counts[start:stop].astype(np.float64))
            first += len(part.postings.lengths)
        return np.concatenate(places), np.concatenate(counts)


def checksum(postings: Postings, start: int, stop: int) -> int:
    """crc32 of the postings from `start` to before `stop`, as they are now."""
    return zlib.crc32(postings.places[start:stop].data, zlib.crc32(postings.counts[start:stop].data))


def checksums(postings: Postings) -> NDArray[np.uint32]:
    """The checksum of each term's postings, shape (terms,)."""
    return np.array([checksum(postings, a, b) for a, b in pairwise(postings.starts.tolist())], np.uint32)
