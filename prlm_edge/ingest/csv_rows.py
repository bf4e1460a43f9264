"""The rows of a CSV file, read strictly; where that fails, in the other ways in which programs write quotes.

RFC 4180 doubles a quote within quotes. Others put a backslash before it, or blanks around quoted cells, or take quotes
for plain characters (tab-separated files). A row is read in another way only where it then fits the header.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

_PATIENCE = (
    200_000  # lines that other readings may read in vain, in all: hostile files make every row read on to the end
)
_ERRORS = (
    ("unexpected end", "a quote that is never closed"),
    ("field larger", "a quote that is never closed, or more than 4 MiB in a cell"),
)


class CsvRow(NamedTuple):
    """A row: its number, that of its last line (both from 1), and its cells, or why it can't be read."""

    number: int
    line: int
    cells: list[str]
    error: str = ""


class Lines:
    """The lines of a stream of which `head` has been read; those of the row at hand (`taken`) can be put back."""

    def __init__(self, head: str, rest: IO[str], *, skipped: int) -> None:
        self._lines = self._chain(head, rest)
        self._waiting: deque[str] = deque()
        self.taken: list[str] = []
        self.number = skipped

    @staticmethod
    def _chain(head: str, rest: IO[str]) -> Iterator[str]:
        yield from io.StringIO(head + rest.readline(), newline="")
        yield from rest

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self.taken.append(line)
        self.number += 1
        return line

    def put_back(self, keep: int = 0) -> None:
        """Put back the lines of the row at hand but for the first `keep`."""
        self._waiting.extendleft(reversed(self.taken[keep:]))
        self.number -= len(self.taken) - keep
        del self.taken[keep:]


class Rows:
    """Iterates over the rows.

    Attributes:
        delimiter: What separates cells.
        width: Cells of the header; 0 while it isn't known.
    """

    def __init__(self, lines: Lines, delimiter: str) -> None:
        self.delimiter = delimiter
        self.width = 0
        self._lines = lines
        self._number = 0
        self._reader: Iterator[list[str]] = iter(())
        self._reads = ""  # the delimiter that the reader cuts at
        self._patience = _PATIENCE
        self._doubtful = False  # after an open quote, until its end may have come

    def __iter__(self) -> Iterator[CsvRow]:
        return self

    def __next__(self) -> CsvRow:
        taken = self._lines.taken
        taken.clear()
        if self._reads != self.delimiter:
            self._reader, self._reads = self._read(self._lines), self.delimiter
        cells: list[str] = []
        error = ""
        try:
            cells = next(self._reader)
        except csv.Error as why:
            error = next((text for words, text in _ERRORS if str(why).startswith(words)), "quotes in the wrong place")
        self._number += 1
        strange = error or not self._fits(cells) or any('\\"' in line for line in taken) or self._goes_on()
        if strange and self.width and self._patience > 0 and (other := self._otherwise(wrong=bool(error))) is not None:
            cells, error = other, ""
        if error:
            self._lines.put_back(keep=1)
            self._doubtful = True
        elif self._doubtful and sum(line.count('"') for line in taken) % 2:
            self._doubtful = False
            error = "perhaps the end of a text whose quotes are in the wrong place"
        return CsvRow(self._number, self._lines.number, cells, error)

    def _read(self, lines: Iterable[str], **dialect: Any) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=True, **dialect)

    def _fits(self, cells: list[str]) -> bool:
        return len(cells) >= self.width and not any(cells[self.width :])

    def _goes_on(self) -> bool:
        """Whether the line ends with a backslash, and the next one is no row of its own."""
        taken = self._lines.taken
        if not taken[-1].rstrip("\r\n").endswith("\\"):
            return False
        here = len(taken)
        line = next(self._lines, "")
        self._lines.put_back(keep=here)
        return bool(line.strip()) and self._attempt(self._read([line])) is None

    def _otherwise(self, *, wrong: bool) -> list[str] | None:
        """The row at hand in the first other reading that fits the header; None, and nothing changed, if none does.

        Args:
            wrong: Whether its quotes are wrong in the strict reading.
        """
        lines, before = self._lines, list(self._lines.taken)
        if any("\\" in line for line in before):
            lines.put_back()
            if (cells := self._attempt(self._read(lines, escapechar="\\"))) is not None:
                return cells
        if wrong:
            even = before[0].count('"') % 2 == 0
            if even or self.delimiter != "\t":
                lines.put_back()
                blanks = re.compile(rf'(?<!")" +(?=[\r\n{re.escape(self.delimiter)}]|$)')
                if (cells := self._attempt(self._read(blanks.sub('"', line) for line in lines))) is not None:
                    return cells
            # Quotes as plain characters: a line that opens none for the next one, or any of a tab-separated file.
            if even or self.delimiter == "\t":
                lines.put_back()
                if (cells := self._attempt(self._read([next(lines)], quoting=csv.QUOTE_NONE))) is not None:
                    return cells
        lines.put_back()
        for _ in before:
            next(lines)
        return None

    def _attempt(self, reader: Iterator[list[str]]) -> list[str] | None:
        try:
            cells = next(reader)
        except (csv.Error, StopIteration):
            cells = []
        if cells and self._fits(cells):
            return cells
        self._patience -= len(self._lines.taken)
        return None
