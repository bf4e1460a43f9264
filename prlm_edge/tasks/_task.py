"""One task, and how it turns a profile's items into examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prlm_edge.style import content_words
from prlm_edge.tasks._topic import topic_of
from prlm_edge.types import Item, Shape

PLACEHOLDER = "{text}"
KEY_WORDS = 6  # key words that take the place of an item's empty field


@dataclass(frozen=True)
class Task:
    """What is asked of the model, in which words, and which items of a profile it learns from.

    All wording is plain text: no control token in it is ever parsed.

    Attributes:
        name: Unique; the file's name without ".toml".
        request: The user turn's wording around `{text}`, the same for past items and for the request.
        noun: What is written, as in "the title".
        description: One line for people.
        system: The system prompt; short, since small models follow the examples and not the rules.
        learns_from: The field of an item that is the answer in its past turn; the other field is what was asked.
        triggers: How a bare request that means this task begins, lower-case.
        multiline: False ends an answer at its first line break.
        answer_tokens: Budget for the answer.
        reasoning_tokens: Budget for the reasoning.
        kinds: Kinds of items to learn from if the profile has any.
        avoid_kinds: Kinds of items to learn from only if the profile has no others.
        source: The file it was read from.
        builtin: Whether it comes with prlm-edge.
    """

    name: str
    request: str
    noun: str
    description: str = ""
    system: str = "You write in the user's own voice."
    learns_from: Literal["title", "text"] = "title"
    triggers: tuple[str, ...] = ()
    multiline: bool = False
    answer_tokens: int = 48
    reasoning_tokens: int = 64
    kinds: tuple[str, ...] = ()
    avoid_kinds: tuple[str, ...] = ()
    source: str = ""
    builtin: bool = False

    @property
    def before(self) -> str:
        """The request's wording before the text."""
        return self.request.partition(PLACEHOLDER)[0]

    @property
    def after(self) -> str:
        """The request's wording after the text."""
        return self.request.partition(PLACEHOLDER)[2]

    def answer_of(self, item: Item) -> str:
        """What the user wrote, as the item's past turn answers it; "" where the item can't be an example.

        That is so where it lacks the field, or does not teach. An answer of one line has its line breaks turned into
        spaces.
        """
        if not item.teaches:
            return ""
        answer = (item.title if self.learns_from == "title" else item.text).strip()
        return answer if self.multiline else " ".join(answer.split())

    def input_of(self, item: Item, shape: Shape = "text") -> str:
        """What it was written for, as the item's past turn asks it: the item's other field.

        A task that learns from titles asks in the shape of the request at hand: with what the item is about in a few
        words, with its text, or with what is kept of its diff.

        Where that is empty (a list of titles, a tweet), the answer's own key words, much like a short request; "" where
        there are none.
        """
        if self.learns_from == "text":
            return item.title.strip() or self._key_words(item)
        short = topic_of(item) if shape == "topic" else item.change if shape == "change" else ""
        return short or item.text.strip() or self._key_words(item)

    def examples(self, items: Sequence[Item]) -> list[Item]:
        """The items to learn from, in their order: those with an answer, of `kinds` if any, else none of `avoid_kinds`.

        Where only avoided kinds have an answer, those are used.
        """
        usable = [item for item in items if self.answer_of(item)]
        wanted = [item for item in usable if item.kind in self.kinds]
        return wanted or [item for item in usable if item.kind not in self.avoid_kinds] or usable

    def _key_words(self, item: Item) -> str:
        """Key words of the item's answer; "" where it has none."""
        words = dict.fromkeys(content_words(self.answer_of(item)[:2000]))
        return ", ".join(list(words)[:KEY_WORDS])
