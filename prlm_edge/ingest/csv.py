"""Rows of a CSV file as Items, with column mapping; `csv_rows.py` reads the rows."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from prlm_edge.errors import UsageError
from prlm_edge.ingest.common import OnProgress, OnSkip, encoding_of, ignore_progress, ignore_skip
from prlm_edge.ingest.csv_rows import CsvRow, Lines, Rows
from prlm_edge.ingest.mapping import USUAL, item_of, resolve
from prlm_edge.ingest.records import open_data
from prlm_edge.profile import LineError
from prlm_edge.types import Item

MAX_FIELD_CHARS = 4 * 1024 * 1024
_HEAD_CHARS = 64 * 1024
_DELIMITERS = (",", ";", "\t", "|")
_NONE = "\x1f"  # "delimiter" of a table with one column, whose texts hold any character
_SEP = re.compile(r'"?sep=(.)"?[,;\t ]*(\r\n|\r|\n)', re.IGNORECASE)  # Excel's own first line
_HEADER_ROWS = 20  # among which the header is looked for
_NULL = "\\N"  # of MySQL and PostgreSQL


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
    """Yield one item a row; the header names the columns, and what no field takes is kept in `meta`.

    The header is the first row, unless that has no column that could be a title or text and a longer row further down
    has. A row whose cells don't fit the header is left out and told: its text might be cut.

    Args:
        path: The file, gzipped or not.
        mapping: Column by field; what isn't mapped is found by its usual name.
        delimiter: One character; found out when empty.
        encoding: UTF-8, or UTF-16 where the file begins like it, when empty.
        kind: Of rows that have none.
        on_skip: Told of rows that are left out.
        on_progress: Told of rows done.

    Raises:
        UsageError: No such file, a missing column or one that stands twice, or another encoding.
    """
    _check(delimiter, encoding)
    with open_data(path) as raw, _field_limit():
        encoding = encoding or encoding_of(raw.peek(4096))
        stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
        number = 0
        try:
            head = stream.read(_HEAD_CHARS).removeprefix("\ufeff")
            if sep := _SEP.match(head):
                head, delimiter = head[sep.end() :], delimiter or sep[1]
            lines = Lines(head, stream, skipped=1 if sep else 0)
            rows = Rows(lines, delimiter or sniff(head))
            header = _header(rows, mapping or {}, str(path), on_skip)
            if len(header) == 1 and not delimiter:
                rows.delimiter = _NONE
            rows.width = len(header)
            fields = _fields(header, mapping or {}, str(path))
            for row in rows:
                number = row.number
                try:
                    if record := _record(header, row):
                        yield item_of(record, fields, source=f"csv:{path.name}", kind=kind)
                except LineError as error:
                    on_skip(f"row {row.number} (line {row.line})", str(error))
                on_progress(row.number - 1, None)
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{path}: not {error.encoding} text after row {number}", "name its encoding, such as --encoding cp1252"
            ) from None


def sniff(head: str) -> str:
    """The delimiter that cuts most of the first rows into the same number of columns; a comma where none does.

    The standard library's Sniffer guesses from letters too, and takes very long over long quoted fields.
    """
    whole = head if len(head) < _HEAD_CHARS else head[: head.rfind("\n") + 1] or head
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        with contextlib.suppress(csv.Error):
            widths = [len(row) for row in csv.reader(io.StringIO(whole, newline=""), delimiter=delimiter) if row][:50]
            for width, count in Counter(widths).most_common(2):
                score = count / len(widths) + min(width, 50) / 1000
                if width > 1 and score > best_score:
                    best, best_score = delimiter, score
    return best


def _header(rows: Rows, mapping: Mapping[str, str], where: str, on_skip: OnSkip) -> list[str]:
    """The names of the columns, each but once. What stands before the header is told.

    Raises:
        UsageError: No row could be a header; the message is about the longest one.
    """
    passed: list[CsvRow] = []
    errors: list[tuple[int, UsageError]] = []
    for row in rows:
        names = [cell.strip() for cell in row.cells]
        while names and not names[-1]:
            names.pop()
        if not names and not row.error:
            continue
        if names and all(len(names) > width for width, _ in errors):
            try:
                resolve(mapping, names, where)
            except UsageError as error:
                errors.append((len(names), error))
            else:
                for before in passed:
                    on_skip(f"row {before.number} (line {before.line})", "stands before the header")
                return _unique(names)
        passed.append(row)
        if len(passed) == _HEADER_ROWS:
            break
    if not errors:
        resolve(mapping, [], where)
    raise max(errors, key=lambda pair: pair[0])[1]


def _unique(names: Sequence[str]) -> list[str]:
    """`names` with a number behind those that stand there already, and for those that are empty."""
    seen: Counter[str] = Counter()
    result = []
    for place, written in enumerate(names, 1):
        name = written or f"column {place}"
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _fields(header: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, Sequence[str]]:
    """The columns that may feed each field."""
    found = resolve(mapping, header, where)
    for column in found.values():
        if f"{column} (2)" in header:
            raise UsageError(f"{where}: two columns are named {column!r}", "rename one of them")
    return {field: (column,) if field in mapping else (column, *USUAL[field]) for field, column in found.items()}


def _record(header: Sequence[str], row: CsvRow) -> dict[str, str]:
    """The filled cells of a row by their columns; none of an empty row.

    Raises:
        LineError: The row can't be read, or doesn't fit the header.
    """
    if row.error:
        raise LineError(row.error)
    cells = [cell.strip() for cell in row.cells]
    padded = any("\0" in cell for cell in cells)  # as some databases fill up a column
    if padded:
        cells = [cell.strip("\0") for cell in cells]
    if not any(cells):
        return {}
    if len(cells) < len(header) or any(cells[len(header) :]):
        what = "line break" if len(cells) < len(header) else "delimiter"
        raise LineError(f"{len(cells)} cells, but {len(header)} columns (an unquoted {what} in a text?)")
    if padded and any("\0" in cell for cell in cells):
        raise LineError("NUL bytes in it")
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell and cell != _NULL}


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
