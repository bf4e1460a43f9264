"""The front matter of a Markdown file: YAML between "---" lines, TOML between "+++" lines, or a JSON object.

What stands between two "---" lines is front matter only if it is a mapping: else they are rules, and all is text.
"""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

Value = str | list[Any] | dict[str, Any]

_OPENING = re.compile(r"\s*^([ ]{0,3})(---|\+\+\+)[ \t]*(yaml|toml|json)?[ \t]*\n", re.MULTILINE | re.IGNORECASE)
_CLOSING = {"---": r"(?:---|\.\.\.)", "+++": r"\+\+\+"}
_KEY = re.compile(r"""("[^"]*"|'[^']*'|[^\s:#\-\[{"'][^:\n]*?)[ \t]*:(?:[ \t]+(.*))?""")
_SENTENCE = re.compile(r"\s.*[.!?…]$|.{80}")
_MAX_NODES = 10_000
_USUAL = """title subtitle date created updated modified lastmod published publish publishdate pubdate draft layout type
kind tag tags keywords category categories author authors alias aliases description summary excerpt slug permalink url
id uid lang language status cssclass cssclasses image source weight"""
_NULLS = ("", "~", "null", "Null", "NULL")


def split(text: str) -> tuple[dict[str, Value], str]:
    """(front matter by lower-case key, the rest of the text). Without front matter: ({}, text).

    Scalars are strings as they are written, "" for null.

    Raises:
        ValueError: TOML front matter that is no TOML.
    """
    if text.lstrip().startswith("{"):
        return _json(text)
    opening = _OPENING.match(text)
    if opening is None:
        return {}, text
    indent, fence, language = opening.groups()
    closing = re.compile(rf"^{indent}{_CLOSING[fence]}[ \t]*$\n?", re.MULTILINE).search(text, opening.end())
    if closing is None:
        return {}, text
    head, body = textwrap.dedent(text[opening.end() : closing.start()]), text[closing.end() :]
    language = (language or "").lower() or ("yaml" if fence == "---" else "toml")
    if language == "json":
        meta, rest = _json(head.strip())
        return (meta, body) if meta and not rest.strip() else ({}, text)
    found = _yaml(head) if language == "yaml" else _toml(head)
    return ({}, text) if found is None else (found, body)


def _json(text: str) -> tuple[dict[str, Value], str]:
    """A JSON object at the beginning, alone on its lines."""
    start = len(text) - len(text.lstrip())
    try:
        table, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return {}, text
    rest = text[end:]
    return (_by_key(table.items()), rest) if re.match(r"[ \t]*(\n|$)", rest) else ({}, text)


def _toml(text: str) -> dict[str, Value]:
    try:
        return _by_key(tomllib.loads(text).items())
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"TOML front matter: {error}") from None


def _yaml(text: str) -> dict[str, Value] | None:
    """The mapping; None where there is none. What is no sound YAML is read as lines of "key: value"."""
    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if node is None:
            return None if text.strip() else {}
        if not isinstance(node, yaml.MappingNode):
            return None
        pairs = _pairs(node, [_MAX_NODES])
    except (yaml.YAMLError, RecursionError, OverflowError):
        pairs = _key_lines(text)
    table = _by_key(pairs)
    prose = any(str(key)[:1].isupper() or _SENTENCE.search(str(value)) for key, value in pairs)
    if prose and table.keys().isdisjoint(_USUAL.split()):
        return None  # such as "Note: the rye rose."
    return table or None


def _pairs(node: yaml.MappingNode, left: list[int]) -> list[tuple[Any, Any]]:
    """Keys and values of a mapping, scalars as they are written. `left` counts down: aliases of aliases explode."""

    def value_of(node: yaml.Node) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OverflowError
        if isinstance(node, yaml.MappingNode):
            return {str(key): value for key, value in _pairs(node, left)}
        if isinstance(node, yaml.SequenceNode):
            return [value_of(member) for member in node.value]
        plain = isinstance(node, yaml.ScalarNode) and not node.style
        return None if plain and node.value in _NULLS else node.value

    return [(value_of(key), value_of(value)) for key, value in node.value]


def _key_lines(text: str) -> list[tuple[str, Any]]:
    """Lines of "key: value", with indented lines and list lines below; none where another line is among them."""
    pairs: list[tuple[str, Any]] = []
    for line in text.split("\n"):
        if not line.strip() or line.startswith("#"):
            continue
        if match := _KEY.fullmatch(line.rstrip()):
            pairs.append((match[1].strip("\"'"), (match[2] or "").strip()))
        elif pairs and re.match(r"[ \t]|- ", line):
            key, value = pairs[-1]
            item = line.strip()
            listed = item.startswith("- ") and (not value or isinstance(value, list))
            pairs[-1] = (key, [*value, item[2:].strip()] if listed else f"{value} {item}".strip())
        else:
            return []
    return pairs


def _by_key(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Value]:
    """Plain values by lower-case key; a key that stands twice gets a number."""
    result: dict[str, Value] = {}
    for key, value in pairs:
        name = base = str(key).strip().lower()
        number = 1
        while name in result:
            number += 1
            name = f"{base} ({number})"
        result[name] = _plain(value)
    return result


def _plain(value: Any) -> Value:
    """Strings, lists and tables of strings; "" for null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
