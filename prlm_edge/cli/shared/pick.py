"""`generate --pick`: the user takes one of several answers by a key, may change it, or has others drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from prlm_edge.cli.shared.terminal import END, Terminal
from prlm_edge.rerank import different
from prlm_edge.types import Candidate

PICK_FROM = 4  # answers where `n` says nothing
OTHERS_TEMPERATURE = 1.0  # of others than those shown at first, at least
_NONE = ("q", "\x1b", END)  # q, Esc, Ctrl-D


class Picked(NamedTuple):
    """What the user took.

    Attributes:
        text: The text, perhaps edited.
        answers: The answer that it was, then all others that they saw.
    """

    text: str
    answers: tuple[str, ...]


def pick_one(terminal: Terminal, draw: Callable[[int], Sequence[Candidate]]) -> Picked | None:
    """What the user takes; None where they take none.

    Args:
        terminal: Where they are asked.
        draw: Draws answers, best first; its argument counts the rounds from 0. Gives none where it was cancelled.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    seen = shown = tuple(one for one in draw(0) if one.answer)
    n_rounds = 1
    while shown:
        terminal.say("".join(f"{i}  {_indented(one.answer)}\n" for i, one in enumerate(shown, 1)))
        some = "1" if len(shown) == 1 else f"1-{len(shown)}"
        terminal.say(f"[{some}] take it, [Enter] the first, [e] edit, [r] others, [q] none: ")
        key = _key(terminal, len(shown), "er")
        if key == "r":
            drawn = draw(n_rounds)
            n_rounds += 1
            fresh = different([*seen, *drawn], len(seen) + len(drawn))[len(seen) :]
            if not drawn:
                return None
            if not fresh:
                terminal.say("no others came\n")
            seen, shown = seen + fresh, fresh or shown
        elif key == "e":
            terminal.say("edit which? ")
            which = _key(terminal, len(shown)) if len(shown) > 1 else "1"
            text = terminal.edit(shown[int(which) - 1].answer) if which else None
            if text and text.strip():
                return _picked(text.strip(), shown[int(which) - 1], seen)
        else:
            taken = shown[int(key) - 1] if key else None
            return _picked(taken.answer, taken, seen) if taken else None
    return None


def _picked(text: str, taken: Candidate, seen: Sequence[Candidate]) -> Picked:
    return Picked(text, tuple(dict.fromkeys([taken.answer, *(one.answer for one in seen)])))


def _key(terminal: Terminal, n: int, letters: str = "") -> str:
    """A key that means something, shown: a number up to `n` (Enter is 1) or one of `letters`; "" for none of them."""
    while True:
        key = terminal.key().lower()
        key = "1" if key in ("\r", "\n") else key
        if key in _NONE:
            terminal.say("\n")
            return ""
        if key and (key in letters or key in "123456789"[:n]):
            terminal.say(f"{key}\n")
            return key


def _indented(answer: str) -> str:
    return answer.replace("\n", "\n   ")
