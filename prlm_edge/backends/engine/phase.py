"""One phase of a reply, its reasoning or its answer: takes tokens, gives text, knows where it ends."""

from __future__ import annotations

import codecs

from prlm_edge.backends.engine.vocabulary import Vocabulary
from prlm_edge.prompt import StopMatcher


class Phase:
    """Turns tokens into text up to a stop string, an end token or the budget.

    Attributes:
        n_tokens: Tokens taken, those of the stop string included, an end token not.
        ended: Whether it is over.
        stopped: Whether it ended by itself, not by its budget.
        kept: Once ended: how many of the tokens lie wholly before the stop.
    """

    def __init__(self, vocab: Vocabulary, stops: tuple[str, ...], budget: int, *, multiline: bool) -> None:
        self._vocab, self._budget = vocab, budget
        self._stops = stops if multiline else (*stops, "\n")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._matcher = StopMatcher(self._stops)
        self._begun = multiline  # a line break before the first word does not end a one-line answer
        self._n_safe = self._n_decoded = 0  # characters passed on, and decoded
        self._ends: list[int] = []  # characters decoded by the end of each token
        self.ended = self.stopped = budget <= 0
        self.kept = 0

    @property
    def n_tokens(self) -> int:
        """Tokens taken."""
        return len(self._ends)

    def push(self, token: int) -> str:
        """Take the next token; returns the text that is now certainly before the stop."""
        if self._ends_turn(token):
            self.stopped = True
            return self._end("")
        text = self._decoder.decode(self._vocab.piece(token))
        self._n_decoded += len(text)
        self._ends.append(self._n_decoded)
        if not self._begun:
            self._n_safe += len(text) - len(text := text.lstrip())
            self._begun = bool(text)
        safe = self._matcher.feed(text)
        self._n_safe += len(safe)
        self.stopped = bool(self._matcher.found)
        return self._end(safe) if self.stopped or len(self._ends) >= self._budget else safe

    def _end(self, safe: str) -> str:
        if not self._matcher.found:  # a character that the budget cut apart is no text, nor is a part of a closing tag
            rest = self._matcher.flush()
            rest = "" if len(rest) > 1 or not self.stopped else rest
            self._n_safe += len(rest)
            safe += rest
        self.ended = True
        self.kept = sum(end <= self._n_safe for end in self._ends)
        return safe

    def _ends_turn(self, token: int) -> bool:
        if self._vocab.is_end(token):
            return True
        if not self._vocab.is_control(token):
            return False
        # some vocabularies hold the tags as control tokens; any other one ends the turn
        return self._vocab.piece(token).decode("utf-8", "replace") not in self._stops
