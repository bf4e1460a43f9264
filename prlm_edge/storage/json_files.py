"""JSON that a run writes and reads back, whole or a line at a time, and YAML that people write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from prlm_edge.errors import BAD_DATA, ConfigError, DataError, UsageError
from prlm_edge.storage.files import append_bytes, atomic_write

T = TypeVar("T")
NUMBER = (int, float)
SMALL = 4 << 20


def fits(value: Any, form: Any) -> bool:
    """Whether a JSON value has a form, so that what reads it on need not ask again.

    Args:
        value: The value.
        form: A type or a tuple of types, where a bool is no int and numbers are finite; `[form]` for a list of such;
            `{"key": form}` for an object with at least these keys; `str: form` among them is the form of all others.
    """
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(one, form[0]) for one in value)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        named = {key: inner for key, inner in form.items() if key is not str}
        others = [one for key, one in value.items() if key not in named] if str in form else []
        return all(key in value and fits(value[key], inner) for key, inner in named.items()) and all(
            fits(one, form[str]) for one in others
        )
    if isinstance(value, bool) and form is not object:
        return form is bool or (isinstance(form, tuple) and bool in form)
    return isinstance(value, form) and not (isinstance(value, NUMBER) and not abs(value) < 1e300)


def json_lines(path: Path, parse: Callable[[dict[str, Any]], T], hint: str) -> Iterator[T]:
    """What `parse` makes of each line of a file that grows by `append_json`; nothing where there is no such file.

    A last line without a line break is still being written, or was cut by a kill: it is left out.

    Args:
        path: The file.
        parse: Makes a record of a line's JSON value, and raises one of `BAD_DATA` where it can't.
        hint: What to do about a damaged line.

    Raises:
        DataError: A line is damaged; the message names it.
    """
    if not path.exists():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = parse(json.loads(line))
            except BAD_DATA:
                raise DataError(f"{path}:{number}: damaged", hint) from None
            yield record


def read_small(path: Path) -> bytes:
    """The bytes of a file that people write or a program's settings: never more than `SMALL`, so no device for ever.

    Raises:
        OSError: It can't be read.
        ValueError: It is larger.
    """
    with path.open("rb") as stream:
        data = stream.read(SMALL + 1)
    if len(data) > SMALL:
        raise ValueError(f"larger than {SMALL >> 20} MiB")
    return data


def append_json(path: Path, *records: Mapping[str, Any]) -> None:
    """Append a line of JSON for each record; they are on disk when this returns. Raises as `append_bytes`."""
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    append_bytes(path, lines.encode("utf-8", "replace"))


def cut_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process left half written."""
    if not path.exists():
        return
    with path.open("rb+") as stream:
        end = stream.read().rfind(b"\n") + 1
        if end < stream.tell():
            stream.truncate(end)
            os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file, indented for people."""
    with atomic_write(path) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def read_yaml(path: Path) -> dict[Any, Any]:
    """The mapping in a YAML file; {} for an empty one.

    Raises:
        UsageError: The file can't be read.
        ConfigError: It is not YAML, or no mapping.
    """
    import yaml

    try:
        value = yaml.safe_load(read_small(path).decode()) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}", "check the path") from None
    except (yaml.YAMLError, *BAD_DATA) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())[:160]}", "mend it") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: no mapping", "write keys and values, such as seed: 0")
    return value
