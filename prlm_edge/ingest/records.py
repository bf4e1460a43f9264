"""JSON records out of a file: JSON lines or one big array, gzipped or not, one at a time and in bounded memory.

Not here: what a record means, which is `jsonl.py` and `lamp.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from prlm_edge.errors import UsageError
from prlm_edge.profile import MAX_LINE_BYTES, LineError, clean, parse_object, raw_lines

_CHUNK_CHARS = 1 << 20
_MAX_BUFFER_CHARS = 256 << 20


class Record(NamedTuple):
    """One record: its place ("line 3", "record 3"), and the object or why there is none."""

    where: str
    value: dict[str, Any] | None
    error: str = ""


def read_records(path: Path, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Record]:
    """Yield the records of `path`.

    Raises:
        UsageError: No such file, or a damaged array or gzip file.
    """
    with open_data(path) as stream:
        try:
            head = stream.peek(4096)[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()  # type: ignore[attr-defined]
            yield from _array(path, stream) if head.startswith(b"[") else read_lines(stream, max_line_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise UsageError(f"{path}: damaged gzip file", "fetch it again") from None


@contextlib.contextmanager
def open_data(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for buffered reading, through gzip where it begins like one.

    Raises:
        UsageError: No such file, a folder, or no permission.
    """
    try:
        with path.open("rb") as stream:
            if stream.peek(2)[:2] != b"\x1f\x8b":
                yield stream
                return
            with gzip.open(stream) as unzipped, io.BufferedReader(unzipped) as buffered:
                yield buffered
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: no such file", "check the path") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{path}: {error.strerror}", "name a readable file") from None


class _NoDigest:
    def update(self, data: bytes, /) -> None:
        """Nobody asks for a hash here."""


def read_lines(stream: IO[bytes], limit: int = MAX_LINE_BYTES) -> Iterator[Record]:
    """Yield the records of JSON lines; blank ones are passed over."""
    for number, line in enumerate(raw_lines(stream, _NoDigest(), limit), 1):
        where = f"line {number}"
        if line.data is None:
            yield Record(where, None, f"longer than {limit >> 20} MiB")
        elif not line.data.isspace():
            try:
                yield Record(where, parse_object(line.data))
            except LineError as error:
                yield Record(where, None, str(error))


def _array(path: Path, stream: IO[bytes]) -> Iterator[Record]:
    """Objects of a JSON array. The buffer doubles while an object is incomplete, so the work stays linear."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    decoder = json.JSONDecoder(parse_constant=lambda name: None)  # NaN and Infinity are no JSON
    buffer, position, number = "", 0, 0
    try:
        while not buffer:  # up to the opening bracket
            buffer = text.read(_CHUNK_CHARS).lstrip()
        position = 1
        while True:
            while position < len(buffer) and buffer[position] in " \t\r\n,":
                position += 1
            if buffer[position : position + 1] == "]":
                return
            try:
                value, position = decoder.raw_decode(buffer, position)
            except json.JSONDecodeError as error:
                more = text.read(max(_CHUNK_CHARS, len(buffer) - position))
                buffer, position = buffer[position:] + more, 0
                if not more or len(buffer) > _MAX_BUFFER_CHARS:
                    raise UsageError(
                        f"{path}: invalid JSON after record {number}: {error.msg}",
                        "the file is cut off or damaged: fetch it again",
                    ) from None
                continue
            except (ValueError, RecursionError):
                raise UsageError(f"{path}: record {number + 1} is not sound JSON", "leave it out, or mend it") from None
            number += 1
            yield _record(f"record {number}", value)
            if position > _CHUNK_CHARS:
                buffer, position = buffer[position:], 0
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: invalid UTF-8 near record {number + 1}: {error.reason}", "save it as UTF-8"
        ) from None
    finally:
        with contextlib.suppress(ValueError):  # the stream was closed under us
            text.detach()


def _record(where: str, value: Any) -> Record:
    if not isinstance(value, dict):
        return Record(where, None, "not a JSON object")
    text = json.dumps(value, ensure_ascii=False)
    cleaned = clean(text)
    return Record(where, value if cleaned is text or cleaned == text else json.loads(cleaned))
