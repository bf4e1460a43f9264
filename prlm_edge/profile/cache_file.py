"""Private files that spare a large profile from being read whole: checked before use, replaced whole, few of them kept.

File: magic, size and crc32 of what follows, a JSON header, then the parts that the header gives the sizes of. Any
reader checks all of it; what is damaged is deleted, what is no regular file, not ours or writable by others is left
alone, and both are as good as absent. Failing to write costs nothing but time.

A file holds ids, dates, hashes and places of a profile's items, or counts of the words of its titles: readable by its
owner alone. Not here: what the parts mean (`profile_keep.py`, `profile_style.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
import time
import zlib
from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prlm_edge.errors import PrlmError
from prlm_edge.storage import atomic_write, cache_dir

KEEP = 32  # files; a profile has one, and one for each task that was asked for
KEEP_BYTES = 500_000_000
_MAGIC = b"PRLM-PF1"
_HEAD = struct.Struct("<8sIQI")  # magic, crc32 and bytes of the rest, bytes of the header
_STALE_S = 3600.0  # age from which an abandoned temporary file is deleted


def path_of(profile: Path, kind: str) -> Path:
    """The file that keeps `kind` for the profile, whatever links lead to it."""
    key = blake2b(os.fsencode(profile.resolve()), digest_size=16).hexdigest()
    return cache_dir() / "profiles" / f"{key}.{kind}"


def read(path: Path) -> tuple[Mapping[str, Any], list[memoryview]] | None:
    """Header and parts; None where there is no sound file of ours."""
    try:
        content = _read_own(path)
    except OSError:
        return None
    try:
        magic, crc, size, n_header = _HEAD.unpack_from(content)
        rest = content[_HEAD.size :]
        if magic != _MAGIC or len(rest) != size or zlib.crc32(rest) != crc:
            raise ValueError("damaged")
        header: dict[str, Any] = json.loads(bytes(rest[:n_header]))
        parts, position = [], n_header
        for n_part in header["parts"]:
            parts.append(rest[position : position + n_part])
            position += n_part
        if position != size:
            raise ValueError("damaged")
    except (struct.error, ValueError, KeyError, TypeError):
        forget(path)
        return None
    with contextlib.suppress(OSError):  # a read-only cache is still a cache
        os.utime(path)  # used now
    return header, parts


def write(path: Path, header: Mapping[str, Any], parts: Sequence[bytes | array[int]]) -> bool:
    """Keep a file; returns whether it is kept."""
    views = [memoryview(part).cast("B") for part in parts]
    first = json.dumps({**header, "parts": [len(view) for view in views]}).encode()
    crc, size = zlib.crc32(first), len(first)
    for view in views:
        crc, size = zlib.crc32(view, crc), size + len(view)
    try:
        with atomic_write(path) as stream:
            stream.write(_HEAD.pack(_MAGIC, crc, size, len(first)) + first)
            for view in views:
                stream.write(view)
        _tidy(path)
    except (PrlmError, OSError):
        return False
    return True


def forget(path: Path) -> None:
    """Delete a file that is of no use."""
    with contextlib.suppress(OSError):
        path.unlink()


def _read_own(path: Path) -> memoryview:
    """The content of a regular file that is ours alone to write.

    Raises:
        OSError: There is none.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as stream:
        status = os.fstat(stream.fileno())
        foreign = hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022)
        if foreign or not stat.S_ISREG(status.st_mode):
            raise PermissionError("not ours")
        return memoryview(stream.readall())


def _tidy(path: Path) -> None:
    """Delete all but the most recently used few, and temporary files of processes that were killed."""
    found = []
    for other in path.parent.iterdir():
        with contextlib.suppress(OSError):
            status = other.stat()
            if other.suffix == ".tmp":
                if time.time() - status.st_mtime > _STALE_S:
                    other.unlink()
            elif other != path:
                found.append((status.st_mtime_ns, status.st_size, other))
    total = path.stat().st_size
    for rank, (_, size, other) in enumerate(sorted(found, reverse=True), 2):
        total += size
        if rank > KEEP or total > KEEP_BYTES:
            forget(other)
