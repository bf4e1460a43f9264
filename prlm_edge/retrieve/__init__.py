"""Finding the past items that fit a query: `make_retriever` and the names it knows.

Every retriever returns at most k hits, best first, and never fewer than k while the profile has items (but `none`):
after the items that match come the most recent others with score 0.0, so that examples of style are always there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prlm_edge.errors import UsageError, did_you_mean, no_onnx
from prlm_edge.retrieve.tokens import tokenize as tokenize
from prlm_edge.types import Item, Retriever

if TYPE_CHECKING:
    from prlm_edge.retrieve.dense.embedder import Embedder

RETRIEVERS: tuple[str, ...] = ("none", "bm25", "dense", "hybrid", "recency", "random")
EMBEDDER = "minilm"


def make_retriever(
    name: str,
    items: Sequence[Item],
    *,
    seed: int = 0,
    cache: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Retriever:
    """A retriever over `items`, indexed and ready; it does not see later changes of the profile.

    Args:
        name: One of `RETRIEVERS`.
        items: The profile's items in file order.
        seed: Of "random" only.
        cache: Keep indexes and embeddings in the cache folder and use those kept there. They hold no text of the
            profile but its words; files are readable by the owner alone.
        progress: Called with (items done, items in all) while indexing or embedding.

    Returns:
        The retriever. Its `notes` say what the user may want to know, such as why an index could not be kept.

    Raises:
        UsageError: An unknown name.
        MissingError: "dense" or "hybrid" without its packages or its model.
    """
    if name == "bm25":
        from prlm_edge.retrieve.bm25.retriever import Bm25Retriever

        return Bm25Retriever(items, cache=cache, progress=progress)
    if name == "dense":
        from prlm_edge.retrieve.dense.retriever import DenseRetriever

        return DenseRetriever(items, _embedder(), cache=cache, progress=progress)
    if name == "hybrid":
        from prlm_edge.retrieve.bm25.retriever import Bm25Retriever
        from prlm_edge.retrieve.dense.retriever import DenseRetriever
        from prlm_edge.retrieve.hybrid import HybridRetriever

        dense = DenseRetriever(items, _embedder(), cache=cache, progress=progress)
        return HybridRetriever(items, [Bm25Retriever(items, cache=cache), dense])
    from prlm_edge.retrieve import simple

    if name == "recency":
        return simple.RecencyRetriever(items)
    if name == "random":
        return simple.RandomRetriever(items, seed)
    if name == "none":
        return simple.NoneRetriever(items)
    hint = did_you_mean(name.lower(), RETRIEVERS, f"there are: {', '.join(RETRIEVERS)}")
    raise UsageError(f"unknown retriever {name!r}", hint)


def _embedder() -> Embedder:
    if any(find_spec(package) is None for package in ("onnxruntime", "tokenizers")):
        raise no_onnx("dense retrieval")
    from prlm_edge import models
    from prlm_edge.retrieve.dense.embedder import open_embedder

    return open_embedder(models.resolve(EMBEDDER, kind="embedder"))
