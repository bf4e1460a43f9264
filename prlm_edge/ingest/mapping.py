"""Which column of a table feeds which field of an Item: the user's `field=column` pairs, or well-known names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prlm_edge.errors import UsageError, nearest
from prlm_edge.ingest import topic
from prlm_edge.ingest.dates import iso_date
from prlm_edge.profile import item_from
from prlm_edge.types import Item

FIELDS = ("id", "title", "text", "date", "kind", "source", "topic")
USUAL: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "guid", "uuid", "uid"),
    "title": ("title", "headline", "subject"),
    "text": ("text", "abstract", "description", "body", "content", "article", "post", "message"),
    "date": ("date", "published", "published_at", "pubdate", "created", "created_at", "timestamp", "time", "year"),
    "kind": ("kind", "type", "category"),
    "source": ("source",),
}


def parse_map(pairs: Iterable[str]) -> dict[str, str]:
    """The mapping that `--map title=headline --map text=body` asks for.

    Raises:
        UsageError: No "=", an unknown field, or a field twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        field = field.strip()
        if not equals or not column:
            raise UsageError(f"--map {pair}: not of the form FIELD=COLUMN", "such as --map title=headline")
        if field not in FIELDS:
            raise UsageError(f"--map {pair}: no field {field!r}", f"the fields are {', '.join(FIELDS)}")
        if field in mapping:
            raise UsageError(f"--map {pair}: {field} is mapped twice", "map each field once")
        mapping[field] = column
    return mapping


def resolve(mapping: Mapping[str, str], columns: Sequence[str], where: str) -> dict[str, str]:
    """The column of each field: as mapped, else the first well-known name that is there, in any case.

    Args:
        mapping: What the user asked for.
        columns: The columns there are.
        where: The file, for messages.

    Raises:
        UsageError: A mapped column is missing, or neither a title nor a text was found.
    """
    listed = f"columns: {', '.join(columns) or '(none)'}"
    by_lower = {column.strip().lower(): column for column in reversed(columns)}
    found: dict[str, str] = {}
    for field, column in mapping.items():
        if column in columns:
            found[field] = column
        elif column.strip().lower() in by_lower:
            found[field] = by_lower[column.strip().lower()]
        else:
            close = nearest(column, columns)
            raise UsageError(
                f"{where}: no column {column!r}; {listed}",
                f"did you mean --map {field}={close}?" if close else f"--map {field}=COLUMN names one",
            )
    for field, names in USUAL.items():
        if field not in found and (name := next((n for n in names if n in by_lower), None)):
            found[field] = by_lower[name]
    if "title" not in found and "text" not in found:
        raise UsageError(
            f"{where}: neither a title nor a text column; {listed}", "say which: --map title=COLUMN --map text=COLUMN"
        )
    return found


def item_of(record: Mapping[str, Any], fields: Mapping[str, Sequence[str]], *, source: str, kind: str) -> Item:
    """The item of a record; what an Item has no place for is kept in `meta`.

    Args:
        record: The cells of a row by their columns, or a JSON object.
        fields: For each field the columns that may feed it: the first filled one does. A topic is also found in what
            feeds no field.
        source: Of records that have none.
        kind: Of records that have none.

    Raises:
        LineError: Neither text nor title, or a field of the wrong type.
    """
    rest = dict(record)
    found: dict[str, Any] = {}
    for field, columns in fields.items():
        if field == "topic":  # part of `meta`, and shorter than the column, which stays
            continue
        found[field] = None
        for column in columns:
            value = record.get(column)
            if value is None and "." in column:
                value = look_up(record, column)
            if value is not None and value != "":
                found[field] = value
                rest.pop(column, None)
                break
    # A column that has a field's name and doesn't feed it keeps its content, as does a "meta" that is no object.
    others = {name: value for name in found if (value := rest.pop(name, None)) is not None and value != ""}
    if "meta" in rest and not isinstance(rest["meta"], dict):
        others["meta"] = rest.pop("meta")
    if others:
        rest["meta"] = {**rest.get("meta", {}), **others}
    item = item_from(complete({**rest, **found}, source=source, kind=kind), extras=True)
    asked = fields.get("topic", ())
    by_lower = {name.strip().lower(): value for name, value in rest.items()} if not asked else {}
    told = [look_up(record, column) for column in asked] or [by_lower.get(name) for name in topic.FIELDS]
    if (asked or not item.topic) and (said := topic.topic_of(told, item.title)):
        return replace(item, meta={**item.meta, "topic": said})
    return item


def look_up(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column; "body.text" reaches into objects. None where there is none."""
    if column in record or "." not in column:
        return record.get(column)
    outer, _, inner = column.partition(".")
    below = record.get(outer)
    return look_up(below, inner) if isinstance(below, dict) else None


def complete(record: Mapping[str, Any], *, source: str, kind: str) -> dict[str, Any]:
    """`record` with its date as ISO 8601 and, where it has none, `source` and `kind`.

    A date that can't be told for sure goes to `meta` as it was written.
    """
    result = {**record, "source": record.get("source") or source, "kind": record.get("kind") or kind}
    written = record.get("date")
    if written not in (None, ""):
        result["date"] = iso_date(written)
        if not result["date"]:
            meta = record.get("meta")
            result["meta"] = {**(meta if isinstance(meta, dict) else {}), "date": written}
    return result
