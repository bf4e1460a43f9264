"""Evaluated prompt prefixes: the model's state after them, kept in memory and, where asked for, on disk.

A state holds the text it came from, the user's own past writing, in a form from which it can be read again; so the
disk is used only where the user says so. Entries are named by digests over tokens and cuts (`prompt_tokens.py`): one
entry serves every prompt that begins as it does, up to the last cut that they share.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prlm_edge.backends.engine.prefix_files import PrefixFiles, common

MEMORY_BYTES = 256 << 20
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Prefix:
    """An entry that begins as the prompt does.

    Attributes:
        n_cuts: How many of the prompt's cuts it shares.
        n_tokens: Tokens up to the last of these.
        state: The whole entry's state, which may hold more tokens than that; read-only where it is mapped.
    """

    n_cuts: int
    n_tokens: int
    state: Buffer


class PrefixStore:
    """The entries of one model in one build.

    Args:
        key: Hex digits that differ where a state of one can't be used by the other.
        memory_bytes: What states may take in memory; the least recently used go first.
        folder: Where they are kept on disk too; None for memory only.
        disk_bytes: What they may take there, those of all keys together.

    Attributes:
        files: The entries on disk; `files.problem` says why they can't be written.
    """

    def __init__(
        self, key: str, *, memory_bytes: int = MEMORY_BYTES, folder: Path | None = None, disk_bytes: int = 1 << 30
    ) -> None:
        self._limit = memory_bytes
        self._kept: collections.OrderedDict[tuple[bytes, ...], tuple[tuple[int, ...], Buffer]]
        self._kept = collections.OrderedDict()  # least recently used first
        self.files = PrefixFiles(folder, key, disk_bytes) if folder is not None else None

    def find(self, digests: Sequence[bytes], at_least: int = 0) -> Prefix | None:
        """The entry that shares the longest beginning with `digests`; None where it is not above `at_least` tokens."""
        best, shared = max(((kept, common(kept, digests)) for kept in self._kept), key=lambda x: x[1], default=((), 0))
        if self.files is not None and (found := self.files.find(digests, max(at_least, self._tokens(best, shared)))):
            return Prefix(*found)
        if self._tokens(best, shared) <= at_least:
            return None
        self._kept.move_to_end(best)
        return Prefix(shared, self._tokens(best, shared), self._kept[best][1])

    def has(self, digests: Sequence[bytes]) -> bool:
        """Whether an entry holds all of `digests`, in memory or on disk."""
        if any(common(kept, digests) == len(digests) for kept in self._kept):
            return True
        return self.files is not None and self.files.has(digests)

    def keep(self, digests: Sequence[bytes], n_tokens: Sequence[int], state: Buffer) -> None:
        """Keep a state; entries that it extends are dropped. Never fails: what can't be kept is evaluated again.

        What the disk can't take is kept in memory, so that a full disk costs no more than the next process's time.

        Args:
            digests: Of its cuts.
            n_tokens: Tokens up to each cut, the last being all that the state holds.
            state: The state.
        """
        if self.files is not None and self.files.write(digests, n_tokens, state):
            return  # mapped from there: the system keeps it in memory while there is room
        if len(state) > self._limit:
            return  # or it would displace all others and then itself
        for kept in [kept for kept in self._kept if common(kept, digests) == len(kept)]:
            del self._kept[kept]
        self._kept[tuple(digests)] = tuple(n_tokens), state
        while sum(len(state) for _, state in self._kept.values()) > self._limit:
            self._kept.popitem(last=False)

    def _tokens(self, kept: tuple[bytes, ...], n_cuts: int) -> int:
        return self._kept[kept][0][n_cuts - 1] if n_cuts else 0
