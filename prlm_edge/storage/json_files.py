"""JSON that a run writes and reads back, whole or a line at a time, and YAML that people write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from prlm_edge.errors import ConfigError, DataError, UsageError
from prlm_edge.storage.files import append_bytes, atomic_write

T = TypeVar("T")


def json_lines(path: Path, parse: Callable[[dict[str, Any]], T], hint: str) -> Iterator[T]:
    """What `parse` makes of each line of a file that grows by `append_json`; nothing where there is no such file.

    A last line without a line break is still being written, or was cut by a kill: it is left out.

    Args:
        path: The file.
        parse: Makes a record of a line's JSON value, and raises ValueError, TypeError, KeyError or AttributeError where
            it can't.
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
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise DataError(f"{path}:{number}: damaged", hint) from None
            yield record


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
        value = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}", "check the path") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())[:160]}", "mend it") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: no mapping", "write keys and values, such as seed: 0")
    return value
