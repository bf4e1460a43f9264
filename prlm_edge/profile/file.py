"""A profile as a file: whether it is one at all, and rewrites that copy untouched bytes as they are."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from prlm_edge.errors import ProfileError, UsageError
from prlm_edge.storage import atomic_write, temporaries

HEAD_BYTES = 64 * 1024
_BLOCK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
_MAGIC = {
    b"GGUF": "a GGUF model",
    b"PK\x03\x04": "a zip file",
    b"\x1f\x8b": "a gzip file",
    b"\x7fELF": "a program",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
Signature = tuple[int, ...]  # changes whenever the file does


class ChangedError(Exception):
    """Another program has written to the profile meanwhile."""


class Edit(NamedTuple):
    """Bytes `start` to `start + size` of a file become `new`."""

    start: int
    size: int
    new: bytes = b""


def status_of(path: Path) -> os.stat_result | None:
    """What the file system says of a profile; None where there is no such file.

    Raises:
        UsageError: It is a folder or a device.
        ProfileError: The file system won't say.
    """
    try:
        with reading(path):
            status = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{path}: is a folder, not a profile", "name a .jsonl file")
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path}: is not a regular file", "name a .jsonl file")
    return status


def read_span(path: Path, start: int, size: int) -> bytes:
    """The bytes of one line.

    Raises:
        ProfileError: The file can't be read.
    """
    with reading(path), path.open("rb") as stream:
        stream.seek(start)
        return stream.read(size)


def signature_of(status: os.stat_result) -> Signature:
    """Device, inode, size, time of modification and of change."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def rewrite(path: Path, edits: Iterable[Edit], expected: Signature | None, *, close: bool = False) -> None:
    """Replace the file by itself with `edits` applied; all other bytes are copied as they are.

    Args:
        path: The file.
        edits: Ranges that don't overlap.
        expected: The file's signature when the ranges were found.
        close: Add a line break at the end where there is none.

    Raises:
        ChangedError: The file has another signature, before or after it was copied. It is as it was.
        PrlmError: The disk is full, or the disk or the file is read-only; the file is then as it was.
    """

    def check(status: os.stat_result) -> None:
        if signature_of(status) != expected:
            raise ChangedError

    with (
        atomic_write(path, before_rename=lambda: check(path.stat())) as target,
        path.open("r+b") as source,  # to write, though nothing is: a read-only file is refused
    ):
        check(os.fstat(source.fileno()))
        last = b"\n"
        for edit in sorted(edits):
            last = _copy(source, target, edit.start - source.tell()) or last
            target.write(edit.new)
            last = edit.new[-1:] or last
            source.seek(edit.start + edit.size)
        last = _copy(source, target) or last
        if close and last != b"\n":
            target.write(b"\n")


def leftovers(path: Path) -> list[Path]:
    """Temporary files of rewrites that were killed. They may be deleted under the profile's lock."""
    real = path.resolve()
    names = temporaries(real.parent).items()
    return [left for left, name in names if name == real.name or name.startswith(f"{real.name}.rejected-")]


def write_side_file(path: Path, ranges: Sequence[Edit], stamp: str) -> Path:
    """Copy `ranges` of the file, byte for byte, to a new file `<name>.rejected-<stamp>` next to it (0600, fsynced).

    Raises:
        PrlmError: It can't be written; nothing is left of it then.
    """
    real = path.resolve()
    side = real.with_name(f"{real.name}.rejected-{stamp}")
    number = 1
    while side.exists():
        number += 1
        side = real.with_name(f"{real.name}.rejected-{stamp}-{number}")
    with atomic_write(side, follow=False) as target, real.open("rb") as source:
        for edit in sorted(ranges):
            source.seek(edit.start)
            _copy(source, target, edit.size)
    return side


def _copy(source: IO[bytes], target: IO[bytes], size: int | None = None) -> bytes:
    """Copy `size` bytes (None: all the rest); returns the last byte copied, b"" if none was."""
    last = b""
    while size is None or size > 0:
        block = source.read(_BLOCK_BYTES if size is None else min(size, _BLOCK_BYTES))
        if not block:
            break
        target.write(block)
        last = block[-1:]
        size = None if size is None else size - len(block)
    return last


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a failure to read into the error that users meet; a missing file stays a FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}", "check the path and its permissions") from None


def refuse_foreign(path: Path, head: bytes) -> None:
    """Refuse what was never a profile, so that nothing is appended to somebody's model or README."""
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise UsageError(f"{path}: is {what}, not a profile", "name a .jsonl file with one JSON object a line")
    if head.startswith(_UTF16):
        raise UsageError(f"{path}: is UTF-16 text", "save it as UTF-8")
    lines = [text for line in head.split(b"\n") if (text := line.removeprefix(BOM).strip())]
    an_object_begins = any(line.startswith(b"{") for line in lines)
    if lines and (lines[0] == b"[" or lines[0].startswith(b"[{" if an_object_begins else b"[")):
        raise UsageError(
            f"{path}: is a JSON array, not one object a line",
            f"import it: prlm-edge profile import jsonl {path} --user me.jsonl",
        )
    if an_object_begins or not lines:
        return
    what = "binary data" if b"\0" in head else "no line of it is a JSON object"
    raise UsageError(f"{path}: is not a profile ({what})", "name a .jsonl file with one JSON object a line")
