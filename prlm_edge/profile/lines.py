"""One profile line to one Item and back, and the walk over a file's raw lines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, NamedTuple, Protocol

from prlm_edge.errors import BAD_DATA
from prlm_edge.types import Item

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is bad, and is never held in memory whole."""

FIELDS = ("id", "title", "text", "date", "kind", "source", "meta")
TEXT_KEYS = ("text", "abstract", "description", "body", "content")
TITLE_KEYS = ("title", "headline", "subject")

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
    int: "a number",
    float: "a number",
}


class LineError(ValueError):
    """Why a line is not an item: one clause."""


def finite(text: str) -> float | str:
    """A JSON number with a fraction or exponent; one that no float holds, such as 1e999, stays text."""
    number = float(text)
    return number if math.isfinite(number) else text


# NaN and Infinity are no JSON: read as null.
_decode = json.JSONDecoder(parse_constant=lambda name: None, parse_float=finite).decode


@dataclass(frozen=True)
class BadLine:
    """A line that can't be read.

    Attributes:
        number: Line number, from 1.
        reason: One clause for people.
        start: Byte offset of the line in the file.
        size: Bytes of the line, its line break included.
        duplicate: True where the line is sound but its id is taken by an earlier one.
    """

    number: int
    reason: str
    start: int = 0
    size: int = 0
    duplicate: bool = False


class RawLine(NamedTuple):
    """A line as it stands: `data` is None beyond the limit; `ended` says whether a line break closed it."""

    data: bytes | None
    size: int
    ended: bool


class Digest(Protocol):
    """What `raw_lines` needs of a hash."""

    def update(self, data: bytes, /) -> None:
        """Hash some more bytes."""


def raw_lines(stream: IO[bytes], digest: Digest, limit: int = MAX_LINE_BYTES) -> Iterator[RawLine]:
    """Yield the lines from the stream's position on, in constant memory; every byte passes through `digest`.

    A line without a line break is the last one, even if another process goes on writing it meanwhile: what comes after
    would be taken for a line of its own.
    """
    ended = True
    while ended and (data := stream.readline(limit + 1)):
        digest.update(data)
        ended = data[-1:] == b"\n"
        if ended or len(data) <= limit:
            yield RawLine(data, len(data), ended)
            continue
        size = len(data)
        del data
        while not ended and (chunk := stream.readline(1 << 20)):
            digest.update(chunk)
            size += len(chunk)
            ended = chunk[-1:] == b"\n"
        yield RawLine(None, size, ended)


def parse_object(data: bytes, decode: Callable[[str], Any] = _decode) -> dict[str, Any]:
    """The JSON object of a line; lone surrogates, which no encoder takes, become U+FFFD.

    Args:
        data: The line.
        decode: Reads the JSON.

    Raises:
        LineError: Invalid UTF-8 or JSON, or not an object.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineError(f"invalid UTF-8 at byte {error.start + 1}") from None
    if text[:1] == "\ufeff":
        text = text[1:]
    try:
        value = decode(text)
        if "\\u" in text and _ESCAPED_SURROGATE.search(text):
            value = decode(clean(json.dumps(value, ensure_ascii=False)))
    except json.JSONDecodeError as error:
        raise LineError(f"invalid JSON at column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise LineError("invalid JSON: nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise LineError(f"invalid JSON: {str(error).partition(';')[0]}") from None
    if not isinstance(value, dict):
        raise LineError(f"not a JSON object but {_JSON_NAMES[type(value)]}")
    return value


def clean(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def item_from(record: Mapping[str, Any], *, extras: bool = False) -> Item:
    """The item of a JSON object in our shape or LaMP's (`abstract`, `headline`, numeric id, no title, ...).

    Args:
        record: The object.
        extras: Also keep the fields that an Item has no place for, in `meta`.

    Raises:
        LineError: Neither text nor title, or a field of the wrong type.
    """
    text = _string(record, TEXT_KEYS)
    title = _string(record, TITLE_KEYS)
    if (not text or text.isspace()) and (not title or title.isspace()):
        raise LineError("neither text nor title")
    meta = record.get("meta")
    if meta is None:
        meta = {}
    elif not isinstance(meta, dict):
        raise LineError(f'"meta" must be an object, not {_JSON_NAMES[type(meta)]}')
    if extras:
        meta = {**meta, **unknown_fields(record)}
    item = Item(
        _scalar(record, "id"),
        text,
        title,
        _scalar(record, "date"),
        _string(record, ("kind",)),
        _string(record, ("source",)),
        meta,
    )
    return item if item.id else replace(item, id=content_id(item))


def unknown_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a JSON object that its Item does not carry."""
    used = {*FIELDS, _used_key(record, TEXT_KEYS), _used_key(record, TITLE_KEYS)}
    return {key: value for key, value in record.items() if key not in used}


