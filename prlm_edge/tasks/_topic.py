"""What a past item is about in a few words, as its author would have asked for its title; and what a topic is."""

from __future__ import annotations

import re
from collections import Counter

from prlm_edge.style import CHANGE, key_phrases
from prlm_edge.tasks._filler import without_filler
from prlm_edge.types import Item

MAX_WORDS = 30
_MAX_CHARS = 12 * MAX_WORDS
_MAX_SUBJECT = 80  # characters of a first line that stands apart
_UNSPACED = "\u2e80"  # from here on scripts are written without spaces, a word being some two characters
_DONE = re.compile(r"In: |[+-] ?\S|.*\[.* -> .*\]")  # how an account of what was done begins, where nothing was said
_SIGNS = re.compile(r"^In: |^[+-] ?|\(\d+ times\)$| -> |[\[\]]", re.MULTILINE)
_IDENTIFIER = re.compile(r"(?<!\w)(?!__)[A-Za-z_]\w*[_\d]\w*|[A-Za-z]+[a-z\d]+[A-Z]\w*|[A-Z]{2,}[a-z]\w*|--[a-z][\w-]+")
_N_IDENTIFIERS = 3
_END_OF_SENTENCE = re.compile(r"(?<=[.!?:])\s")


def is_topic(text: str) -> bool:
    """Whether `text` is a topic by its form: one line of at most `MAX_WORDS` words, and no change to files."""
    text = text.strip()
    if len(text) > _MAX_CHARS or len(text.splitlines()) != 1 or text.startswith(CHANGE):
        return False
    return len(text.split()) + sum(char >= _UNSPACED for char in text) // 2 <= MAX_WORDS


def is_change(text: str) -> bool:
    """Whether `text` tells a change to files by what was done: files with a message say it in prose."""
    head, _, said = text.partition("\n\n")
    return head.startswith(CHANGE) and (not said or _DONE.match(said) is not None)


def topic_of(item: Item) -> str:
    """What `item` is about in at most `MAX_WORDS` words, none of them from its title; "" where its text says nothing.

    The topic that the item names, else its text where that is short, a first line that stands apart (a commit's
    subject), the first sentence of what a commit's message says, the identifiers that a commit changed most often, or
    key phrases of the text.
    """
    text = item.text.strip()
    head, _, rest = text.partition("\n\n")
    if of_files := text.startswith(CHANGE):
        text = rest.strip()
        head = _of_change(text, item.change)
    elif not (rest and len(head) <= _MAX_SUBJECT and head[-1].isalnum()):
        head = ""
    for one in (item.topic, "" if of_files else text, head):
        if is_topic(one) and not _same(one, item.title):
            return without_filler(one)[0]
    return ", ".join(key_phrases(_SIGNS.sub(" ", text)))


def _of_change(said: str, change: str) -> str:
    """The first sentence of what was said of a change; where nothing was said, the identifiers that it touches most."""
    if said and not _DONE.match(said):
        return _END_OF_SENTENCE.split(" ".join(said.split()), maxsplit=1)[0]
    counts = Counter(_IDENTIFIER.findall(said or change))
    return ", ".join(name for name, _ in counts.most_common(_N_IDENTIFIERS))


def _same(one: str, other: str) -> bool:
    """Whether two lines differ in case, spaces and punctuation alone."""
    return re.findall(r"\w+", one.casefold()) == re.findall(r"\w+", other.casefold())
