"""Dense retrieval: the exact nearest neighbours of the query's embedding by cosine.

A flat scan in float32 takes some 6 ms over 100,000 items, so no approximate index is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prlm_edge.errors import PrlmError
from prlm_edge.retrieve.ranking import Match, Ranker, top
from prlm_edge.storage import cache_dir
from prlm_edge.types import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prlm_edge.retrieve.dense.embedder import Embedder
    from prlm_edge.retrieve.dense.vectors import StoredVectors, VectorStore

BATCH = 16  # items embedded between two saves: what Ctrl-C can lose


class DenseRetriever(Ranker):
    """Cosine between query and item (`Item.searchable`), -1 to 1. Items without any text never match.

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

    def rank(self, query: str, k: int) -> list[Match]:
        """The `k` nearest items, ties by file order; none for a blank query. `parts` has the cosine as "dense"."""
        if not query.strip() or not self._places:
            return []
        unit = self._embedder.embed([query])[0]
        scores = self._matrix @ unit
        best = top(scores, k, positive=False)
        return [Match(self._places[i], float(scores[i]), {"dense": float(scores[i])}) for i in best]

    def _load(self, cache: bool) -> NDArray[np.floating]:
        """The vectors of the items at `_places`, in that order; what is not kept is embedded, batch by batch."""
        from prlm_edge.retrieve.dense.vectors import MAX_ROWS, VectorStore, nothing

        joined = bytes.fromhex("".join(self.items[place].search_hash for place in self._places))
        store = VectorStore(cache_dir() / "embeddings", self._embedder.key, self._embedder.dim) if cache else None
        stored = store.read() if store else nothing(self._embedder.dim)
        if (run := stored.run(joined)) is not None:
            return run
        hashes = [joined[i : i + 16] for i in range(0, len(joined), 16)]
        missing = {h: place for h, place in zip(hashes, self._places, strict=True) if h not in stored.rows}
        if store is not None and missing and len(stored.vectors) + len(missing) > MAX_ROWS:
            self._shrink(store, stored, hashes)
        fresh = self._embed(missing, store)
        if store is not None and fresh and not self.notes and (run := store.read().run(joined)) is not None:
            return run  # all in one mapped file now
        # What was read first stays mapped, though another process may have deleted the file meanwhile.
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
                    self.notes = (_not_kept(error),)
        if self._progress is not None and todo:
            self._progress(len(todo), len(todo))
        return fresh

    def _shrink(self, store: VectorStore, stored: StoredVectors, hashes: list[bytes]) -> None:
        """Keep only the vectors of this profile."""
        kept = [h for h in dict.fromkeys(hashes) if h in stored.rows]
        try:
            store.replace(kept, stored.vectors[[stored.rows[h] for h in kept]])
        except PrlmError as error:
            self.notes = (_not_kept(error),)


def _gather(
    hashes: list[bytes], stored: StoredVectors, fresh: dict[bytes, NDArray[np.float32]]
) -> NDArray[np.floating]:
    """A copy of the vectors for `hashes`, from the store and from those just computed."""
    import numpy as np

    rows = np.array([stored.rows.get(h, -1) for h in hashes], np.int64)
    matrix = np.zeros((len(hashes), stored.vectors.shape[1]), np.float32)
    matrix[rows >= 0] = stored.vectors[rows[rows >= 0]]
    for place in np.flatnonzero(rows < 0).tolist():
        matrix[place] = fresh[hashes[place]]
    return matrix


def _not_kept(error: PrlmError) -> str:
    return f"embeddings could not be kept, so they are computed each time: {error.message}"
