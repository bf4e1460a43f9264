"""The large BM25 index on disk: opened by memory map, never trusted because it is there, rebuilt when damaged.

An index is a folder named by a hash over the items' content hashes, the versions of tokenizer and format and the
parameters. It is written to a temporary folder and renamed. On opening, the manifest, every file's size and the
checksums of the lookup files are checked; each term's postings when a query first reads them. The few most recently
used indexes are kept. Not here: what is in an index (`bm25_build.py`, `bm25_index.py`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prlm_edge.retrieve.bm25.build import Postings, build_postings, hashes_of
from prlm_edge.retrieve.bm25.engine import K1, B, Engine, Progress
from prlm_edge.retrieve.bm25.index import FastIndex, IndexArrays, Vocabulary, arrays_of
from prlm_edge.retrieve.bm25.tail import TailIndex
from prlm_edge.retrieve.tokens import TOKENIZER_VERSION
from prlm_edge.storage import cache_dir, private_dir
from prlm_edge.types import Item

FORMAT = 1
KEEP = 4  # indexes
TAIL_SHARE = 20  # a kept index serves on until this part of its items has been appended
KEEP_BYTES = 1_000_000_000
_LOOKUP = ("starts.npy", "offsets.npy", "vocabulary.bin", "sums.npy")  # read whole on opening, so checked whole
_REUSE = ("places.npy", "counts.npy", "lengths.npy", "hashes.npy")  # read whole only to build the next index from
_STALE_S = 3600.0  # age from which an abandoned temporary folder is deleted
_UNSOUND = (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError)  # damaged files lead to


def open_index(items: Sequence[Item], *, cache: bool, progress: Progress | None) -> tuple[Engine | None, str]:
    """The index of `items`: the kept one, with a tail where few items were appended, or a new one, kept from now on.

    Returns:
        The index (None where no item has a token), and a note for the user ("" or why it could not be kept).
    """
    hashes = hashes_of(items)
    key = blake2b(f"{_parameters()}\n".encode() + hashes.tobytes(), digest_size=16).hexdigest()
    root = cache_dir() / "bm25"
    index = _open(root / key, key) if cache else None
    if index is not None:
        return index, ""
    if cache and (extended := _extended(root, items, hashes)) is not None:
        return extended, ""
    postings = build_postings(items, hashes, _best_base(root, hashes) if cache else None, progress)
    if not postings.terms:
        return None, ""
    arrays = arrays_of(postings)
    in_memory = FastIndex(arrays, Vocabulary(b"".join(postings.terms), _offsets(postings).tolist()))
    if not cache:
        return in_memory, ""
    try:
        _save(root, key, postings, arrays)
        _evict(root, key)
    except OSError as error:
        return in_memory, f"the search index could not be kept, so it is built each time: {error.strerror or error}"
    return in_memory, ""


def _extended(root: Path, items: Sequence[Item], hashes: NDArray[np.uint8]) -> TailIndex | None:
    """A kept index of all but the last few items, and these; None where there is none."""
    for folder in _folders(root):
        try:
            before = _load(folder, "hashes.npy", mmap="r")
            n_tail = len(hashes) - len(before)
            if not 0 < n_tail <= len(before) // TAIL_SHARE or not np.array_equal(before, hashes[: len(before)]):
                continue
            _checked_manifest(folder, folder.name, (*_LOOKUP, *_REUSE))
            vocabulary = _vocabulary(folder)
            names = ("starts", "places", "counts", "lengths", "hashes")
            base = Postings([], *(_load(folder, f"{name}.npy", mmap="r") for name in names))
        except _UNSOUND:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with contextlib.suppress(OSError):
            os.utime(folder / "manifest.json")  # used now
        tail = build_postings(items[len(before) :], hashes[len(before) :])
        terms = Vocabulary(b"".join(tail.terms), _offsets(tail).tolist())
        return TailIndex([(base, vocabulary, 0), (tail, terms, len(before))])
    return None


def _parameters() -> str:
    return f"{FORMAT} {TOKENIZER_VERSION} k1={K1} b={B}"


def _offsets(postings: Postings) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, postings.terms)], dtype=np.int64)


def _save(root: Path, key: str, postings: Postings, arrays: IndexArrays) -> None:
    private_dir(root)
    contents: dict[str, Any] = {
        "data.npy": arrays.data,
        "places.npy": arrays.places,
        "starts.npy": arrays.starts,
        "sums.npy": arrays.sums,
        "offsets.npy": _offsets(postings),
        "vocabulary.bin": b"".join(postings.terms),
        "counts.npy": postings.counts,
        "lengths.npy": postings.lengths,
        "hashes.npy": postings.hashes,
    }
    work = Path(tempfile.mkdtemp(prefix=".tmp-", dir=root))  # 0700
    try:
        table = {name: _write(work / name, content) for name, content in contents.items()}
        manifest = {"parameters": _parameters(), "key": key, "items": arrays.n_items, "files": table}
        _write(work / "manifest.json", json.dumps(manifest).encode())
        if (root / key).exists():
            shutil.rmtree(root / key)  # damaged, or made by another process just now
        work.replace(root / key)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(path: Path, content: Any) -> list[int]:
    """Write a file (0600, fsync); returns its size and crc32."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "w+b") as stream:
        if isinstance(content, bytes):
            stream.write(content)
        else:
            np.save(stream, content, allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
    return [path.stat().st_size, _crc(path)]


def _crc(path: Path) -> int:
    total = 0
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            total = zlib.crc32(chunk, total)
    return total


def _open(folder: Path, key: str) -> FastIndex | None:
    """The index in `folder`; None where there is none or it is not sound (then the folder is deleted)."""
    if not folder.is_dir():
        return None
    try:
        manifest = _checked_manifest(folder, key, _LOOKUP)
        data, places = _load(folder, "data.npy", mmap="r"), _load(folder, "places.npy", mmap="r")
        starts, sums, vocabulary = _load(folder, "starts.npy"), _load(folder, "sums.npy"), _vocabulary(folder)
        fits = len(data) == len(places) == starts[-1] and len(starts) == len(sums) + 1 == len(vocabulary) + 1
        if not fits or data.dtype != np.float64 or places.dtype != np.int32:
            raise ValueError("arrays that don't fit together")
        index = FastIndex(
            IndexArrays(data, places, starts, sums, manifest["items"]),
            vocabulary,
            on_damage=functools.partial(shutil.rmtree, folder, ignore_errors=True),
        )
    except _UNSOUND:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):  # a read-only cache is still a cache
        os.utime(folder / "manifest.json")  # used now
    return index


