"""Changes one `key = value` line of a flat TOML text and leaves every other byte, comments included, as it was.

A change is checked by parsing the result: what this line editor doesn't understand (a multi-line string, a quoted key)
is refused, never damaged.
"""

from __future__ import annotations

import json
import re
import tomllib

from prlm_edge.errors import ConfigError

_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^#'"\s]+)"""
_HEADER = re.compile(r"^\s*\[")


def set_key(text: str, key: str, value: str | int | float) -> str:
    """`text` with `key` set: in its line, else below its commented-out example, else at the end.

    Raises:
        ConfigError: The file spells the key in a way that this editor doesn't understand.
    """
    lines, newline = _split(text)
    line = f"{key} = {literal(value)}"
    at = _find(lines, key)
    if at is not None:
        lines[at] = re.sub(_pattern(key), lambda m: f"{m[1]}{line}{m[2]}", lines[at])
    else:
        example = next((i for i, old in enumerate(lines) if re.match(rf"^\s*#\s*{key}\s*=", old)), None)
        lines.insert(_top(lines) if example is None else example + 1, line)
    return _proven(text, _join(lines, newline), {**tomllib.loads(text), key: value}, key)


def unset_key(text: str, key: str) -> str:
    """`text` without `key`; a comment after its value stays, on a line of its own.

    Raises:
        ConfigError: The file spells the key in a way that this editor doesn't understand.
    """
    lines, newline = _split(text)
    at = _find(lines, key)
    if at is not None:
        match = re.match(_pattern(key), lines[at])
        comment = match[2].strip() if match else ""
        lines[at : at + 1] = [comment] if comment else []
    left = {name: value for name, value in tomllib.loads(text).items() if name != key}
    return _proven(text, _join(lines, newline), left, key)


def literal(value: str | int | float) -> str:
    """`value` in TOML."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's, but DEL
    return repr(value)


def _pattern(key: str) -> str:
    return rf"^(\s*){key}\s*=\s*{_VALUE}(\s*(?:#.*)?)$"


def _split(text: str) -> tuple[list[str], str]:
    newline = "\r\n" if "\r\n" in text else "\n"
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else [], newline


def _join(lines: list[str], newline: str) -> str:
    return newline.join([*lines, ""]) if lines else ""


def _top(lines: list[str]) -> int:
    """Where the keys before the first table end."""
    return next((i for i, line in enumerate(lines) if _HEADER.match(line)), len(lines))


def _find(lines: list[str], key: str) -> int | None:
    return next((i for i, line in enumerate(lines[: _top(lines)]) if re.match(_pattern(key), line)), None)


def _proven(before: str, after: str, expected: dict[str, object], key: str) -> str:
    try:
        if tomllib.loads(after) == expected:
            return after
    except tomllib.TOMLDecodeError:
        pass
    raise ConfigError(f"can't change {key!r} in the file as it is written", "edit that line by hand")
