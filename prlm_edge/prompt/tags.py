"""Splits a model's text into reasoning and answer while it streams, without losing a character.

`StopMatcher` is for forced decoding, where the phase is known and only its end is looked for; `Splitter` is for
servers, whose replies arrive as one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TO_ANSWER = f"{THINK_CLOSE}\n{ANSWER_OPEN}"  # what separates the two phases, in examples and in forced decoding
TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)

Channel = Literal["reasoning", "answer"]


def defuse_tags(text: str) -> str:
    """Make our own tags in a user's text harmless, by look-alike brackets: `<think>` becomes `‹think›`."""
    for tag in TAGS:
        if tag in text:
            text = text.replace(tag, f"‹{tag[1:-1]}›")
    return text


class StopMatcher:
    """Finds the first of several stop strings in a stream of text pieces.

    Text that might be the beginning of a stop string is held until more text decides it.

    Args:
        stops: The stop strings; none may be empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise ValueError("a stop string is empty")
        self._stops = tuple(stops)
        self._held = ""
        self.found = ""

    def feed(self, piece: str) -> str:
        """Add `piece`; returns the text that is certainly before any stop. `found` names the stop once seen."""
        self._held += piece
        ends = [(at, -len(stop), stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            at, _, self.found = min(ends)
            safe, self._held = self._held[:at], self._held[at + len(self.found) :]
            return safe
        keep = max(_overlap(self._held, stop) for stop in self._stops) if self._stops else 0
        cut = len(self._held) - keep
        safe, self._held = self._held[:cut], self._held[cut:]
        return safe

    def flush(self) -> str:
        """The text still held (after a stop: the text that follows it); the matcher is then empty."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Splitter:
    """Splits a whole reply, `<think>...</think><answer>...</answer>`, into its two channels as it arrives.

    Text outside tags is kept. After `</think>` it is the answer. Before any tag it is held: it becomes the answer if no
    <answer> comes, else reasoning. Text after an unclosed <think> is reasoning; `answered` says whether there is an
    answer.
    """

    def __init__(self) -> None:
        self._state: Literal["outside", "reasoning", "between", "answer", "after"] = "outside"
        self._outside = self._begun = ""
        self._matcher = StopMatcher((THINK_OPEN, ANSWER_OPEN))
        self.answered = False

    def feed(self, piece: str) -> list[tuple[Channel, str]]:
        """Add `piece`; returns what is now certain, in order."""
        out: list[tuple[Channel, str]] = []
        while True:
            if self._state == "between":
                piece = self._open_answer(piece)
            safe = self._matcher.feed(piece)
            self._emit(safe, out)
            if not self._matcher.found:
                return out
            piece = self._advance(out)

    def finish(self) -> list[tuple[Channel, str]]:
        """The stream ended: returns what was still held."""
        out: list[tuple[Channel, str]] = []
        if self._begun != ANSWER_OPEN:
            self._add("answer", self._begun, out)
        self._emit(self._matcher.flush(), out)
        if self._outside.strip():
            self._add("reasoning" if self.answered else "answer", self._outside, out)
        self._outside = ""
        return out

    def _emit(self, text: str, out: list[tuple[Channel, str]]) -> None:
        if self._state in ("outside", "after"):
            self._outside += text
        else:
            self._add("reasoning" if self._state == "reasoning" else "answer", text, out)

    def _open_answer(self, piece: str) -> str:
        """After </think>: the answer begins at its tag, or at once, as models trained on <think> alone write it."""
        self._begun = (self._begun + piece).lstrip()
        if ANSWER_OPEN.startswith(self._begun):
            return ""  # undecided: nothing yet, or a part of the tag
        text, self._begun = self._begun.removeprefix(ANSWER_OPEN), ""
        self._enter("answer", (ANSWER_CLOSE,))
        return text

    def _advance(self, out: list[tuple[Channel, str]]) -> str:
        """Move to the state after the tag just found; returns the text that follows the tag."""
        found, rest = self._matcher.found, self._matcher.flush()
        if found in (THINK_OPEN, ANSWER_OPEN) and self._outside.strip():
            self._add("reasoning", self._outside, out)
            self._outside = ""
        if found == THINK_OPEN:
            self._enter("reasoning", (THINK_CLOSE, ANSWER_OPEN))
        elif found == THINK_CLOSE:
            self._enter("between", ())
        elif found == ANSWER_OPEN:
            self._enter("answer", (ANSWER_CLOSE,))
        else:
            self._enter("after", (THINK_OPEN, ANSWER_OPEN))
        return rest

    def _enter(self, state: Literal["reasoning", "between", "answer", "after"], stops: tuple[str, ...]) -> None:
        self._state = state
        self._matcher = StopMatcher(stops)

    def _add(self, channel: Channel, text: str, out: list[tuple[Channel, str]]) -> None:
        if text:
            self.answered = self.answered or (channel == "answer" and bool(text.strip()))
            out.append((channel, text))
