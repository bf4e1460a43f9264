"""The profile: a user's past writing as a JSONL file that is never left half written.

Appends are one locked write + fsync; everything else is temporary file, fsync, rename, with all untouched bytes copied
as they stand.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from prlm_edge.errors import PrlmError, UsageError
from prlm_edge.profile import file as files
from prlm_edge.profile.cache import bring_up_to_date
from prlm_edge.profile.file import Edit
from prlm_edge.profile.lines import (
    BadLine,
    LineError,
    clean,
    fields_of,
    format_line,
    free_id,
    merge,
    parse_line,
    with_id,
)
from prlm_edge.profile.snapshot import Content, Snapshot
from prlm_edge.storage import append_bytes, expanded, locked, private_dir, write_error
from prlm_edge.types import Item

_TRIES = 5  # rewrites that another program's writing may spoil


@dataclass(frozen=True)
class Added:
    """What an append did: items added, items skipped because their content was there, ids of the added ones."""

    added: int
    duplicates: int
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repaired:
    """What a repair did.

    Attributes:
        moved: Lines that went to the side file.
        renamed: (line number, old id, new id) of sound lines whose id an earlier line already had.
        side_file: Where the moved lines are, byte for byte; None when there were none.
        closed: Whether a missing line break at the end was added.
    """

    moved: int = 0
    renamed: tuple[tuple[int, str, str], ...] = ()
    side_file: Path | None = None
    closed: bool = False

    @property
    def changed(self) -> bool:
        """Whether the profile was rewritten."""
        return bool(self.moved or self.renamed or self.closed)


class Profile:
    """An open profile. Thread-safe; other processes may append to the same file meanwhile.

    Attributes:
        path: The file.
        version: Another number whenever the items are others, whoever has changed them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0
        self._state = Snapshot()
        self._guard = threading.RLock()

    @classmethod
    def open(cls, path: str | Path, *, create: bool = False) -> Profile:
        """Read the profile at `path`.

        Args:
            path: The file; `~` is expanded, a symbolic link followed and kept.
            create: A missing file is an empty profile, made by the first append.

        Raises:
            UsageError: A missing file, a folder, or something that is no profile at all.
            ProfileError: The file can't be read.
        """
        profile = cls(expanded(path))
        if not create or files.status_of(profile.path) is not None:
            profile.refresh()
        return profile

    @property
    def items(self) -> list[Item]:
        """The readable items, in file order."""
        return self._state.items

    @property
    def bad(self) -> list[BadLine]:
        """The lines that can't be read, in file order."""
        return self._state.bad

    @property
    def content(self) -> Content:
        """The items and the digests of the bytes that they were read from."""
        with self._guard:
            return self._state.content

    def __len__(self) -> int:
        return len(self._state.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._state.items)

    def get(self, id: str) -> Item | None:
        """The item of that id."""
        state = self._state
        index = state.by_id.get(id)
        return None if index is None else state.items[index]

    def has_content(self, item: Item) -> bool:
        """Whether an item of the same title and text is here, whatever its id."""
        with self._guard:
            return item.content_hash in self._state.content_hashes()

    @property
    def other_names(self) -> int:
        """Other names (hard links) of the file: they keep what a rewrite removes."""
        status = files.status_of(self.path)
        return status.st_nlink - 1 if status else 0

    @property
    def leftovers(self) -> list[Path]:
        """Temporary files of interrupted rewrites, which hold the profile's text; the next rewrite deletes them."""
        return files.leftovers(self.path)

    def refresh(self) -> bool:
        """Read what has changed on disk; True if the profile did. A stat call when nothing has.

        Raises:
            UsageError: The file is gone or no profile any more.
            ProfileError: The file can't be read.
        """
        with self._guard:
            changed = self._sync()
            if changed and self._state.torn:  # perhaps another process is just writing that line: wait, look again
                with contextlib.suppress(PrlmError), locked(self.path.resolve()):
                    changed |= self._sync()
            return changed

    def append(self, items: Iterable[Item]) -> Added:
        """Add `items` in one locked write + fsync, all or none; content that is here already is skipped and counted.

        An item without an id, or whose id is taken by other content, gets one derived from its content.

        Raises:
            UsageError: An item that can't be a profile line; nothing was added.
            PrlmError: The disk is full, read-only or not writable; the file is then as it was.
        """
        wanted = [_clean(item) for item in items]
        with self._guard, self._locked():
            self._sync(trust_stat=True, create=True)
            state = self._state
            hashes, ids = state.content_hashes(), state.by_id
            new_hashes: set[str] = set()
            added: dict[str, Item] = {}
            lines: list[bytes] = []
            for item in wanted:
                if item.content_hash in hashes or item.content_hash in new_hashes:
                    continue
                new_hashes.add(item.content_hash)
                if not item.id or item.id in ids or item.id in added:
                    item = replace(item, id=free_id(item, ids, added))
                line = _line_of(item)
                lines.append(line)
                added[item.id] = parse_line(line)
            if lines:
                closing = b"" if state.ended else b"\n"
                append_bytes(self.path.resolve(), closing + b"".join(lines))
                if closing:
                    self._sync()
                else:
                    self.version += 1
                    state.extend(list(added.values()), lines, self.path)
            return Added(len(added), len(wanted) - len(added), tuple(added))

    def update(self, items: Iterable[Item]) -> int:
        """Replace the items of the same ids, in place; ids that aren't here are ignored. Returns how many.

        Fields of the old lines that we don't know survive.

        Raises:
            UsageError: An item that can't be a profile line; nothing was changed.
            PrlmError: The profile can't be written; it is then as it was.
        """
        wanted = {item.id: item for item in items}

        def plan() -> list[Edit]:
            edits = []
            for id, item in wanted.items():
                if (span := self._state.span(id)) is not None:
                    _line_of(item)
                    edits.append(Edit(*span, merge(files.read_span(self.path, *span), item)))
            return edits

        return self._rewrite(plan)

    def remove(self, ids: Iterable[str]) -> int:
        """Delete the items of these ids; every other byte of the file stays as it is. Returns how many were deleted.

        Raises:
            PrlmError: The profile can't be written; it is then as it was.
        """
        wanted = set(ids)
        return self._rewrite(lambda: [Edit(*span) for id in wanted if (span := self._state.span(id)) is not None])

    def repair(self) -> Repaired:
        """Move what can't be read into `<name>.rejected-<UTC time>` next to the profile; nothing is ever dropped.

        A sound line whose id an earlier line has gets an id of its own, no other byte of it changed, unless its
        content is here too: then it is moved. The side file is on disk before the profile is rewritten.

        Raises:
            PrlmError: Either file can't be written; the profile is then as it was.
        """
        done = Repaired()

        def plan() -> list[Edit]:
            nonlocal done
            if done.side_file is not None:  # of a try that came too late: its lines are still in the profile
                done.side_file.unlink(missing_ok=True)
            moves, renames = self._plan_repair()
            side_file = files.write_side_file(self.path, moves, _stamp()) if moves else None
            done = Repaired(len(moves), tuple(renames), side_file, not self._state.ended and not self._state.torn)
            return [*moves, *renames.values()]

        self._rewrite(plan, close=True)
        return done

    def _plan_repair(self) -> tuple[list[Edit], dict[tuple[int, str, str], Edit]]:
        """The lines to move away, and the lines to give another id by (line number, old id, new id)."""
        state = self._state
        moves: list[Edit] = []
        renames: dict[tuple[int, str, str], Edit] = {}
        new_ids: set[str] = set()
        new_hashes: set[str] = set()
        for line in state.bad:
            if line.duplicate:
                data = files.read_span(self.path, line.start, line.size)
                item = parse_line(data)
                if item.content_hash not in state.content_hashes() and item.content_hash not in new_hashes:
                    new_id = free_id(item, state.by_id, new_ids)
                    new_ids.add(new_id)
                    new_hashes.add(item.content_hash)
                    renames[line.number, item.id, new_id] = Edit(line.start, line.size, with_id(data, new_id))
                    continue
            moves.append(Edit(line.start, line.size))
        return moves, renames

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        real = self.path.resolve()
        try:
            private_dir(real.parent)
        except OSError as error:
            raise write_error(real, error) from error
        with locked(real):
            yield

    def _sync(self, *, trust_stat: bool = False, create: bool = False) -> bool:
        """Bring the snapshot up to date; True if it changed. `create`: a missing file is an empty profile."""
        try:
            if (status := files.status_of(self.path)) is not None:
                if self._state.matches(status, racy=trust_stat):
                    return False
                self._state, changed = bring_up_to_date(self.path, self._state)
                self.version += changed
                return changed
        except FileNotFoundError:
            pass  # it went away between the two steps
        if not create:
            raise UsageError(
                f"{self.path}: no such profile", f"make one: prlm-edge profile import git . --user {self.path}"
            )
        self._state = Snapshot()
        self.version += 1
        return True

    def _rewrite(self, plan: Callable[[], list[Edit]], *, close: bool = False) -> int:
        """Apply the edits that `plan` makes for what is on disk; returns how many.

        Where another program, which does not know our lock, has written meanwhile, this starts over.

        Args:
            plan: Called with the snapshot up to date.
            close: Also add a missing line break at the end.

        Raises:
            PrlmError: The profile can't be written, or another program writes to it all the time.
        """
        with self._guard, self._locked():
            for left in files.leftovers(self.path):
                with contextlib.suppress(OSError):
                    left.unlink()
            for _ in range(_TRIES):
                self._sync()
                try:
                    edits = plan()
                    if not edits and (self._state.ended or not close):
                        return 0
                    files.rewrite(self.path, edits, self._state.signature, close=close)
                except (files.ChangedError, LineError):  # LineError: a line that was sound a moment ago
                    continue
                self._sync()
                return len(edits)
        raise PrlmError(f"{self.path}: another program keeps writing to it", "end it, then try again")


def as_stored(item: Item) -> Item:
    """The item as it will be read again: JSON has no form for all that an Item may hold, such as lone surrogates.

    Raises:
        UsageError: It can't be a profile line.
    """
    return parse_line(_line_of(item))


def _clean(item: Item) -> Item:
    """The item as it will be read again: no lone surrogates, so that its content hash is the stored one's."""
    text, title = clean(item.text), clean(item.title)
    return item if (text, title) == (item.text, item.title) else replace(item, text=text, title=title)


def _line_of(item: Item) -> bytes:
    """The new line of an item."""
    if not item.text.strip() and not item.title.strip():
        raise UsageError(f"item {item.id!r} has neither text nor title", "give it one of them")
    try:
        return format_line(fields_of(item))
    except LineError as error:
        raise UsageError(f"item {item.id!r}: {error}", "shorten or mend it") from None


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
