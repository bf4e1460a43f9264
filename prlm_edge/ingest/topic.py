"""What a text is about in a few words, as its author says beside it: a description, a summary, tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from prlm_edge.ingest import plain_text

FIELDS = ("topic", "description", "summary", "excerpt", "subtitle", "deck", "tags", "keywords", "categories")
"""Usual names of fields that say it, the one that is looked at first first."""

MAX_WORDS = 25
_MAX_LABELS = 5
_READ_CHARS = 2000
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?<=[.!?…])\s")


def topic_of(values: Iterable[Any], title: str) -> str:
    """What the first telling one of `values` says, on one line of at most `MAX_WORDS` words; "" where none does.

    Args:
        values: Texts, of which the first sentences are taken, or lists of labels, of which the first ones are.
        title: The text's title. What only says its words again tells nothing.
    """
    known = set(_WORD.findall(title.casefold()))
    for value in values:
        if isinstance(value, list):
            value = ", ".join(str(label) for label in value[:_MAX_LABELS] if isinstance(label, str | int))
        topic = _line(value) if isinstance(value, str) else ""
        if not known.issuperset(_WORD.findall(topic.casefold())):
            return topic
    return ""


def _line(text: str) -> str:
    """As many whole sentences as there is room for; of a longer one its beginning."""
    line = ""
    for sentence in _SENTENCE.split(" ".join(" ".join(plain_text.reduce(text[:_READ_CHARS])).split())):
        longer = f"{line} {sentence}".strip()
        if line and len(longer.split()) > MAX_WORDS:
            break
        line = longer
    return " ".join(line.split()[:MAX_WORDS]).removesuffix(".")
