"""JSON records as Items: lines or one array, in a profile's own shape, LaMP's, or with column mapping.

Not here: reading the records, which is `records.py`; choosing a user of a benchmark, which is `lamp.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.ingest.common import OnProgress, OnSkip, ignore_progress, ignore_skip
from prlm_edge.ingest.mapping import USUAL, complete, resolve
from prlm_edge.ingest.records import Record, read_records
from prlm_edge.profile import LineError, item_from
from prlm_edge.types import Item

_LOOK_AHEAD = 50


def read(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    kind: str = "",
    on_skip: OnSkip = ignore_skip,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Item]:
    """Yield one item a record; fields that an Item has no place for are kept in `meta`.

    Args:
        path: A .jsonl or .json file, gzipped or not.
        mapping: Column by field; "body.text" reaches into objects. What isn't mapped is found by its usual name.
        kind: Of records that have none.
        on_skip: Told of records that are left out.
        on_progress: Told of records done.

    Raises:
        UsageError: No such file, a mapped column that no record has, or a damaged file.
    """
    records = read_records(path)
    first = list(islice(records, _LOOK_AHEAD))
    sound = [record.value for record in first if record.value is not None]
    columns = list(dict.fromkeys(name for value in sound for name in _names(value)))
    asked = mapping or {}
    found = resolve(asked, columns, str(path)) if sound else {}
    # A field that wasn't mapped is looked for under all its usual names, record by record.
    names = {field: (column,) if field in asked else (column, *USUAL[field]) for field, column in found.items()}
    for done, record in enumerate(chain(first, records), 1):
        if (item := _item(record, names, f"jsonl:{path.name}", kind, on_skip)) is not None:
            yield item
        on_progress(done, None)
    if first and not sound:
        raise UsageError(
            f"{path}: none of the first {len(first)} lines is a JSON object ({first[0].error})",
            "name a file with one JSON object a line",
        )


def _names(value: Mapping[str, Any], depth: int = 4) -> Iterator[str]:
    for name, inner in value.items():
        yield name
        if isinstance(inner, dict) and depth > 1:
            yield from (f"{name}.{below}" for below in _names(inner, depth - 1))


def _item(record: Record, names: Mapping[str, tuple[str, ...]], source: str, kind: str, on_skip: OnSkip) -> Item | None:
    if record.value is None:
        on_skip(record.where, record.error)
        return None
    rest = dict(record.value)
    fields = {}
    for field, columns in names.items():
        column = next((name for name in columns if _look_up(record.value, name) not in (None, "")), columns[0])
        fields[field] = _look_up(record.value, column)
        rest.pop(column, None)
    try:
        return item_from(complete({**rest, **fields}, source=source, kind=kind), extras=True)
    except LineError as error:
        on_skip(record.where, str(error))
        return None


def _look_up(value: Mapping[str, Any], column: str) -> Any:
    if column in value or "." not in column:
        return value.get(column)
    outer, _, inner = column.partition(".")
    below = value.get(outer)
    return _look_up(below, inner) if isinstance(below, dict) else None
