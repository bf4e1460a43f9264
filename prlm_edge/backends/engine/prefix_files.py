"""Prompt prefixes on disk, one file each: checked before use, capped in size, the least recently used going first.

File: header (magic, model key, cuts, size and crc32 of the state, crc32 of all this), then the state, which is mapped.
Written whole or not at all. A file that is torn or damaged is refused and deleted; one of another format, no regular
file, not ours or writable by others is refused and left. crc32 takes 9 ms for 35 MiB, where blake2b takes 39 ms.

A state holds the user's own writing in a form from which it can be read again: only its owner may read the file, and
nothing is written unless the user has chosen the disk. Not here: which prefixes are worth keeping.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import stat
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from prlm_edge.storage import private_dir

SUFFIX = ".kv"
_MAGIC = b"PRLM-KV1"
_HEAD = struct.Struct("<8s16sIQI")  # magic, key, cuts, bytes and crc32 of the state
_CUT = struct.Struct("<16sI")  # digest, tokens
_CRC = struct.Struct("<I")
_MAX_CUTS = 4096
_STALE_S = 3600.0  # age from which an abandoned temporary file is deleted
_FREE_SHARE = 4  # a file may take this part of the free disk


class _ForeignError(Exception):
    """A file that is not ours to trust, nor to delete."""


class _DamagedError(Exception):
    """A file of ours that is not as it was written."""


class PrefixFiles:
    """The files of one model key in `folder`, under a size cap for all keys.

    Attributes:
        problem: Why the last write failed; "" if it did not.
    """

    def __init__(self, folder: Path, key: str, max_bytes: int) -> None:
        self._folder, self._key, self._max_bytes = folder, bytes.fromhex(key), max_bytes
        self.problem = ""

    def find(self, digests: Sequence[bytes], at_least: int) -> tuple[int, int, memoryview] | None:
        """(cuts shared, tokens up to there, state) of the file that shares most, if more than `at_least` tokens."""
        for n_tokens, n_cuts, path in sorted(self._matches(digests), reverse=True):
            if n_tokens <= at_least:
                return None
            try:
                with _opened(path) as (descriptor, size):
                    offset, length, crc = _layout(descriptor, size)
                    # private and writable, since ctypes points into no read-only memory; nobody writes
                    state = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))[offset:]
                    if zlib.crc32(state) != crc or len(state) != length:
                        raise _DamagedError
                with contextlib.suppress(OSError):
                    os.utime(path)  # used now
                return n_cuts, n_tokens, state
            except _DamagedError:
                _delete(path)
            except (OSError, ValueError, _ForeignError):  # the file may be sound: too many open files, no memory
                continue
        return None

    def has(self, digests: Sequence[bytes]) -> bool:
        """Whether a file holds all of `digests`."""
        return any(n_cuts == len(digests) for _, n_cuts, _ in self._matches(digests))

    def write(self, digests: Sequence[bytes], n_tokens: Sequence[int], state: bytes | bytearray | memoryview) -> bool:
        """Keep a state; files that it extends are deleted. Returns whether it is kept; `problem` says why not."""
        self.problem = ""
        path = self._folder / (blake2b(self._key + digests[-1], digest_size=16).hexdigest() + SUFFIX)
        cuts = b"".join(_CUT.pack(*cut) for cut in zip(digests, n_tokens, strict=True))
        head = _HEAD.pack(_MAGIC, self._key, len(digests), len(state), zlib.crc32(state)) + cuts
        extended = [p for tokens, n_cuts, p in self._matches(digests) if _cuts_of(p) == n_cuts and p != path]
        try:
            private_dir(self._folder)
            self._tidy(path)
            room = min(self._max_bytes, shutil.disk_usage(self._folder).free // _FREE_SHARE)
            if len(head) + len(state) > room:
                self.problem = (
                    f"a prompt prefix of {len(state) >> 20} MiB was not kept on disk: there is too little room"
                )
                return False
            _replace(path, (head, _CRC.pack(zlib.crc32(head)), state))
        except OSError as error:
            self.problem = f"the prompt prefix could not be kept on disk: {self._folder}: {error.strerror}"
            return False
        for old in extended:
            _delete(old)
        self._tidy(path)
        return True

    def _matches(self, digests: Sequence[bytes]) -> Iterator[tuple[int, int, Path]]:
        """(tokens shared, cuts shared, path) of the sound-looking files of our key that share anything."""
        for path in self._files():
            try:
                key, cuts = _read_head(path)
            except _DamagedError:
                _delete(path)
                continue
            except (OSError, _ForeignError):
                continue
            n_cuts = next((i for i, (a, (b, _)) in enumerate(zip(digests, cuts, strict=False)) if a != b), None)
            n_cuts = min(len(digests), len(cuts)) if n_cuts is None else n_cuts
            if key == self._key and n_cuts:
                yield cuts[n_cuts - 1][1], n_cuts, path

    def _files(self, pattern: str = f"*{SUFFIX}") -> list[Path]:
        try:
            return sorted(self._folder.glob(pattern))
        except OSError:  # deleted by another process just now
            return []

    def _tidy(self, keep: Path) -> None:
        """Delete the least recently used files beyond the cap, and what killed processes left."""
        found = []
        for path in self._files():
            with contextlib.suppress(OSError):
                status = path.lstat()
                found.append((path != keep, -status.st_mtime_ns, status.st_size, path))
        total = 0
        for _, _, size, path in sorted(found):
            total += size
            if total > self._max_bytes and path != keep:
                _delete(path)
        for path in self._files(f".*{SUFFIX}.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > _STALE_S:
                    path.unlink()


def _replace(path: Path, parts: Sequence[bytes | bytearray | memoryview]) -> None:
    """Write a file whole or not at all. Unlike `storage.atomic_write` it does not wait for the disk: checksums tell."""
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=f"{SUFFIX}.tmp", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[stream.write(view) or 0 :]
        Path(temporary).replace(path)
    except BaseException:
        _delete(Path(temporary))
        raise


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int]]:
    """(descriptor, size) of a regular file that is ours alone to write.

    Raises:
        _ForeignError: It is something else.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        foreign = hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022)
        if foreign or not stat.S_ISREG(status.st_mode):
            raise _ForeignError
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def _read_head(path: Path) -> tuple[bytes, list[tuple[bytes, int]]]:
    """The key and the (digest, tokens) cuts of a file whose size is what its header says."""
    with _opened(path) as (descriptor, size):
        key, n_cuts, _, _ = _fixed(descriptor, size)
        head = _read(descriptor, _HEAD.size + n_cuts * _CUT.size)
        return key, list(_CUT.iter_unpack(head[_HEAD.size :]))


