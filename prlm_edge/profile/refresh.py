"""When a profile file is read anew and how much of it: nothing, its end, or all of it.

What the cache keeps of it (`profile_keep.py`) counts like what this process has read before. Either is taken to be
right without a look at the file's bytes if the file system says the same of the file (device, inode, size, time of
modification and of change, to the nanosecond) as when it was read, and the file was then older than the coarsest file
clock. Otherwise every byte that was read then is hashed (some 50 ms for 100,000 items) and, if all are the same, only
what follows is parsed. So an edit of the same size with its time of modification set back is found by the time of
change; what goes unseen is a change in place while the system's clock is set back, or of the device behind its back.

Not here: what was read (`profile_snapshot.py`), locking (`profile.py`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from prlm_edge.profile import kept as profile_keep
from prlm_edge.profile.file import HEAD_BYTES, reading, refuse_foreign
from prlm_edge.profile.snapshot import Snapshot

_SAVE_TAIL = 1000  # items parsed, from which what was read is kept even if it may have to be verified again


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
        kept = profile_keep.load(path)
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


def _save(path: Path, snapshot: Snapshot, n_kept: int) -> None:
    """Keep what was read if that spares the next process anything."""
    if snapshot.settled or len(snapshot.items) - n_kept >= _SAVE_TAIL:
        profile_keep.save(path, snapshot)
