"""Files that are kept to save time and can be made again: checked before use, replaced whole, one kit for all of them.

A kept file is a header and named sections of bytes, which can be memory-mapped:

    magic (8 bytes), crc32 and length of the header (4 bytes each)
    header: JSON with format, key, what the writer noted, and place, size and crc32 of each section
    the sections, each starting at a multiple of 64 bytes
    of a file that grows: records of one width, which carry a checksum of their own

Opening a file gives sound content or nothing. A file that is absent, unreadable, of another format or key, a
symbolic link, a folder, another user's or writable by others counts as absent and is left alone; a damaged one is
deleted. Writing goes to a temporary file that is renamed, so a link in the file's place is replaced and never
followed. Nothing waits for the disk: after a power failure the checksums tell.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import shutil
import stat
import struct
import sys
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prlm_edge.errors import BAD_DATA
from prlm_edge.storage.files import atomic_write, is_own, locked, own_dir, temporaries, write_all, write_error

SUFFIX = ".kept"
_MAGIC = b"PRLMKPT1"
_START = struct.Struct("<8sII")  # magic, crc32 and bytes of the header
_ALIGN = 64
_REPLACED = (errno.ENOENT, errno.ELOOP, errno.EACCES)  # what opening says of no file, of a link and of a foreign file
_STALE_S = 3600.0  # age from which an abandoned temporary file is deleted


class _DamagedError(Exception):
    """A kept file is not as it was written."""


@dataclass(frozen=True)
class Kept:
    """A kept file that is open.

    Attributes:
        about: What its writer noted.
        sections: The sections by name, mapped.
        records: What was appended after them, mapped.
    """

    about: Mapping[str, Any]
    sections: Mapping[str, memoryview]
    records: memoryview


class _Header(NamedTuple):
    format: str
    key: str
    about: dict[str, Any]
    sections: dict[str, list[int]]  # of each: first byte, counted from `start`, bytes and crc32
    start: int  # of the sections in the file
    stop: int  # of the sections: where records begin


@dataclass(frozen=True)
class Shelf:
    """A folder of kept files of one format.

    Attributes:
        folder: The folder; made by the first write.
        format: Name and version of what the files hold; files of another format, or byte order, count as absent.
        max_files: Of more files than this, the least recently used go.
        max_bytes: The same for bytes in all.
    """

    folder: Path
    format: str
    max_files: int = 1_000
    max_bytes: int = 1_000_000_000

    @property
    def _format(self) -> str:
        return f"{self.format} {sys.byteorder}"

    def path(self, name: str) -> Path:
        """Where the file of that name is kept."""
        return self.folder / f"{name}{SUFFIX}"

    def names(self) -> list[str]:
        """Names of the files in the folder, the most recently used first."""
        return [path.name.removesuffix(SUFFIX) for _, _, path in self._files()]

    def open(
        self, name: str, key: str, *, unchecked: Collection[str] = (), writable: bool = False, grows: bool = False
    ) -> Kept | None:
        """The file of that name; None where there is no sound one of that key.

        Args:
            name: The file's name.
            key: What the file must have been written for.
            unchecked: Sections that the caller checks itself when it uses them.
            writable: Map the file so that its memory, but never the file, can be written to.
            grows: Records may follow the sections.
        """
        return self._open(name, key, unchecked, writable, grows, used=True)

    def peek(self, name: str, key: str) -> Kept | None:
        """As `open`, with only the header checked; it does not count as a use."""
        return self._open(name, key, None, writable=False, grows=True, used=False)

    def _open(
        self, name: str, key: str, unchecked: Collection[str] | None, writable: bool, grows: bool, used: bool
    ) -> Kept | None:
        try:
            with self._own(name) as (descriptor, size):
                header = _read_header(descriptor, size)
                if (header.format, header.key) != (self._format, key):
                    return None
                if size > header.stop and not grows:
                    raise _DamagedError
                view = memoryview(
                    mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY if writable else mmap.ACCESS_READ)
                )
                if used:
                    with contextlib.suppress(OSError):  # a read-only cache is still a cache
                        os.utime(descriptor if os.utime in os.supports_fd else self.path(name))
            sections = {}
            for section, (start, n_bytes, crc) in header.sections.items():
                sections[section] = view[header.start + start :][:n_bytes]
                if unchecked is not None and section not in unchecked and zlib.crc32(sections[section]) != crc:
                    raise _DamagedError
            return Kept(header.about, sections, view[header.stop :])
        except _DamagedError:
            self.forget(name)
        except (OSError, ValueError):  # the file may be sound: too many open files, no memory
            pass
        return None

    def write(
        self, name: str, key: str, about: Mapping[str, Any], sections: Mapping[str, Any], records: bytes = b""
    ) -> None:
        """Keep a file, whole or not at all, in place of whatever has its name; then tidy the folder.

        Args:
            name: The file's name.
            key: What it is written for.
            about: JSON values that the reader gets back.
            sections: Bytes or contiguous arrays by name.
            records: The first records of a file that grows.

        Raises:
            PrlmError: It can't be written.
        """
        views, table, size = [], {}, 0
        for section, content in sections.items():
            view = memoryview(content)
            views.append(view.cast("B") if view.nbytes else memoryview(b""))  # no view of nothing can be cast
            start = _aligned(size)
            table[section] = [start, view.nbytes, zlib.crc32(views[-1])]
            size = start + view.nbytes
        about = {"format": self._format, "key": key, "about": about, "sections": table, "size": size}
        header = json.dumps(about).encode()
        header = header.ljust(_aligned(_START.size + len(header)) - _START.size)
        own_dir(self.folder)
        with atomic_write(self.path(name), follow=False, sync=False) as stream:
            stream.write(_START.pack(_MAGIC, zlib.crc32(header), len(header)) + header)
            for view in views:
                stream.write(bytes(_aligned(stream.tell()) - stream.tell()))
                stream.write(view)
            stream.write(records)
        self.tidy(keep=name)

    def append(self, name: str, key: str, records: bytes, width: int) -> None:
        """Add records of `width` bytes to a file that grows; what an interrupted append left is cut off first.

        A file that is not there is made; one that is not sound, or for another key, is replaced.

        Raises:
            PrlmError: They can't be written; the records that were there stay.
        """
        own_dir(self.folder)
        with self.locked(name):
            try:
                with self._own(name, os.O_RDWR | os.O_APPEND) as (descriptor, size):
                    header = _read_header(descriptor, size)
                    if (header.format, header.key) != (self._format, key):
                        raise _DamagedError
                    if torn := (size - header.stop) % width:
                        os.ftruncate(descriptor, size - torn)
                    write_all(descriptor, records)
                return
            except _DamagedError:
                pass
            except OSError as error:
                if error.errno not in _REPLACED:
                    raise write_error(self.path(name), error) from error
            self.write(name, key, {}, {}, records)

    def locked(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Hold the lock that guards a file that grows."""
        return locked(self.path(name))

    def forget(self, name: str) -> None:
        """Delete the file of that name, if it is there."""
        with contextlib.suppress(OSError):
            self.path(name).unlink()

    def tidy(self, keep: str = "") -> None:
        """Delete the least recently used files beyond the limits, but not `keep`, and what killed processes left."""
        total = 0
        found = self._files()
        found.sort(key=lambda file: file[2] != self.path(keep))  # stable: the others stay in order
        for rank, (_, size, path) in enumerate(found, 1):
            total += size
            if path != self.path(keep) and (rank > self.max_files or total > self.max_bytes):
                self.forget(path.name.removesuffix(SUFFIX))
        for path in temporaries(self.folder):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > _STALE_S:
                    path.unlink()

    def room(self) -> int:
        """Bytes that a file may take: the limit, or a quarter of the free disk where that is less."""
        try:
            return min(self.max_bytes, shutil.disk_usage(self.folder).free // 4)
        except OSError:
            return self.max_bytes

    def _files(self) -> list[tuple[int, int, Path]]:
        """(time of last use, bytes, path) of our files in the folder, the most recently used first."""
        found = []
        with contextlib.suppress(OSError):
            if is_own(self.folder.lstat(), stat.S_ISDIR):
                for path in self.folder.iterdir():
                    if path.suffix == SUFFIX and not path.name.startswith("."):
                        with contextlib.suppress(OSError):  # deleted by another process just now
                            status = path.lstat()
                            found.append((status.st_mtime_ns, status.st_size, path))
        return sorted(found, reverse=True)

    @contextlib.contextmanager
    def _own(self, name: str, flags: int = os.O_RDONLY) -> Iterator[tuple[int, int]]:
        """Descriptor and size of a regular file that is ours alone to write, in a folder of which the same is true.

        Raises:
            OSError: There is none.
        """
        if not is_own(self.folder.lstat(), stat.S_ISDIR):
            raise PermissionError(errno.EACCES, "is not this user's alone")
        for extra in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
            flags |= getattr(os, extra, 0)
        descriptor = os.open(self.path(name), flags)
        try:
            status = os.fstat(descriptor)
            if not is_own(status, stat.S_ISREG):
                raise PermissionError(errno.EACCES, "is not this user's alone")
            yield descriptor, status.st_size
        finally:
            os.close(descriptor)


def _read_header(descriptor: int, size: int) -> _Header:
    """The header, after a check of its checksum and of the file's size.

    Raises:
        _DamagedError: It is not as it was written.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)  # Windows has no pread
    try:
        magic, crc, length = _START.unpack(os.read(descriptor, _START.size))
        text = os.read(descriptor, length) if length <= size else b""
        if magic != _MAGIC or len(text) != length or zlib.crc32(text) != crc:
            raise _DamagedError
        read = json.loads(text)
        start = _START.size + length
        header = _Header(read["format"], read["key"], read["about"], read["sections"], start, start + read["size"])
        inside = all(0 <= first <= first + n_bytes <= read["size"] for first, n_bytes, _ in header.sections.values())
    except (struct.error, *BAD_DATA):
        raise _DamagedError from None
    if not inside or not start <= header.stop <= size:
        raise _DamagedError
    return header


def _aligned(position: int) -> int:
    return -(-position // _ALIGN) * _ALIGN