def parse_line(data: bytes) -> Item:
    """The item of a raw line.

    Raises:
        LineError: Why there is none.
    """
    return item_from(parse_object(data))


def content_id(item: Item) -> str:
    """The id of an item that has none: stable, from its title and text."""
    return f"x{item.content_hash[:15]}"


def free_id(item: Item, *taken: Container[str]) -> str:
    """An id derived from the item's content that is in none of `taken`."""
    base = candidate = content_id(item)
    number = 1
    while any(candidate in ids for ids in taken):
        number += 1
        candidate = f"{base}-{number}"
    return candidate


def fields_of(item: Item) -> dict[str, Any]:
    """The JSON object of an item, without its empty fields."""
    return {name: value for name in FIELDS if (value := getattr(item, name))}


def format_line(record: Mapping[str, Any]) -> bytes:
    """One line of UTF-8 JSON, line break included.

    Raises:
        LineError: A value that JSON has no form for, or a line beyond `MAX_LINE_BYTES`.
    """
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except BAD_DATA as error:
        raise LineError(f"can't be written as JSON: {error}") from None
    line = clean(text).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise LineError(f"longer than {MAX_LINE_BYTES >> 20} MiB")
    return line


def merge(data: bytes, item: Item) -> bytes:
    """The line `data` brought up to date with `item`; fields that we don't know survive."""
    return format_line({**fields_of(item), **unknown_fields(parse_object(data))})


def with_id(data: bytes, new_id: str) -> bytes:
    """The line `data` (sound JSON) with another id and no other byte changed."""
    text = data.decode("utf-8")
    decode = json.JSONDecoder().raw_decode
    value = json.dumps(new_id, ensure_ascii=False)
    position = body = text.index("{") + 1
    spans = []
    while (position := _skip(text, position, " \t\r\n,")) < len(text) and text[position] != "}":
        key, position = decode(text, position)
        start = _skip(text, position, " \t\r\n:")
        _, position = decode(text, start)
        if key == "id":
            spans.append((start, position))
    if not spans:
        return f'{text[:body]}"id": {value}, {text[body:]}'.encode()
    for start, end in reversed(spans):
        text = text[:start] + value + text[end:]
    return text.encode()


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _used_key(record: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """The first of `keys` that holds something; the first of all where none does."""
    for key in keys:
        if (value := record.get(key)) is not None and value != "":
            return key
    return keys[0]


def _string(record: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """What the first filled one of `keys` holds."""
    value = record.get(keys[0])
    if type(value) is str and value:  # the usual case, without a further call
        return value
    key = _used_key(record, keys)
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LineError(f'"{key}" must be a string, not {_JSON_NAMES[type(value)]}')
    return value


def _scalar(record: Mapping[str, Any], key: str) -> str:
    """A string field that real files also hold as a number (LaMP ids, a year)."""
    value = record.get(key)
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LineError(f'"{key}" must be a string or a number, not {_JSON_NAMES[type(value)]}')
    return str(int(value)) if value == value // 1 else str(value)
