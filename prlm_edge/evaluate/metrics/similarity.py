"""Nearness in meaning: cosine of MiniLM's sentence embeddings of answer and target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

_BATCH = 64


def similarities(
    pairs: Sequence[tuple[str, str]], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[float | None]:
    """The cosine of each (answer, target); None for all where the embedder isn't installed or pulled."""
    from prlm_edge import models
    from prlm_edge.errors import PrlmError

    if any(find_spec(package) is None for package in ("onnxruntime", "tokenizers")):
        return [None] * len(pairs)
    try:
        folder = models.resolve("minilm", kind="embedder")
    except PrlmError:
        return [None] * len(pairs)
    from prlm_edge.retrieve.dense.embedder import OnnxEmbedder

    embedder = OnnxEmbedder(folder)
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors: dict[str, Any] = {}
    for start in range(0, len(texts), _BATCH):
        some = texts[start : start + _BATCH]
        vectors.update(zip(some, embedder.embed(some), strict=True))
        progress(len(vectors), len(texts))
    return [float(vectors[a] @ vectors[b]) if a.strip() else 0.0 for a, b in pairs]
