"""SHA-256 of large files, computed once and kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from prlm_edge.errors import ModelError, PrlmError
from prlm_edge.models import store
from prlm_edge.storage import cache_dir
from prlm_edge.storage.kept import Shelf


def sha256_of(path: Path) -> str:
    """64 hex digits; computed once for a file's (path, size, times, inode) and kept in the cache folder.

    Raises:
        ModelError: The file can't be read.
    """
    path = path.resolve()
    name = hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
    shelf = Shelf(cache_dir() / "hashes", "sha256 1", max_files=64)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ModelError(f"{path}: is no file", "a model is a file, or a folder with one")
        stamp = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
        if (kept := shelf.open(name, stamp)) is not None:
            return str(kept.about["sha256"])
        digest = store.hash_file(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check that the file exists and that you may read it") from error
    with contextlib.suppress(PrlmError):  # without it the file is hashed again next time
        shelf.write(name, stamp, {"sha256": digest}, {})
    return digest
