"""The large BM25 index on disk: opened by memory map, never trusted because it is there, built again when damaged.

Its name is a hash over the items' search hashes, the tokenizer's version and the parameters. On opening, the sections
that serve to look terms up are checked; each term's postings when a query first reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from prlm_edge.errors import PrlmError
from prlm_edge.retrieve.bm25.engine import K1, B, Bm25Engine, Progress
from prlm_edge.retrieve.bm25.index import Bm25Index, Part, Terms, checksums
from prlm_edge.retrieve.bm25.postings import Postings, build_postings, hashes_of
from prlm_edge.retrieve.tokens import TOKENIZER_VERSION
from prlm_edge.storage import cache_dir
from prlm_edge.storage.kept import Kept, Shelf
from prlm_edge.types import Item

FORMAT = 2
KEEP = 4  # indexes
KEEP_BYTES = 1_000_000_000
TAIL_SHARE = 20  # a kept index serves on until this part of its items has been appended
_POSTINGS = {
    "starts": np.int64,
    "places": np.int32,
    "counts": None,  # noted in the file: the smallest kind that holds them
    "lengths": np.int32,
    "hashes": np.uint8,
}
_UNCHECKED = ("places", "counts", "hashes")  # on opening: `sums` covers the first two, the name covers the third


def open_index(items: Sequence[Item], *, cache: bool, progress: Progress | None) -> tuple[Bm25Engine | None, str]:
    """The index of `items`: the kept one, with a tail where few items were appended, or a new one, kept from now on.

    Returns:
        The index (None where no item has a token), and a note for the user ("" or why it could not be kept).
    """
    hashes, shelf = hashes_of(items), _shelf()
    name = _name(hashes)
    if cache and (kept := _kept_index(shelf, name, items, hashes)) is not None:
        return kept, ""
    postings = build_postings(items, hashes, _best_base(shelf, hashes) if cache else None, progress)
    if not postings.terms:
        return None, ""
    terms = Terms.of(postings.terms)
    index = Bm25Index([Part(postings, terms)])
    if cache:
        sections = {section: getattr(postings, section) for section in _POSTINGS}
        sections |= {"sums": checksums(postings), "offsets": np.array(terms.offsets, np.int64), "terms": terms.blob}
        try:
            shelf.write(name, name, {"counts": postings.counts.dtype.name}, sections)
        except PrlmError as error:
            return index, f"the search index could not be kept, so it is built each time: {error.message}"
    return index, ""


def _shelf() -> Shelf:
    return Shelf(cache_dir() / "bm25", f"bm25 {FORMAT}", KEEP, KEEP_BYTES)


def _name(hashes: NDArray[np.uint8]) -> str:
    """The name of the index over items of these search hashes; it is its key too, so no renamed file is believed."""
    parameters = f"{FORMAT} {TOKENIZER_VERSION} k1={K1} b={B}\n"
    return blake2b(parameters.encode() + hashes.tobytes(), digest_size=16).hexdigest()


def _kept_index(shelf: Shelf, name: str, items: Sequence[Item], hashes: NDArray[np.uint8]) -> Bm25Index | None:
    """The kept index of the items, or one of all but the last few with an index of these; None where there is none."""
    if (kept := shelf.open(name, name, unchecked=_UNCHECKED)) is not None:
        return Bm25Index([_part(kept)], partial(shelf.forget, name))
    for other in shelf.names():
        if (peeked := shelf.peek(other, other)) is None:
            continue
        n_before = len(peeked.sections["lengths"]) // 4
        n_tail = len(hashes) - n_before
        if not 0 < n_tail <= n_before // TAIL_SHARE or _name(hashes[:n_before]) != other:
            continue
        if (kept := shelf.open(other, other, unchecked=_UNCHECKED)) is not None:
            tail = build_postings(items[n_before:], hashes[n_before:])
            return Bm25Index([_part(kept), Part(tail, Terms.of(tail.terms))], partial(shelf.forget, other))
    return None


def _part(kept: Kept) -> Part:
    """A kept index, mapped."""
    arrays = {
        section: np.frombuffer(kept.sections[section], dtype or kept.about["counts"])
        for section, dtype in _POSTINGS.items()
    }
    arrays["hashes"] = arrays["hashes"].reshape(-1, 16)
    offsets, sums = (np.frombuffer(kept.sections[name], kind) for name, kind in (("offsets", "i8"), ("sums", "u4")))
    return Part(Postings([], **arrays), Terms(bytes(kept.sections["terms"]), offsets.tolist()), sums)


def _best_base(shelf: Shelf, hashes: NDArray[np.uint8]) -> Postings | None:
    """The kept index that has most of these items; None where none has a fifth of them."""
    wanted = {row.tobytes() for row in hashes}
    best, most = "", max(1, len(hashes) // 5)
    for name in shelf.names():
        if (kept := shelf.peek(name, name)) is not None:
            joined = bytes(kept.sections["hashes"])
            overlap = sum(joined[i : i + 16] in wanted for i in range(0, len(joined), 16))
            if overlap >= most:
                best, most = name, overlap
    if not best or (kept := shelf.open(best, best)) is None:
        return None
    part = _part(kept)
    return replace(part.postings, terms=list(part.terms))
