"""Prompt prefixes on disk, one kept file each, the least recently used going first.

A file's name comes from its last digest, its `about` has the cuts, its only section is the state. A state holds the
user's own writing in a form from which it can be read again: only its owner may read the file, and nothing is written
unless the user has chosen the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from prlm_edge.errors import PrlmError
from prlm_edge.storage.kept import Shelf

FORMAT = "prefix 1"


class PrefixFiles:
    """The files of one model key in `folder`, under a size cap for all keys.

    Attributes:
        problem: Why the last write failed; "" if it did not.
    """

    def __init__(self, folder: Path, key: str, max_bytes: int) -> None:
        self._shelf, self._key = Shelf(folder, FORMAT, max_bytes=max_bytes), key
        self.problem = ""

    def find(self, digests: Sequence[bytes], at_least: int) -> tuple[int, int, memoryview] | None:
        """(cuts shared, tokens up to there, state) of the file that shares most, if more than `at_least` tokens."""
        for n_tokens, n_cuts, _, name in sorted(self._matches(digests), reverse=True):
            if n_tokens <= at_least:
                return None
            # writable, since ctypes points into no read-only memory
            if (kept := self._shelf.open(name, self._key, writable=True)) is not None:
                return n_cuts, n_tokens, kept.sections["state"]
        return None

    def has(self, digests: Sequence[bytes]) -> bool:
        """Whether a file holds all of `digests`."""
        return any(n_cuts == len(digests) for _, n_cuts, _, _ in self._matches(digests))

    def write(self, digests: Sequence[bytes], n_tokens: Sequence[int], state: bytes | bytearray | memoryview) -> bool:
        """Keep a state; files that it extends are deleted. Returns whether it is kept; `problem` says why not."""
        self.problem = ""
        name = blake2b(bytes.fromhex(self._key) + digests[-1], digest_size=16).hexdigest()
        extended = [n for _, shared, n_cuts, n in self._matches(digests) if shared == n_cuts and n != name]
        self._shelf.tidy(keep=name)
        if len(state) > self._shelf.room():
            self.problem = f"a prompt prefix of {len(state) >> 20} MiB was not kept on disk: there is too little room"
            return False
        cuts = [(digest.hex(), n) for digest, n in zip(digests, n_tokens, strict=True)]
        try:
            self._shelf.write(name, self._key, {"cuts": cuts}, {"state": state})
        except PrlmError as error:
            self.problem = f"the prompt prefix could not be kept on disk: {error.message}"
            return False
        for old in extended:
            self._shelf.forget(old)
        return True

    def _matches(self, digests: Sequence[bytes]) -> Iterator[tuple[int, int, int, str]]:
        """(tokens shared, cuts shared, cuts in all, name) of the files of our key that share anything."""
        wanted = [digest.hex() for digest in digests]
        for name in self._shelf.names():
            if (kept := self._shelf.peek(name, self._key)) is not None:
                cuts = kept.about["cuts"]
                n_cuts = common(wanted, [digest for digest, _ in cuts])
                if n_cuts:
                    yield cuts[n_cuts - 1][1], n_cuts, len(cuts), name


def common(a: Sequence[object], b: Sequence[object]) -> int:
    """Length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
