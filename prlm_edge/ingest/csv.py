"""Rows of a CSV file as Items, with column mapping.

Not here: which column feeds which field, which is `mapping.py`.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from prlm_edge.errors import UsageError
from prlm_edge.ingest.common import OnProgress, OnSkip, ignore_progress, ignore_skip
from prlm_edge.ingest.mapping import complete, resolve
from prlm_edge.ingest.records import open_data
from prlm_edge.profile import LineError, item_from
from prlm_edge.types import Item

MAX_FIELD_CHARS = 4 * 1024 * 1024
_HEAD_CHARS = 64 * 1024
_DELIMITERS = (",", ";", "\t", "|")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    delimiter: str = "",
    encoding: str = "",
    kind: str = "",
    on_skip: OnSkip = ignore_skip,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Item]:
    """Yield one item a row; the first row names the columns.

    Args:
        path: The file, gzipped or not.
        mapping: Column by field; what isn't mapped is found by its usual name.
        delimiter: One character; found out when empty.
        encoding: UTF-8 (or by its byte order mark) when empty.
        kind: Of rows that have none.
        on_skip: Told of rows that are left out.
        on_progress: Told of rows done.

    Raises:
        UsageError: No such file, a missing column, or another encoding.
    """
    _check(delimiter, encoding)
    with open_data(path) as raw, _field_limit():
        bom = next((name for mark, name in _BOMS if raw.peek(4).startswith(mark)), "")  # type: ignore[attr-defined]
        stream = io.TextIOWrapper(raw, encoding=encoding or bom or "utf-8", newline="")
        number = 1
        try:
            head = stream.read(_HEAD_CHARS)
            rows = csv.reader(_from_head(head, stream), delimiter=delimiter or sniff(head))
            header = next((row for row in rows if row), [])
            columns = resolve(mapping or {}, header, str(path))
            index = {field: header.index(column) for field, column in columns.items()}
            for number, row in enumerate(rows, 2):
                if any(cell.strip() for cell in row):
                    where = f"row {number} (line {rows.line_num})"
                    if (item := _item(row, index, f"csv:{path.name}", kind, where, on_skip)) is not None:
                        yield item
                on_progress(number - 1, None)
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{path}: not {error.encoding} text after row {number - 1}",
                "name its encoding, such as --encoding cp1252",
            ) from None
        except csv.Error as error:
            raise UsageError(
                f"{path}: row {number + 1}: {error}", "check its quotes, or name the --delimiter"
            ) from None


def sniff(head: str) -> str:
    """The delimiter that cuts the first rows of `head` most evenly into more than one column; a comma where none does.

    The standard library's Sniffer guesses from letters too, and takes very long over long quoted fields.
    """
    whole = head if len(head) < _HEAD_CHARS else head[: head.rfind("\n") + 1] or head
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        with contextlib.suppress(csv.Error):
            widths = [len(row) for row in csv.reader(io.StringIO(whole, newline=""), delimiter=delimiter) if row][:50]
            if widths and widths[0] > 1:
                score = sum(width == widths[0] for width in widths) / len(widths) + min(widths[0], 50) / 1000
                best, best_score = (delimiter, score) if score > best_score else (best, best_score)
    return best


def _item(row: list[str], index: Mapping[str, int], source: str, kind: str, where: str, on_skip: OnSkip) -> Item | None:
    if len(row) <= max(index.values()):
        on_skip(where, f"only {len(row)} columns")
        return None
    record = {field: row[i].strip() for field, i in index.items()}
    try:
        return item_from(complete(record, source=source, kind=kind))
    except LineError as error:
        on_skip(where, str(error))
        return None


def _from_head(head: str, rest: IO[str]) -> Iterator[str]:
    """The lines of a stream of which `head` has been read."""
    yield from io.StringIO(head + rest.readline(), newline="")
    yield from rest


def _check(delimiter: str, encoding: str) -> None:
    if delimiter and len(delimiter) != 1:
        raise UsageError(f"--delimiter {delimiter!r}: must be one character", "for a tab: --delimiter tab")
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise UsageError(f"--encoding {encoding}: no such encoding", "such as utf-8, cp1252, latin-1, utf-16") from None


@contextlib.contextmanager
def _field_limit() -> Iterator[None]:
    """Lift the module-wide limit of 128 Ki characters a field, and put it back."""
    before = csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        yield
    finally:
        csv.field_size_limit(before)
