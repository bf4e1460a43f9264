"""Texts that are wrong on purpose: copies of a user's own text that break habits, and texts that say nothing.

Negatives of the reward model; the same `Random` gives the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from random import Random

from prlm_edge.style import Style, observe

_TAGS = ("docs:", "fix:", "feat(core):", "update:", "re:", "[misc]", "[wip]", "note:")
_SIGNS = ("...", "-", "?", ".", "N/A", "none", "TBD", "…")
_PLACEHOLDERS = (
    "Your title here",
    "Untitled",
    "[title]",
    "Insert title here",
    "A title in the user's style",
    "Title: ",
    "The title of the paper",
    "The commit message",
    "Write a title for this text",
    "Here is the answer:",
    "Answer goes here",
    "Lorem ipsum dolor sit amet",
)
_MAX_WORDS = 60  # of an over-long text


def break_style(text: str, style: Style, query: str, draw: Random) -> str | None:
    """A copy of `text` that keeps fewer of the user's habits; where there are no habits, one that differs at all.

    Args:
        text: What the user wrote.
        style: The user's habits.
        query: What it was written for: an over-long copy goes on with its words.
        draw: Chooses among the ways to break it.

    Returns:
        None where no way breaks a habit.
    """

    def longer(text: str, draw: Random) -> str:
        words = text.split()
        return " ".join([*words, *query.split()[: 2 * len(words) + 6]])

    ways = [*_WAYS, longer]
    draw.shuffle(ways)
    kept = style.match(text)
    for way in ways:
        copy = way(text, draw).strip()
        if copy and copy != text and (not style.facts or style.match(copy) < kept - 1e-9):
            return copy
    return None


def say_nothing(text: str, past: Sequence[str], query: str, draw: Random) -> str:
    """A degenerate text: a sign, a placeholder, a past text copied, a loop, or the request itself. Never `text`."""
    ways: list[Callable[[], str]] = [
        lambda: draw.choice(_SIGNS),
        lambda: draw.choice(_PLACEHOLDERS),
        lambda: draw.choice(past) if past else "",
        lambda: _loop(text, draw),
        lambda: " ".join(query.split()[:_MAX_WORDS]),
    ]
    draw.shuffle(ways)
    same = plain(text)
    return next(one for one in _endless(ways) if one.strip() and plain(one) != same)


def plain(text: str) -> str:
    """A text reduced to lower-case letters and digits, to compare texts by; a text without any stays as it is."""
    return re.sub(r"\W+", " ", text.casefold()).strip() or text.strip()


def _endless(ways: Sequence[Callable[[], str]]) -> Iterator[str]:
    while True:
        for way in ways:
            yield way()


def _capitalized(text: str, draw: Random) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def _sentence(text: str, draw: Random) -> str:
    words = [word if word.isupper() else word.lower() for word in text.split(" ")]
    first = words[0][:1].upper() + words[0][1:]
    return " ".join([first, *words[1:]])


def _tag(text: str, draw: Random) -> str:
    tag = observe(text).tag
    return text.removeprefix(tag).lstrip() if tag else f"{draw.choice(_TAGS)} {text}"


def _period(text: str, draw: Random) -> str:
    return text[:-1] if text.endswith(".") else f"{text}."


def _exclaimed(text: str, draw: Random) -> str:
    return text.rstrip(".!?…") + "!"


def _shorter(text: str, draw: Random) -> str:
    words = text.split()
    return " ".join(words[: max(1, len(words) // 3)])


def _loop(text: str, draw: Random) -> str:
    words = text.split()
    start = draw.randrange(len(words))
    part = words[start : start + draw.randint(1, 4)]
    return " ".join(words + part * (_MAX_WORDS // len(part)))


_WAYS: tuple[Callable[[str, Random], str], ...] = (
    lambda text, _: text.lower(),
    lambda text, _: text.upper(),
    _capitalized,
    _sentence,
    _tag,
    _period,
    _exclaimed,
    _shorter,
)
