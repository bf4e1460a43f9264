"""BM25 over title and text: an index in memory for small profiles, a kept one for large ones, with equal scores."""

from prlm_edge.retrieve.bm25.retriever import Bm25Retriever

__all__ = ["Bm25Retriever"]
