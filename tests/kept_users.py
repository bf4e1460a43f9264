"""Everything that keeps files in the cache, as functions that answer a question by way of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prlm_edge import tasks
from prlm_edge.backends.engine.chat_template import CHATML, ChatTemplate
from prlm_edge.backends.engine.prefix_store import PrefixStore
from prlm_edge.models import sha256_of
from prlm_edge.profile import Profile, cache, learn
from prlm_edge.retrieve.bm25 import Bm25Retriever
from prlm_edge.retrieve.dense.retriever import DenseRetriever
from prlm_edge.storage import cache_dir
from prlm_edge.types import Item, Span, Turn

WORDS = ["rye", "oven", "drain", "wheel", "winter", "sourdough", "allotment", "ear", "flood", "truing"]
ITEMS = [
    Item(str(i), title=f"{WORDS[i % 10]} {WORDS[i * 7 % 9]} nr{i}", text=f"on {WORDS[i * 3 % 10]}") for i in range(60)
]
GROWN = [*ITEMS, Item("new", title="rye oven new"), Item("", text="")]
QUERIES = ["rye", "winter oven", "nr17 flood", "truing on ear"]
KEY, CUTS, STATE = "ab" * 16, [bytes([i]) * 16 for i in range(3)], bytes(range(256)) * 40


class Counting:
    """A deterministic embedder that remembers what it was asked for: a text's vector is that of its words."""

    key, dim = "c" * 64, 8

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts: Any) -> Any:
        self.texts.extend(texts)
        rows = [np.random.default_rng(sum(text.encode())).standard_normal(self.dim) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32).reshape(-1, self.dim)


def found(retriever: Any, k: int = 5) -> list[list[tuple[str, float]]]:
    """The answers to all queries."""
    return [[(hit.item.id, round(hit.score, 5)) for hit in retriever.search(query, k)] for query in QUERIES]


def lines(folder: Path) -> Any:
    """A profile, taken over from the cache."""
    profile = Profile.open(folder / "me.jsonl")
    return list(profile.items), profile.bad, profile.get("7")


def style(folder: Path) -> Any:
    """What a task learns from a profile."""
    return learn(Profile.open(folder / "me.jsonl"), tasks.get_task("title", None))


def index(_: Path) -> Any:
    """BM25."""
    return found(Bm25Retriever(ITEMS, fast_from=0))


def index_with_tail(_: Path) -> Any:
    """BM25 after items were appended: the kept index serves on."""
    Bm25Retriever(ITEMS, fast_from=0)
    return found(Bm25Retriever(GROWN, fast_from=0))


def vectors(_: Path) -> Any:
    """Dense retrieval."""
    return found(DenseRetriever(ITEMS, Counting()))


def prefix(_: Path) -> Any:
    """A prompt prefix, which is kept where it is not found."""
    store = PrefixStore(KEY, folder=cache_dir() / "prefix")
    if (kept := store.find(CUTS)) is None:
        store.keep(CUTS, [10, 20, 30], STATE)
        kept = store.find(CUTS)
    assert kept is not None
    return kept.n_cuts, kept.n_tokens, bytes(kept.state)


def hashes(folder: Path) -> Any:
    """The SHA-256 of a model file."""
    return sha256_of(folder / "model.gguf")


def outline(_: Path) -> Any:
    """What a chat template makes of turns."""
    return ChatTemplate(CHATML, kept=True).render([Turn("system", (Span("x"),)), Turn("user", (Span("y"),))])


USERS: list[Callable[[Path], Any]] = [lines, style, index, index_with_tail, vectors, prefix, hashes, outline]
FOLDERS = {"lines": "profiles", "style": "profiles", "index": "bm25", "index_with_tail": "bm25"} | {
    "vectors": "embeddings",
    "prefix": "prefix",
    "hashes": "hashes",
    "outline": "templates",
}


def prepare(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Write what the questions are about, in `folder`; small profiles are kept too."""
    patch.setattr(cache, "KEEP_FROM", 1)
    patch.setattr(cache, "_SAVE_TAIL", 0)
    written = [json.dumps({"id": str(i), "title": f"Loaf {i}", "date": f"{2000 + i}"}) for i in range(50)]
    last = '{"id": "last", "title": "Rye", "kind": "post"}'
    (folder / "me.jsonl").write_text("\n".join([*written, "not json", last]) + "\n")
    (folder / "model.gguf").write_bytes(b"GGUF" * 1000)


def kept_files(user: Callable[[Path], Any]) -> list[Path]:
    """The files that a question is answered from."""
    suffix = {"lines": ".lines.kept", "style": ".style.kept"}.get(user.__name__, ".kept")
    folder = cache_dir() / FOLDERS[user.__name__]
    return sorted(folder.glob(f"*{suffix}")) if os.access(folder, os.R_OK) else []
