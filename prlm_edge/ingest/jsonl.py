"""JSON records as Items: a profile's own shape, LaMP's, or any other with column mapping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.ingest.common import OnProgress, OnSkip, ignore_progress, ignore_skip
from prlm_edge.ingest.mapping import USUAL, item_of, look_up, resolve
from prlm_edge.ingest.records import Record, read_records
from prlm_edge.profile import LineError
from prlm_edge.types import Item

_LOOK_AHEAD = 50
_OWN = {**USUAL, "text": tuple(name for name in USUAL["text"] if name != "description")}  # which whole feeds have, too
_DEPTH = 4  # of objects within objects, in which columns and lists are looked for


def read(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    kind: str = "",
    on_skip: OnSkip = ignore_skip,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Item]:
    """Yield one item a record; fields that an Item has no place for are kept in `meta`.

    A single document that is no item itself is searched for the list of records that it holds.

    Args:
        path: A .jsonl or .json file, gzipped or not.
        mapping: Column by field; "body.text" reaches into objects. What isn't mapped is found by its usual name.
        kind: Of records that have none.
        on_skip: Told of records that are left out.
        on_progress: Told of records done.

    Raises:
        UsageError: No such file, a mapped column that no record has, or a damaged file.
    """
    asked = mapping or {}
    records = read_records(path)
    first = list(islice(records, _LOOK_AHEAD))
    if len(first) == 1 and first[0].value is not None and not _holds(first[0].value, ("text",), asked):
        first = _records_within(path, first[0].value, asked) or first
    sound = [record.value for record in first if record.value is not None]
    columns = list(dict.fromkeys(name for value in sound for name in _names(value)))
    found = resolve(asked, columns, str(path)) if sound else {}
    # A field that wasn't mapped is looked for under all its usual names, record by record.
    fields = {field: (column,) if field in asked else (column, *USUAL[field]) for field, column in found.items()}
    for done, record in enumerate(chain(first, records), 1):
        try:
            if record.value is None:
                raise LineError(record.error)
            yield item_of(record.value, fields, source=f"jsonl:{path.name}", kind=kind)
        except LineError as error:
            on_skip(record.where, str(error))
        on_progress(done, None)
    if first and not sound:
        raise UsageError(
            f"{path}: none of the first {len(first)} lines is a JSON object ({first[0].error})",
            "name a file with one JSON object a line",
        )


def _names(value: Mapping[str, Any], depth: int = _DEPTH) -> Iterator[str]:
    for name, inner in value.items():
        yield name
        if isinstance(inner, dict) and depth > 1:
            yield from (f"{name}.{below}" for below in _names(inner, depth - 1))


def _holds(value: Mapping[str, Any], fields: Iterable[str], asked: Mapping[str, str]) -> bool:
    """Whether one of the fields has a column in a record."""
    strings = {name.lower() for name, inner in value.items() if isinstance(inner, str)}
    return any(
        look_up(value, asked[field]) is not None if field in asked else not strings.isdisjoint(_OWN[field])
        for field in fields
    )


def _records_within(path: Path, document: Mapping[str, Any], asked: Mapping[str, str]) -> list[Record]:
    """The records of the one list (or object of objects) within a document; none where there is no list.

    Raises:
        UsageError: There are several such lists.
    """
    found = list(_lists(document, asked))
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise UsageError(f"{path}: several lists of records in one document: {names}", "put each in a file of its own")
    records = []
    for name, members in found:
        records = [
            Record(f"{name}, {where}", member if isinstance(member, dict) else None, "not a JSON object")
            for where, member in members
        ]
        if _holds(document, ("title",), asked):
            records.append(Record("the document", None, f'it has a title of its own, outside of "{name}"'))
    return records


def _lists(
    value: Mapping[str, Any], asked: Mapping[str, str], name: str = "", depth: int = _DEPTH
) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """(name, members with their places) of each list that holds items, or object that holds them by their ids."""
    both = ("title", "text")
    if len(value) > 1 and all(isinstance(inner, dict) and _holds(inner, both, asked) for inner in value.values()):
        yield name or "the document", [(f'"{key}"', {"id": key, **inner}) for key, inner in value.items()]
        return
    for key, inner in value.items():
        below = f"{name}.{key}" if name else key
        if isinstance(inner, list) and any(
            isinstance(member, dict) and _holds(member, both, asked) for member in inner
        ):
            yield below, [(f"record {number}", member) for number, member in enumerate(inner, 1)]
        elif isinstance(inner, dict) and depth > 1:
            yield from _lists(inner, asked, below, depth - 1)
