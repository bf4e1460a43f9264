"""What was read of a large profile, kept for the next process: where each item lies, and its hash, id and date.

Taken over only for a file that is as it was read, or that begins with what was read (`profile_read.py` sees to that);
the items' own words are always read from the profile. Not here: the file that this goes to (`profile_cache.py`).
"""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path
from typing import Any

from prlm_edge.profile import cache_file as profile_cache
from prlm_edge.profile.lazy_items import CAN_STORE, StoredLines
from prlm_edge.profile.lines import BadLine
from prlm_edge.profile.snapshot import Snapshot

FORMAT = 1  # to be raised when lines are read in another way, or content hashes are made in another way
KEEP_FROM = 2000  # items; fewer are parsed in less time than is worth a file
_MAX_SEGMENTS = 256  # as many times was the file taken over and kept with more behind it; then it is read anew
_KIND = "lines"
_TYPES = {"starts": "Q", "sizes": "I", "numbers": "Q"}


def load(path: Path) -> Snapshot | None:
    """What was kept of the profile, its items without a file to be read from; None where nothing is."""
    if not CAN_STORE:
        return None
    file = profile_cache.path_of(path, _KIND)
    kept = profile_cache.read(file)
    if kept is None:
        return None
    header, parts = kept
    try:
        if header["format"] != _format() or len(header["segments"]) > _MAX_SEGMENTS:
            return None
        snapshot = Snapshot()
        for name, part in zip(_TYPES, parts, strict=False):
            getattr(snapshot, name).frombytes(part)
        hashes, ids, dates = map(bytes, parts[len(_TYPES) :])
        stored = StoredLines(snapshot.starts, snapshot.sizes, snapshot.numbers, hashes, ids, dates, file)
        if not len(stored) == len(snapshot.starts) == len(snapshot.sizes) == len(snapshot.numbers):
            raise ValueError("parts that don't fit together")
        snapshot.stored = stored
        snapshot.bad = [BadLine(*fields) for fields in header["bad"]]
        snapshot.segments = [(size, bytes.fromhex(digest)) for size, digest in header["segments"]]
        snapshot.signature = tuple(header["signature"])
        for name in ("ended", "torn", "n_bytes", "n_lines", "settled"):
            setattr(snapshot, name, header[name])
    except (ValueError, KeyError, TypeError):
        profile_cache.forget(file)
        return None
    return snapshot


def save(path: Path, snapshot: Snapshot) -> None:
    """Keep what was read of the profile at `path`."""
    if not CAN_STORE or len(snapshot.items) < KEEP_FROM or snapshot.signature is None:
        return
    snapshot.close_segment()
    header: dict[str, Any] = {
        "format": _format(),
        "bad": [[bad.number, bad.reason, bad.start, bad.size, bad.duplicate] for bad in snapshot.bad],
        "segments": [[size, digest.hex()] for size, digest in snapshot.segments],
        "signature": snapshot.signature,
        **{name: getattr(snapshot, name) for name in ("ended", "torn", "n_bytes", "n_lines", "settled")},
    }
    hashes = bytes.fromhex("".join(item.content_hash for item in snapshot.items))
    columns = [json.dumps([getattr(item, name) for item in snapshot.items]).encode() for name in ("id", "date")]
    arrays = [getattr(snapshot, name) for name in _TYPES]
    profile_cache.write(profile_cache.path_of(path, _KIND), header, [*arrays, hashes, *columns])


def _format() -> list[Any]:
    return [FORMAT, sys.byteorder, [array(code).itemsize for code in _TYPES.values()]]
