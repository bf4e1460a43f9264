"""Dense retrieval: the exact nearest neighbours of the query's embedding by cosine.

A flat scan, in a long session over an int8 copy where numkong is installed (`int8_scan.py`); up to a million items no
approximate index is needed. Not here: the embedder, the vectors on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prlm_edge.errors import PrlmError
from prlm_edge.retrieve.ranking import Match, Ranker, top
from prlm_edge.storage import cache_dir
from prlm_edge.types import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prlm_edge.retrieve.dense.embedder import Embedder
    from prlm_edge.retrieve.dense.int8_scan import Int8Scan
    from prlm_edge.retrieve.dense.vectors import Stored, VectorStore

INT8_FROM = 20_000  # items from which a scan takes long enough to be worth a copy
INT8_AFTER = 16  # queries: making the copy takes as long as it saves in some 35
BATCH = 16  # items embedded between two saves: what Ctrl-C can lose


class DenseRetriever(Ranker):
    """Cosine between query and item (title and text), -1 to 1. Items without any text never match.

    Args:
        items: The profile's items.
        embedder: What embeds items and queries.
        cache: Keep the items' vectors in the cache folder; those kept there are never computed again.
        progress: Called with (items embedded, items to be embedded).
    """

    name = "dense"

    def __init__(
        self,
        items: Sequence[Item],
        embedder: Embedder,
        *,
        cache: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(items)
        self._embedder, self._progress = embedder, progress
        self._places = [place for place, item in enumerate(items) if item.title.strip() or item.text.strip()]
        self._matrix = self._load(cache)
        self._n_ranked = 0

    def rank(self, query: str, k: int) -> list[Match]:
        """The `k` nearest items, ties by file order; none for a blank query. `parts` has the cosine as "dense"."""
        if not query.strip() or not self._places:
            return []
        unit = self._embedder.embed([query])[0]
        self._n_ranked += 1
        if self._n_ranked > INT8_AFTER and self._scan is not None:
            near = self._scan.candidates(unit, k)
            scores, places = self._matrix[near] @ unit, [self._places[i] for i in near]
        else:
            scores, places = self._matrix @ unit, self._places
        return [Match(places[i], float(scores[i]), {"dense": float(scores[i])}) for i in top(scores, k, positive=False)]

    @cached_property
    def _scan(self) -> Int8Scan | None:
        if len(self._places) < INT8_FROM or find_spec("numkong") is None:
            return None
        from prlm_edge.retrieve.dense.int8_scan import Int8Scan

        return Int8Scan(self._matrix)

    def _load(self, cache: bool) -> NDArray[np.floating]:
        """The vectors of the items at `_places`, in that order; what is not kept is embedded, batch by batch."""
        from prlm_edge.retrieve.dense.vectors import MAX_ROWS, VectorStore, nothing

        joined = bytes.fromhex("".join(self.items[place].content_hash for place in self._places))
        store = VectorStore(cache_dir() / "embeddings" / self._embedder.key[:32], self._embedder.dim) if cache else None
        stored = store.read() if store else nothing(self._embedder.dim)
        if (run := stored.run(joined)) is not None:
            return run
        hashes = [joined[i : i + 16] for i in range(0, len(joined), 16)]
        missing = {h: place for h, place in zip(hashes, self._places, strict=True) if h not in stored.rows}
        if store is not None and missing and len(stored.vectors) + len(missing) > MAX_ROWS:
            stored = self._shrink(store, stored, hashes)
        fresh = self._embed(missing, store)
        if store is not None and fresh and not self.notes:
            stored = store.read()  # all in one mapped file now
            if (run := stored.run(joined)) is not None:
                return run
        return _gather(hashes, stored, fresh)

    def _embed(self, missing: dict[bytes, int], store: VectorStore | None) -> dict[bytes, NDArray[np.float32]]:
        fresh: dict[bytes, NDArray[np.float32]] = {}
        todo = list(missing.items())
        for start in range(0, len(todo), BATCH):
            if self._progress is not None:
                self._progress(start, len(todo))
            batch = todo[start : start + BATCH]
            vectors = self._embedder.embed([self.items[place].searchable for _, place in batch])
            fresh.update(zip([h for h, _ in batch], vectors, strict=True))
            if store is not None and not self.notes:
                try:
                    store.append([h for h, _ in batch], vectors)
                except PrlmError as error:
                    self.notes = (f"embeddings could not be kept, so they are computed each time: {error.message}",)
        if self._progress is not None and todo:
            self._progress(len(todo), len(todo))
        return fresh

    def _shrink(self, store: VectorStore, stored: Stored, hashes: list[bytes]) -> Stored:
        kept = [h for h in dict.fromkeys(hashes) if h in stored.rows]
        try:
            store.replace(kept, stored.vectors[[stored.rows[h] for h in kept]])
        except PrlmError as error:
            self.notes = (f"embeddings could not be kept, so they are computed each time: {error.message}",)
            return stored
        return store.read()


def _gather(hashes: list[bytes], stored: Stored, fresh: dict[bytes, NDArray[np.float32]]) -> NDArray[np.floating]:
    """A copy of the vectors for `hashes`, from the store and from those just computed."""
    import numpy as np

    rows = np.array([stored.rows.get(h, -1) for h in hashes], np.int64)
    matrix = np.zeros((len(hashes), stored.vectors.shape[1]), np.float32)
    matrix[rows >= 0] = stored.vectors[rows[rows >= 0]]
    for place in np.flatnonzero(rows < 0).tolist():
        matrix[place] = fresh[hashes[place]]
    return matrix
