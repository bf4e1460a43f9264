"""What was read of a profile file, and where each item is in it."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import IO, NamedTuple

from prlm_edge.profile.file import BOM, Signature, signature_of
from prlm_edge.profile.lazy_items import StoredLines
from prlm_edge.profile.lines import MAX_LINE_BYTES, BadLine, LineError, RawLine, parse_line, raw_lines
from prlm_edge.types import Item

_BLOCK_BYTES = 1 << 20
Segment = tuple[int, bytes]  # bytes of a part of the file, and their digest
_RACY_NS = 2_000_000_000  # the coarsest file clock in use (FAT): a same-size edit within it may keep every stat field
_making_ids = threading.Lock()


class Content(NamedTuple):
    """The items, and the bytes that they were read from: what was counted over items is valid for these bytes.

    Attributes:
        items: The items.
        segments: The parts of the file that they were read from, each with its digest.
        closed: Whether those are all.
    """

    items: list[Item]
    segments: list[Segment]
    closed: bool


class Snapshot:
    """What was read of a profile file.

    Attributes:
        items: Readable items in file order.
        bad: Unreadable lines in file order.
        ended: Whether the file is empty or ends in a line break.
        torn: Whether the last line has no line break and can't be read.
        starts: First byte of each item's line.
        sizes: Bytes of each item's line, its line break included.
        numbers: Line number of each item, from 1.
        n_bytes: Bytes read.
        n_lines: Lines read.
        segments: The parts of the file that were read, each with its digest, except the last one.
        signature: What the file system said of the file when it was read; None when that is not known.
        settled: Whether the file was then so old that a later change must show in its signature.
        stored: Where the first items come from, if they were not parsed but taken over from the cache.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.bad: list[BadLine] = []
        self.ended = True
        self.torn = False
        self.starts = array("Q")
        self.sizes = array("I")
        self.numbers = array("Q")
        self.n_bytes = 0
        self.n_lines = 0
        self.segments: list[Segment] = []
        self.signature: Signature | None = None
        self.settled = False
        self.stored: StoredLines | None = None
        self._by_id: dict[str, int] | None = None
        self._hashes: set[str] | None = None
        self._digest = blake2b(digest_size=16)  # of what follows the segments
        self._whole = True  # False while it is being extended: an interrupt there makes the next read start over

    @property
    def by_id(self) -> dict[str, int]:
        """Index into `items` by id."""
        if self._by_id is None:
            with _making_ids:  # or a second thread's dict could replace one that has grown meanwhile
                if self._by_id is None:
                    ids = self.stored.ids if self.stored else ()
                    self._by_id = dict(zip(ids, range(len(ids)), strict=True))
        return self._by_id

    @property
    def n_open(self) -> int:
        """Bytes that were read after the last closed segment."""
        return self.n_bytes - sum(size for size, _ in self.segments)

    @property
    def content(self) -> Content:
        """The items, and where they come from."""
        return Content(self.items, self.segments, self.n_open == 0)

    def close_segment(self) -> None:
        """Let the next bytes that are read have a digest of their own."""
        if n_open := self.n_open:
            self.segments = [*self.segments, (n_open, self._digest.digest())]
            self._digest = blake2b(digest_size=16)

    def content_hashes(self) -> set[str]:
        """The content hashes of all items; kept up to date once asked for."""
        if self._hashes is None:
            self._hashes = {item.content_hash for item in self.items}
        return self._hashes

    def span(self, id: str) -> tuple[int, int] | None:
        """(first byte, bytes) of the line of an item, line break included."""
        index = self.by_id.get(id)
        return None if index is None else (self.starts[index], self.sizes[index])

    def matches(self, status: os.stat_result, *, racy: bool = False) -> bool:
        """Whether the file is as it was read. With `racy` an edit of the same size within 2 s of it may be missed."""
        return self._whole and self.signature == signature_of(status) and (racy or self.settled)

    def is_prefix_of(self, stream: IO[bytes]) -> bool:
        """Whether the file still begins with all that was read; the stream is then right after it."""
        if not (self._whole and self.ended and self.n_bytes):
            return False
        segments = [*self.segments, (n_open, self._digest.digest())] if (n_open := self.n_open) else self.segments
        return all(_digest_of(stream, size) == digest for size, digest in segments)

    def read_on(self, stream: IO[bytes]) -> int:
        """Read the stream from its position to its end; returns the bytes read."""
        status = os.fstat(stream.fileno())
        before = self.n_bytes
        self._open()
        for line in raw_lines(stream, self._digest):
            self._add(line)
        self._whole = True
        self.signature = signature_of(status)
        self.settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _RACY_NS
        return self.n_bytes - before

    def extend(self, items: Sequence[Item], lines: Sequence[bytes], path: Path) -> None:
        """Note lines that this process has just appended itself."""
        self._open()
        for item, line in zip(items, lines, strict=True):
            self._digest.update(line)
            self.n_lines += 1
            self._add_item(item, len(line))
        status = path.stat()
        self.signature = signature_of(status) if status.st_size == self.n_bytes else None
        self.settled = False
        self._whole = True

    def _open(self) -> None:
        """Start to extend. The lists are copied, so that those handed out stay as they are."""
        self._whole = False
        self.items, self.bad = list(self.items), list(self.bad)

    def _add(self, line: RawLine) -> None:
        self.n_lines += 1
        self.ended, self.torn = line.ended, False
        if line.data is not None and (line.data.isspace() or (line.size < 8 and line.data.strip() == BOM)):
            self.n_bytes += line.size
            return
        try:
            if line.data is None:
                raise LineError(f"longer than {MAX_LINE_BYTES >> 20} MiB ({line.size:,} bytes)")
            item = parse_line(line.data)
        except LineError as error:
            self.torn = not line.ended
            self._add_bad(line, f"{error} (the line is cut off)" if self.torn else str(error))
            return
        first = self.by_id.get(item.id)
        if first is None:
            self._add_item(item, line.size)
            return
        same = item.content_hash == self.items[first].content_hash
        self._add_bad(
            line,
            f"{'same item as' if same else f'id {item.id!r} is taken by'} line {self.numbers[first]}",
            duplicate=True,
        )

    def _add_item(self, item: Item, size: int) -> None:
        self.starts.append(self.n_bytes)
        self.sizes.append(size)
        self.numbers.append(self.n_lines)
        self.n_bytes += size
        if self._hashes is not None:
            self._hashes.add(item.content_hash)
        self.items.append(item)
        self.by_id[item.id] = len(self.items) - 1

    def _add_bad(self, line: RawLine, reason: str, *, duplicate: bool = False) -> None:
        self.bad.append(BadLine(self.n_lines, reason, self.n_bytes, line.size, duplicate))
        self.n_bytes += line.size


def _digest_of(stream: IO[bytes], size: int) -> bytes | None:
    """The digest of the next `size` bytes; None where there are fewer."""
    digest = blake2b(digest_size=16)
    while size and (block := stream.read(min(size, _BLOCK_BYTES))):
        digest.update(block)
        size -= len(block)
    return None if size else digest.digest()
