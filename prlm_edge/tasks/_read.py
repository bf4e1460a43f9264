"""Reads a task's TOML file and checks every key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prlm_edge.errors import BAD_DATA, ConfigError, did_you_mean, first_line
from prlm_edge.tasks._task import PLACEHOLDER, Task

MAX_BYTES = 64 * 1024
MAX_BUDGET = 100_000
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_NAME_LINE = re.compile(r"^name\s*=.*$", re.MULTILINE)
_TRIGGERS = re.compile(r"^triggers\s*=\s*\[[^\]]*\]", re.MULTILINE)


class _Key(NamedTuple):
    """One key of a task file: the check of its value, what the value must be, and an example line."""

    right: Callable[[Any], bool]
    must: str
    example: str


def valid_name(name: str) -> bool:
    """Whether `name` can be a task's: lower-case letters, digits, "-" and "_", beginning with a letter."""
    return _NAME.fullmatch(name) is not None


def read_task(path: Path, *, builtin: bool = False) -> Task:
    """The task in the file at `path`.

    Raises:
        ConfigError: The file can't be read, isn't TOML, lacks a key, has an unknown one, or a value doesn't fit.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES // 1024} KiB", "a task is a short TOML file")
        return _task(_parse(data.decode("utf-8-sig"), path), path, builtin)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8", "save the file as UTF-8") from None


def copied(task: Task, name: str, path: Path) -> str:
    """The text of `task`'s file, comments and all, under a new name, to be written to `path`.

    A copy under another name gets a trigger of its own; otherwise two tasks would claim the same requests.

    Raises:
        ConfigError: The file has changed since it was read.
    """
    text = Path(task.source).read_text("utf-8-sig")
    text = _NAME_LINE.sub(lambda _: f'name = "{name}"', text, count=1)
    if name != task.name:
        text = _TRIGGERS.sub(lambda _: f'triggers = ["{name} for"]', text, count=1)
    _task(_parse(text, path), path, builtin=False)
    return text


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except BAD_DATA as error:  # not TOML, or nested too deeply
        raise ConfigError(f"{path}: {first_line(error)}", 'texts need quotes: name = "title"') from None


def _task(table: Mapping[str, Any], path: Path, builtin: bool) -> Task:
    for key in table:
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS, f"the keys are: {', '.join(_KEYS)}")
            raise ConfigError(f"{path}: unknown key {key!r}", hint)
    for key in ("name", "request", "noun"):
        if key not in table:
            raise ConfigError(f"{path}: no {key!r}", f"add a line such as: {_KEYS[key].example}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        spec = _KEYS[key]
        if not spec.right(value):
            raise ConfigError(f"{path}: {key} must be {spec.must}, not {value!r}", f"such as: {spec.example}")
        values[key] = tuple(value) if isinstance(value, list) else value
    if values["name"] != path.stem:
        raise ConfigError(
            f"{path}: it says name = {values['name']!r}",
            f"rename the file to {values['name']}.toml, or write name = {path.stem!r}",
        )
    values["triggers"] = tuple(" ".join(trigger.lower().split()) for trigger in values.get("triggers", ()))
    return Task(**values, source=str(path), builtin=builtin)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_line(value: Any) -> bool:
    return _is_text(value) and len(value.strip().splitlines()) == 1


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(_is_line(one) for one in value)


def _is_budget(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BUDGET


_A_LIST = "a list of texts"
_A_BUDGET = f"a whole number from {{}} to {MAX_BUDGET}"
_KEYS: Mapping[str, _Key] = {
    "name": _Key(
        lambda value: _is_text(value) and valid_name(value),
        "lower-case letters, digits, '-' and '_', beginning with a letter",
        'name = "title"',
    ),
    "description": _Key(_is_text, "a text", 'description = "A title for a text."'),
    "system": _Key(_is_text, "a text", 'system = "You write titles in the user\'s own voice."'),
    "request": _Key(
        lambda value: _is_text(value) and value.count(PLACEHOLDER) == 1,
        f"a text that holds {PLACEHOLDER} once",
        'request = "Write a title for: {text}"',
    ),
    "noun": _Key(_is_line, "one line of text", 'noun = "title"'),
    "learns_from": _Key(lambda value: value in ("title", "text"), '"title" or "text"', 'learns_from = "title"'),
    "triggers": _Key(_is_list, _A_LIST, 'triggers = ["title for"]'),
    "multiline": _Key(lambda value: isinstance(value, bool), "true or false", "multiline = false"),
    "answer_tokens": _Key(lambda value: _is_budget(value) and value >= 1, _A_BUDGET.format(1), "answer_tokens = 48"),
    "reasoning_tokens": _Key(_is_budget, _A_BUDGET.format(0), "reasoning_tokens = 64"),
    "kinds": _Key(_is_list, _A_LIST, 'kinds = ["post", "talk"]'),
    "avoid_kinds": _Key(_is_list, _A_LIST, 'avoid_kinds = ["commit"]'),
}
