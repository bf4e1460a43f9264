"""What was read of a large profile, kept for the next process: where each item lies, and what is asked of all items.

How much of a profile is read again: nothing, its end, or all of it. What the cache keeps counts like what this process
has read before. Either is right without a look at the file's bytes if the file system says the same of the file
(device, inode, size, time of modification and of change, to the nanosecond) as when it was read, and the file was then
older than the coarsest file clock. Otherwise every byte that was read then is hashed (some 50 ms for 100,000 items)
and, if all are the same, only what follows is parsed. So an edit of the same size with its time of modification set
back is found by the time of change; what goes unseen is a change in place while the system's clock is set back, or of
the device behind its back. The items' own words are always read from the profile.
"""

from __future__ import annotations

import contextlib
import json
import os
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from prlm_edge.errors import BAD_DATA, PrlmError
from prlm_edge.profile.file import HEAD_BYTES, reading, refuse_foreign
from prlm_edge.profile.lazy_items import CAN_STORE, StoredLines
from prlm_edge.profile.lines import BadLine
from prlm_edge.profile.snapshot import Snapshot
from prlm_edge.storage import cache_dir
from prlm_edge.storage.kept import Shelf

FORMAT = 4  # to be raised when lines are read in another way, or hashes of items are made in another way
KEEP_FROM = 2000  # items; fewer are parsed faster than a file is worth
_SAVE_TAIL = 1000  # items parsed, from which what was read is kept even if it may have to be verified again
_MAX_SEGMENTS = 256  # so many times may items be added to the kept file; then the profile is read again
_PLAIN = ("ended", "torn", "n_bytes", "n_lines", "settled")


def shelf() -> Shelf:
    """Where the profiles' files are kept: one for a profile, and one for each task that was asked of it."""
    return Shelf(cache_dir() / "profiles", "profile", max_files=32, max_bytes=500_000_000)


def name_of(profile: Path, kind: str) -> str:
    """The name of the file that keeps `kind` for a profile, whatever links lead to it."""
    return f"{blake2b(os.fsencode(profile.resolve()), digest_size=16).hexdigest()}.{kind}"


def bring_up_to_date(path: Path, before: Snapshot) -> tuple[Snapshot, bool]:
    """Bring `before` up to date, or start over where more than the end of the file changed.

    Returns:
        The snapshot (`before` itself where it could be extended) and whether anything is different.

    Raises:
        UsageError: The file is no profile at all.
        ProfileError: It can't be read.
    """
    with reading(path), path.open("rb") as stream:
        if before.is_prefix_of(stream):
            changed = before.read_on(stream) > 0
            _save(path, before, 0)
            return before, changed
        kept = _load(path)
        if kept is not None and kept.stored is not None:
            kept.stored.bind(path, stream)
            kept.items = kept.stored.items()
            if kept.matches(os.fstat(stream.fileno())):
                return kept, True
            stream.seek(0)
            if kept.is_prefix_of(stream):
                kept.read_on(stream)
                _save(path, kept, len(kept.stored))
                return kept, True
        snapshot = _read_whole(path, stream)
        _save(path, snapshot, 0)
        return snapshot, True


def _read_whole(path: Path, stream: IO[bytes]) -> Snapshot:
    stream.seek(0)
    refuse_foreign(path, stream.read(HEAD_BYTES))
    stream.seek(0)
    snapshot = Snapshot()
    snapshot.read_on(stream)
    return snapshot


def _load(path: Path) -> Snapshot | None:
    """What is kept of the profile, its items without a file to be read from; None where nothing is."""
    if not CAN_STORE:
        return None
    name = name_of(path, "lines")
    kept = shelf().open(name, str(FORMAT))
    if kept is None:
        return None
    forget = partial(shelf().forget, name)
    about = kept.about
    try:
        snapshot = Snapshot()
        stored = snapshot.stored = StoredLines(kept.sections, forget)
        snapshot.starts, snapshot.sizes, snapshot.numbers = stored.starts, stored.sizes, stored.numbers
        snapshot.bad = [BadLine(*fields) for fields in about["bad"]]
        snapshot.segments = [(size, bytes.fromhex(digest)) for size, digest in about["segments"]]
        snapshot.signature = tuple(about["signature"])
        for field in _PLAIN:
            setattr(snapshot, field, about[field])
    except BAD_DATA:
        forget()
        return None
    return snapshot if len(snapshot.segments) <= _MAX_SEGMENTS else None


def _save(path: Path, snapshot: Snapshot, n_kept: int) -> None:
    """Keep what was read if that spares the next process anything. `n_kept` items are kept already."""
    worth_it = snapshot.settled or len(snapshot.items) - n_kept >= _SAVE_TAIL
    if not (worth_it and CAN_STORE and len(snapshot.items) >= KEEP_FROM and snapshot.signature is not None):
        return
    snapshot.close_segment()
    about: dict[str, Any] = {
        "bad": [[bad.number, bad.reason, bad.start, bad.size, bad.duplicate] for bad in snapshot.bad],
        "segments": [[size, digest.hex()] for size, digest in snapshot.segments],
        "signature": snapshot.signature,
        **{field: getattr(snapshot, field) for field in _PLAIN},
    }
    sections: dict[str, Any] = {name: getattr(snapshot, name) for name in ("starts", "sizes", "numbers")}
    for column in ("search_hash", "content_hash"):
        sections[f"{column}es"] = bytes.fromhex("".join(getattr(item, column) for item in snapshot.items))
    for column in ("id", "date"):
        sections[f"{column}s"] = json.dumps([getattr(item, column) for item in snapshot.items]).encode()
    sections["teaches"] = bytes(item.teaches for item in snapshot.items)
    with contextlib.suppress(PrlmError):  # without it the next process takes longer
        shelf().write(name_of(path, "lines"), str(FORMAT), about, sections)
