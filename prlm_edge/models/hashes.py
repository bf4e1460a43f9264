"""SHA-256 of large files, computed once and remembered in the cache folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prlm_edge.errors import ModelError, PrlmError
from prlm_edge.models import store
from prlm_edge.storage import atomic_write, cache_dir

_HASHES_KEPT = 64  # entries of the hash cache


def sha256_of(path: Path) -> str:
    """64 hex digits; computed once for a file's (path, size, times, inode) and remembered in the cache folder.

    Raises:
        ModelError: The file can't be read.
    """
    path = path.resolve()
    memory = cache_dir() / "sha256.json"
    try:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = _read_hashes(memory)
        entry = known.pop(str(path), None)
        if isinstance(entry, dict) and entry.get("stamp") == stamp:
            return str(entry["sha256"])
        digest = store.hash_file(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check that the file exists and that you may read it") from error
    known[str(path)] = {"stamp": stamp, "sha256": digest}
    try:
        with atomic_write(memory) as stream:
            stream.write(json.dumps(dict(list(known.items())[-_HASHES_KEPT:])).encode())
    except PrlmError:
        pass  # a cache that can't be written only costs the time to hash again
    return digest


def _read_hashes(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