def _layout(descriptor: int, size: int) -> tuple[int, int, int]:
    """(offset, bytes, crc32) of the state."""
    _, n_cuts, length, crc = _fixed(descriptor, size)
    return _HEAD.size + n_cuts * _CUT.size + _CRC.size, length, crc


def _fixed(descriptor: int, size: int) -> tuple[bytes, int, int, int]:
    """(key, cuts, bytes and crc32 of the state), after a check of the whole header.

    Raises:
        _DamagedError: The file is not as it was written.
        _ForeignError: Another version of prlm-edge wrote it.
    """
    fixed = _read(descriptor, _HEAD.size)
    if len(fixed) != _HEAD.size:
        raise _DamagedError
    magic, key, n_cuts, length, crc = _HEAD.unpack(fixed)
    if magic != _MAGIC and magic[:-1] == _MAGIC[:-1]:
        raise _ForeignError
    if magic != _MAGIC or not 0 < n_cuts <= _MAX_CUTS:
        raise _DamagedError
    head = _read(descriptor, _HEAD.size + n_cuts * _CUT.size + _CRC.size)
    if size != len(head) + length or zlib.crc32(head[: -_CRC.size]) != _CRC.unpack(head[-_CRC.size :])[0]:
        raise _DamagedError
    return key, n_cuts, length, crc


def _read(descriptor: int, n_bytes: int) -> bytes:
    """The first bytes of a file (Windows has no pread)."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, n_bytes)


def _cuts_of(path: Path) -> int:
    with contextlib.suppress(OSError, _DamagedError, _ForeignError):
        return len(_read_head(path)[1])
    return 0


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
