"""A kept BM25 index and the few items that were appended since: only these are tokenized, and nothing is written.

A term's weight depends on all items (how many there are, how long, how many have the term), so one new item changes
every stored score. Here the scores of the terms of a query are computed when it is asked, from counts: the operations
and their order are rank_bm25's, so each score is the same, bit for bit, as of an index built anew.

Not here: when the tail has grown too long and a new index is due (`bm25_store.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prlm_edge.retrieve.bm25.build import Postings
from prlm_edge.retrieve.bm25.engine import K1, B

if TYPE_CHECKING:
    from prlm_edge.retrieve.bm25.index import Vocabulary

Part = tuple[Postings, "Vocabulary", int]  # postings, their terms, and the place of their first item


class TailIndex:
    """Scores queries over `parts`, which follow one another in the profile. See `bm25.Engine`."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        lengths = np.concatenate([postings.lengths for postings, _, _ in parts])
        self._n_items = len(lengths)
        self._norm = K1 * (1 - B + B * lengths / lengths.mean())

    def known(self, tokens: Sequence[str]) -> list[str]:
        """See `bm25.Engine`."""
        known = {token for token in set(tokens) if any(v.number(token) is not None for _, v, _ in self._parts)}
        return [token for token in tokens if token in known]

    def scores(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """See `bm25.Engine`."""
        weights = {token: self._weigh(token) for token in set(tokens)}
        scores = np.zeros(self._n_items)
        for token in tokens:  # in the query's order: so are rank_bm25's sums
            places, added = weights[token]
            scores[places] += added
        return scores

    def _weigh(self, token: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The items that have the token, and what it adds to their scores."""
        places, counts = [], []
        for postings, vocabulary, first in self._parts:
            if (number := vocabulary.number(token)) is not None:
                start, stop = postings.starts[number : number + 2]
                places.append(postings.places[start:stop].astype(np.int64) + first)
                counts.append(postings.counts[start:stop].astype(np.float64))
        where, count = np.concatenate(places), np.concatenate(counts)
        idf = math.log((self._n_items + 1) / len(where))
        return where, idf * ((count * (K1 + 1)) / (count + self._norm[where]))
