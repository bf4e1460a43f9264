"""Pairs to judge and the votes on them: a JSONL file that only grows, so that judging can stop and go on.

Order and sides are drawn from the seed: the judge can't tell which condition stands where, and a second sitting shows
the same.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.compare import Side
from prlm_edge.evaluate.records import Answer
from prlm_edge.evaluate.stats import estimate
from prlm_edge.storage import append_json, cut_torn_line, json_lines

_CHOICES = ("left", "right", "tie", "skip")
_ELSEWHERE = "choose a new file with --out"


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to one request; `a_left` says which side A's answer stands on."""

    row: str
    user: str
    query: str
    past: tuple[str, ...]
    a: str
    b: str
    a_left: bool

    def shown(self) -> dict[str, Any]:
        """What the page may know: not which condition is which."""
        left, right = (self.a, self.b) if self.a_left else (self.b, self.a)
        return {"row": self.row, "query": self.query, "past": list(self.past), "left": left, "right": right}


@dataclass(frozen=True)
class VoteResult:
    """How B did against A.

    Attributes:
        a: Name of A.
        b: Name of B.
        wins_a: Votes for A.
        ties: Votes for neither.
        wins_b: Votes for B.
        win_rate: Share of votes for B, ties counted half, users weighing the same.
        low: Lower end of the 95% interval, bootstrap by user.
        high: Upper end.
        n: Votes; skipped pairs are none.
        equal: Pairs whose answers are equal and that nobody was shown.
    """

    a: str
    b: str
    wins_a: int
    ties: int
    wins_b: int
    win_rate: float
    low: float
    high: float
    n: int
    equal: int


def pairs(a: Side, b: Side, *, seed: int = 0, limit: int | None = None) -> list[AnswerPair]:
    """What both answered, in the order and on the sides that `seed` draws; `limit` takes the first of them.

    Raises:
        UsageError: They share no row.
    """
    ours, theirs = _answers(a), _answers(b)

    def dice(row: str) -> bytes:
        return blake2b(f"{seed}\0{row}".encode(), digest_size=9).digest()

    rows = sorted((row for row in ours if row in theirs), key=dice)[:limit]
    if not rows:
        raise UsageError(f"{a.name} and {b.name} share no row", "judge runs over the same data")
    return [
        AnswerPair(
            row,
            ours[row].user,
            ours[row].query,
            tuple(shown.title for shown in (theirs[row].used or ours[row].used)),
            ours[row].answer.strip(),
            theirs[row].answer.strip(),
            bool(dice(row)[-1] & 1),
        )
        for row in rows
    ]


class Votes:
    """The votes in `path` on `pairs` of the conditions `a` and `b`. Thread-safe.

    Raises:
        UsageError: The file holds votes on other conditions.
        DataError: It is damaged, or holds something else.
    """

    def __init__(self, path: Path, a: str, b: str, pairs: Sequence[AnswerPair]) -> None:
        self.path, self.a, self.b = path, a, b
        self.equal = sum(pair.a == pair.b for pair in pairs)
        self.pairs = [pair for pair in pairs if pair.a != pair.b]
        self._by_row = {pair.row: pair for pair in self.pairs}
        self._choices: dict[str, str] = {}  # "a", "b", "tie" or "skip" by row, in the order of voting
        self._lock = threading.Lock()
        self._read()

    @property
    def done(self) -> int:
        """How many pairs are voted on or skipped."""
        return len(self._choices)

    def next(self) -> AnswerPair | None:
        """The first pair that is open; None at the end."""
        return next((pair for pair in self.pairs if pair.row not in self._choices), None)

    def vote(self, row: str, choice: str, reason: str = "") -> None:
        """Keep a vote; it is on disk when this returns.

        Raises:
            UsageError: No such pair or choice.
        """
        pair = self._by_row.get(row)
        if pair is None or choice not in _CHOICES:
            raise UsageError(f"no such vote: {row!r} {choice!r}", "reload the page")
        side = {"left": "a" if pair.a_left else "b", "right": "b" if pair.a_left else "a"}.get(choice, choice)
        self._write({"row": row, "user": pair.user, "vote": side, "reason": reason[:2000]})

    def undo(self) -> None:
        """Take the latest vote back, if there is any."""
        if self._choices:
            self._write({"row": next(reversed(self._choices)), "vote": "undo"})

    def result(self) -> VoteResult:
        """The votes so far."""
        worth = {"a": 0.0, "tie": 0.5, "b": 1.0}
        votes = [(self._by_row[row].user, worth[side]) for row, side in self._choices.items() if side in worth]
        found = estimate(votes)
        counts = {side: sum(value == points for _, value in votes) for side, points in worth.items()}
        mean, low, high = (found.mean, found.low, found.high) if found else (0.5, 0.0, 1.0)
        return VoteResult(
            self.a, self.b, counts["a"], counts["tie"], counts["b"], mean, low, high, len(votes), self.equal
        )

    def _write(self, record: Mapping[str, Any]) -> None:
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self._lock:
            header = [] if self.path.exists() else [{"a": self.a, "b": self.b}]
            append_json(self.path, *header, {**record, "at": at})
            self._take(record["row"], record["vote"])

    def _take(self, row: str, vote: str) -> None:
        self._choices.pop(row, None)
        if vote != "undo" and row in self._by_row:
            self._choices[row] = vote

    def _read(self) -> None:
        if not self.path.exists():
            return
        lines = list(json_lines(self.path, _line, _ELSEWHERE))
        if lines[:1] != [(self.a, self.b)]:
            raise UsageError(f"{self.path}: no votes on {self.a} and {self.b}", _ELSEWHERE)
        cut_torn_line(self.path)  # the page never heard that this vote is kept
        for row, vote in lines[1:]:
            self._take(row, vote)


def _line(record: dict[str, Any]) -> tuple[str, str]:
    """The first line names the conditions, each other one a row and the vote on it."""
    keys = ("a", "b") if "a" in record else ("row", "vote")
    return str(record[keys[0]]), str(record[keys[1]])


def _answers(side: Side) -> dict[str, Answer]:
    return {answer.row: answer for answer in side.run.answers() if answer.condition == side.condition}