def _load(folder: Path, name: str, mmap: Literal["r"] | None = None) -> Any:
    return np.load(folder / name, mmap_mode=mmap, allow_pickle=False)


def _vocabulary(folder: Path) -> Vocabulary:
    return Vocabulary((folder / "vocabulary.bin").read_bytes(), _load(folder, "offsets.npy").tolist())


def _checked_manifest(folder: Path, key: str, whole: Sequence[str]) -> Mapping[str, Any]:
    """The manifest, after a check of every file's size and of the checksum of those in `whole`.

    Raises:
        ValueError, or another of `_UNSOUND`: Something is not as it was written.
    """
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    if manifest["key"] != key or manifest["parameters"] != _parameters():
        raise ValueError("another index")
    for name, (size, crc) in manifest["files"].items():
        if (folder / name).stat().st_size != size or (name in whole and _crc(folder / name) != crc):
            raise ValueError(f"{name} is damaged")
    return manifest


def _best_base(root: Path, hashes: NDArray[np.uint8]) -> Postings | None:
    """The kept index that has most of these items; None where none has a fifth of them."""
    wanted = {row.tobytes() for row in hashes}
    best, most = None, max(1, len(hashes) // 5)
    for folder in _folders(root):
        try:
            if json.loads((folder / "manifest.json").read_bytes())["parameters"] != _parameters():
                continue
            overlap = sum(row.tobytes() in wanted for row in _load(folder, "hashes.npy"))
        except _UNSOUND:
            continue
        if overlap >= most:
            best, most = folder, overlap
    return _load_base(best) if best is not None else None


def _load_base(folder: Path) -> Postings | None:
    try:
        _checked_manifest(folder, folder.name, (*_LOOKUP, *_REUSE))
        vocabulary = _vocabulary(folder)
        terms = [vocabulary.blob[a:b] for a, b in pairwise(vocabulary.offsets)]
        return Postings(
            terms, *(_load(folder, f"{name}.npy") for name in ("starts", "places", "counts", "lengths", "hashes"))
        )
    except _UNSOUND:
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _folders(root: Path) -> list[Path]:
    """Kept indexes, most recently used first."""
    found = []
    for folder in root.iterdir() if root.is_dir() else ():
        with contextlib.suppress(OSError):
            if not folder.name.startswith("."):
                found.append(((folder / "manifest.json").stat().st_mtime_ns, folder))
    return [folder for _, folder in sorted(found, reverse=True)]


def _evict(root: Path, key: str) -> None:
    """Delete all but the most recently used few, and temporary folders of processes that were killed."""
    size = 0
    for rank, folder in enumerate(sorted(_folders(root), key=lambda f: f.name != key)):
        with contextlib.suppress(OSError):
            size += sum(f.stat().st_size for f in folder.iterdir())
        if folder.name != key and (rank >= KEEP or size > KEEP_BYTES):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in root.glob(".tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
