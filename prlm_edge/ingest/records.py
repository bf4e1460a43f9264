"""JSON records out of a file, one at a time and in bounded memory.

The file holds JSON lines, one array, or documents one after another, pretty-printed or not; it may be gzipped, and in
UTF-16 or UTF-32.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

from prlm_edge.errors import UsageError
from prlm_edge.ingest.common import encoding_of
from prlm_edge.profile import MAX_LINE_BYTES, LineError, clean, finite, parse_object, raw_lines

_CHUNK_CHARS = 1 << 20
_MAX_BUFFER_CHARS = 256 << 20
_HEAD_BYTES = 1 << 20
_BLANKS = " \t\r\n\x1e\ufeff"  # U+001E stands before each record of a JSON text sequence
_GAP = re.compile(rf"[{_BLANKS},]*")


Stream: TypeAlias = "io.BufferedReader[Any]"


class Record(NamedTuple):
    """One record: its place ("line 3", "record 3"), and the object or why there is none."""

    where: str
    value: dict[str, Any] | None
    error: str = ""


class _Decoder(json.JSONDecoder):
    """Reads JSON without a loss: numbers that Python can't hold stay text, and `twice` is a key that stands twice."""

    def __init__(self) -> None:
        self.twice = ""
        super().__init__(
            parse_constant=lambda name: None, parse_float=finite, parse_int=_integer, object_pairs_hook=self._object
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            seen: dict[str, Any] = {}
            self.twice = next((k for k, v in pairs if seen.setdefault(k, v) != v), self.twice)
        return value


def _integer(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:  # thousands of digits
        return text


def read_records(path: Path, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Record]:
    """Yield the records of `path`.

    Raises:
        UsageError: No such file, or a damaged document or gzip file.
    """
    with open_data(path) as raw:
        try:
            stream = _as_utf8(path, raw)
            head = stream.peek(_HEAD_BYTES).decode("utf-8", "replace").lstrip(_BLANKS)
            line, end, _ = head.partition("\n")
            if head.startswith("[") or ((end or len(head) < _HEAD_BYTES // 4) and _goes_on(line)):
                yield from _documents(path, stream)
            else:
                yield from read_lines(stream, max_line_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise UsageError(f"{path}: damaged gzip file", "fetch it again") from None


@contextlib.contextmanager
def open_data(path: Path) -> Iterator[Stream]:
    """Open a file for buffered reading, through gzip where it begins like one.

    Raises:
        UsageError: No such file, a folder, or no permission.
    """
    try:
        with path.open("rb", buffering=0) as raw, io.BufferedReader(raw, _HEAD_BYTES) as stream:
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode) and not stream.isatty():
                raise UsageError(f"{path}: a device, which never ends", "name a file")
            if stream.peek(2)[:2] != b"\x1f\x8b":
                yield stream
                return
            with gzip.open(stream) as unzipped, io.BufferedReader(unzipped, _HEAD_BYTES) as buffered:
                yield buffered
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: no such file", "check the path") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{path}: {error.strerror}", "name a readable file") from None


class _NoDigest:
    def update(self, data: bytes, /) -> None:
        """Nobody asks for a hash here."""


def read_lines(stream: IO[bytes], limit: int = MAX_LINE_BYTES) -> Iterator[Record]:
    """Yield the records of JSON lines; blank ones are passed over, a comma at the end is allowed."""
    decoder = _Decoder()
    for number, line in enumerate(raw_lines(stream, _NoDigest(), limit), 1):
        where = f"line {number}"
        if line.data is None:
            yield Record(where, None, f"longer than {limit >> 20} MiB")
        elif data := line.data.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n\x1e"):
            decoder.twice = ""
            try:
                yield _record(where, parse_object(data.removesuffix(b","), decoder.decode), decoder)
            except LineError as error:
                yield Record(where, None, str(error))


def _as_utf8(path: Path, stream: Stream) -> Stream:
    """The stream, or where it is in UTF-16 or UTF-32 its whole content in UTF-8."""
    encoding = encoding_of(stream.peek(_HEAD_BYTES))
    if encoding.startswith("utf-8"):
        return stream
    try:
        data = stream.read().decode(encoding).encode()
    except UnicodeError:
        raise UsageError(f"{path}: invalid {encoding.upper()}", "save it as UTF-8") from None
    return io.BufferedReader(io.BytesIO(data), _HEAD_BYTES)


def _goes_on(line: str) -> bool:
    """Whether a document begins with this line and ends in a later one, or another document follows it there."""
    line = line.rstrip(_BLANKS)
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return line.startswith("{") and (error.pos >= len(line) or line[error.pos :].lstrip(", ").startswith("{"))
    except (ValueError, RecursionError):
        pass
    return False


def _documents(path: Path, stream: Stream) -> Iterator[Record]:
    """The documents of a stream, of an array its elements."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    decoder = _Decoder()
    number = 0
    try:
        for number, value in enumerate(_values(text, decoder), 1):
            yield _record(f"record {number}", value, decoder)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path}: invalid JSON after record {number}: {error.msg}", "the file is cut off or damaged: fetch it again"
        ) from None
    except RecursionError:
        raise UsageError(f"{path}: record {number + 1} is nested too deeply", "leave it out, or mend it") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: invalid UTF-8 near record {number + 1}: {error.reason}", "save it as UTF-8"
        ) from None
    finally:
        with contextlib.suppress(ValueError):  # the stream was closed under us
            text.detach()


def _values(text: io.TextIOWrapper, decoder: _Decoder) -> Iterator[Any]:
    """The values of `_documents`. The buffer doubles while one is incomplete, so the work stays linear."""
    buffer, position, inside = "", 0, False
    while True:
        position = _GAP.match(buffer, position).end()  # type: ignore[union-attr]  # it matches anywhere
        if position == len(buffer):
            buffer, position = text.read(_CHUNK_CHARS), 0
            if not buffer:
                break
        elif buffer[position] == ("]" if inside else "["):
            inside, position = not inside, position + 1
        else:
            decoder.twice = ""
            try:
                value, end = decoder.raw_decode(buffer, position)
            except json.JSONDecodeError:
                more = text.read(max(_CHUNK_CHARS, len(buffer) - position))
                buffer, position = buffer[position:] + more, 0
                if not more or len(buffer) > _MAX_BUFFER_CHARS:
                    raise
                continue
            escaped = "\\u" in buffer[position:end]
            yield json.loads(clean(json.dumps(value, ensure_ascii=False))) if escaped else value
            buffer, position = (buffer[end:], 0) if end > _CHUNK_CHARS else (buffer, end)
    if inside:
        raise json.JSONDecodeError("the array is not closed", buffer, 0)


def _record(where: str, value: Any, decoder: _Decoder) -> Record:
    if not isinstance(value, dict):
        return Record(where, None, "not a JSON object")
    if decoder.twice:
        return Record(where, None, f'the key "{decoder.twice}" stands twice in it, with different values')
    return Record(where, value)
