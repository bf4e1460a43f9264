"""BM25 over title and text: rank_bm25 for small profiles, a kept index for large ones, with equal scores."""

from prlm_edge.retrieve.bm25.retriever import Bm25Retriever

__all__ = ["Bm25Retriever"]
