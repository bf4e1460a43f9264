"""Items that are read from the profile only when they are first looked at.

A request looks at a few items of a large profile, and at the search hashes of all. So hashes, id, date and whether an
item teaches come from the cache (`cache.py`), and everything else from the item's line. The file stays open, so that a
profile which another process replaces can still be read as it was. A line whose item has another search hash than was
kept is refused.
"""

from __future__ import annotations

import json
import os
import weakref
from array import array
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from prlm_edge.errors import ProfileError
from prlm_edge.profile.lines import LineError, parse_line
from prlm_edge.types import Item

_BLOCK_BYTES = 32 * 1024
CAN_STORE = hasattr(os, "pread")  # not on Windows, where a file that is open can't be replaced either


class StoredLines:
    """Where the items are in the file.

    Args:
        sections: As `cache.py` keeps them: for each item its first byte ("starts"), bytes ("sizes"), line number from 1
            ("numbers"), two hashes of 16 bytes ("search_hashes", "content_hashes") and 1 or 0 ("teaches"), and JSON
            arrays of "ids" and "dates".
        on_change: Called when a line is not what was kept: then none of this can be trusted.

    Attributes:
        starts: First byte of each line; more may be appended to this array and the next two than there are items here.
        sizes: Bytes of each line.
        numbers: Line numbers.

    Raises:
        ValueError: The sections are not of one number of items.
    """

    def __init__(self, sections: Mapping[str, memoryview], on_change: Callable[[], None]) -> None:
        self.starts, self.sizes, self.numbers = array("Q"), array("I"), array("Q")
        for name in ("starts", "sizes", "numbers"):
            getattr(self, name).frombytes(sections[name])
        self._sections, self._on_change = sections, on_change
        self._path, self._descriptor = Path(), -1
        self._block = (0, b"")  # what was read last: first byte and content
        if not len(self) == len(self.starts) == len(self.sizes) == len(self.numbers) == len(sections["teaches"]):
            raise ValueError("sections that don't fit together")

    def bind(self, path: Path, stream: IO[bytes]) -> None:
        """Read from this open file from now on."""
        self._path, self._descriptor = path, os.dup(stream.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    @cached_property
    def ids(self) -> list[str]:
        """The ids of all items."""
        ids: list[str] = json.loads(bytes(self._sections["ids"]))
        return ids

    @cached_property
    def dates(self) -> list[str]:
        """The dates of all items."""
        dates: list[str] = json.loads(bytes(self._sections["dates"]))
        return dates

    def items(self) -> list[Item]:
        """An item for each line, none of them read yet."""
        digits = self._sections["search_hashes"].hex()
        return [StoredItem.at(self, place, digits[32 * place : 32 * place + 32]) for place in range(len(self))]

    def content_hash(self, place: int) -> str:
        """The content hash of the item of that place."""
        return self._sections["content_hashes"][16 * place : 16 * place + 16].hex()

    def teaches(self, place: int) -> bool:
        """Whether the item of that place teaches."""
        return bool(self._sections["teaches"][place])

    def read(self, place: int, search_hash: str) -> Item:
        """The item of that place, from the file.

        Raises:
            ProfileError: The file can't be read, or another program has changed it in place.
        """
        try:
            item = parse_line(self._line(self.starts[place], self.sizes[place]))
        except OSError as error:
            raise ProfileError(f"{self._path}: {error.strerror or error}", "try again") from None
        except LineError:
            item = None
        if item is None or item.search_hash != search_hash:
            self._block = (0, b"")  # it may have been mended by the next time
            self._on_change()
            raise ProfileError(f"{self._path}: line {self.numbers[place]} was changed while it was in use", "try again")
        return item

    def _line(self, start: int, size: int) -> bytes:
        """A line. What follows it is read with it, so that reading all lines in turn takes few calls."""
        first, block = self._block
        if not first <= start <= first + len(block) - size:
            first, block = self._block = (start, os.pread(self._descriptor, max(size, _BLOCK_BYTES), start))
        return block[start - first : start - first + size]

    def __len__(self) -> int:
        return len(self._sections["search_hashes"]) // 16


class StoredItem(Item):
    """An item that is not read yet. Reading any field but those that are kept turns it into a plain Item, in place.

    Any field may raise ProfileError, as `StoredLines.read` does.
    """

    def __new__(cls, *args: Any, **fields: Any) -> Item:  # type: ignore[misc]
        """A plain Item: `dataclasses.replace` makes one of the class of what it is given."""
        return Item(*args, **fields)

    @staticmethod
    def at(lines: StoredLines, place: int, search_hash: str) -> Item:
        """The item of that place."""
        item = object.__new__(StoredItem)
        known = item.__dict__
        known["search_hash"], known["_place"], known["_lines"] = search_hash, place, lines
        return item

    def read(self) -> dict[str, Any]:
        """Become an Item; returns its fields. Two threads may both do it: they read the same."""
        known = self.__dict__
        place, lines = known.get("_place"), known.get("_lines")  # popped the other way round
        if place is not None and lines is not None:
            known.update(lines.read(place, known["search_hash"]).__dict__)
            object.__setattr__(self, "__class__", Item)
            known.pop("_lines", None)
            known.pop("_place", None)
        return known

    def __eq__(self, other: object) -> bool:
        self.read()
        if isinstance(other, StoredItem):
            other.read()
        return Item.__eq__(self, other)

    __hash__ = Item.__hash__

    def __repr__(self) -> str:
        self.read()
        return repr(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles are plain Items."""
        self.read()
        return super(Item, self).__reduce_ex__(protocol)


def _field(name: str) -> property:
    return property(lambda item: item.read()[name])


def _kept(name: str, kept: Callable[[StoredLines, int], Any]) -> property:
    def value(item: StoredItem) -> Any:
        place, lines = item.__dict__.get("_place"), item.__dict__.get("_lines")
        if place is not None and lines is not None:
            return kept(lines, place)
        return getattr(item, name)  # another thread has read it meanwhile: it is a plain Item

    return property(value)


# Over the fields of the dataclass, whose defaults would hide a __getattr__.
for _name in ("text", "title", "kind", "source", "meta"):
    setattr(StoredItem, _name, _field(_name))
StoredItem.id = _kept("id", lambda lines, place: lines.ids[place])  # type: ignore[assignment]
StoredItem.date = _kept("date", lambda lines, place: lines.dates[place])  # type: ignore[assignment]
StoredItem.content_hash = _kept("content_hash", StoredLines.content_hash)  # type: ignore[assignment]
StoredItem.teaches = _kept("teaches", StoredLines.teaches)  # type: ignore[assignment]
