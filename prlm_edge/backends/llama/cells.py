"""The context that batches are decoded in: sequences that share what they can, in cells that never change order.

Attention adds up cell by cell, so a token that fell into a freed cell before its elders would round otherwise than in
a context of its own. Hence nothing is freed while sequences run: what is forgotten goes to a sequence that nobody
decodes, the grave, until all are moved (`compact`) or the batch is over. With that, batched logits are bit for bit
those of a single sequence, as long as that decodes on one thread (llama.cpp divides the attention of a lone token
among threads). Not here: which sequences run (`batch.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from prlm_edge.backends.engine.raw import Row
from prlm_edge.backends.llama.raw import RawContext, Threads, Weights
from prlm_edge.errors import ModelError

_ROWS = 48  # computed at a time: from 64 on llama.cpp's attention takes another path, which rounds otherwise
_MAX_PENDING = 64  # tokens a sequence may bring to one call; the tags between the phases are some ten


class Cells:
    """A context of `n_cells` for `n_slots` sequences.

    Attributes:
        raw: llama.cpp's context, whose rows are sampled from.
        lengths: Tokens of each slot; 0 for a free one.
    """

    def __init__(self, lib: ModuleType, weights: Weights, n_cells: int, n_slots: int, threads: Threads) -> None:
        rows = n_slots * _MAX_PENDING
        self.raw = RawContext(lib, weights, n_cells, threads, n_batch=rows, n_ubatch=_ROWS, n_seq=n_slots + 1)
        self.n_cells = self.raw.n_ctx
        self.lengths = [0] * n_slots
        self._grave = n_slots
        self._used = 0  # cells that hold anything, the grave's included

    def close(self) -> None:
        """Free the context. Idempotent."""
        self.raw.close()

    @property
    def free(self) -> int:
        """Cells that nothing was put in since the last `compact`."""
        return self.n_cells - self._used

    def place(self, slot: int, state: bytearray, n_tokens: int) -> None:
        """Put a saved sequence of `n_tokens` into a free slot."""
        if not self.raw.restore(state, slot):
            raise ModelError("llama.cpp refused a sequence that it had saved itself", "free memory and try again")
        self.lengths[slot] = n_tokens
        self._used += n_tokens

    def share(self, source: int, slot: int, n_tokens: int) -> None:
        """Let a free slot share the first `n_tokens` of another."""
        self.raw.copy(source, slot, 0, n_tokens)
        self.lengths[slot] = n_tokens

    def decode(self, tokens: Sequence[tuple[int, Sequence[int]]]) -> list[int]:
        """Append (slot, tokens) pairs in one call; returns the row of each pair's last token, whose logits are there.

        Raises:
            ModelError: llama.cpp failed.
        """
        rows: list[Row] = []
        ends = []
        for slot, more in tokens:
            start, last = self.lengths[slot], len(more) - 1
            rows += [Row(token, start + i, slot, i == last) for i, token in enumerate(more)]
            ends.append(len(rows) - 1)
        self.raw.decode(rows)
        for slot, more in tokens:
            self.lengths[slot] += len(more)
        self._used += len(rows)
        return ends

    def bury(self, slot: int, n_kept: int = 0) -> None:
        """Forget what `slot` holds behind its first `n_kept` tokens, without freeing a cell."""
        if n_kept < self.lengths[slot]:
            self.raw.copy(slot, self._grave, n_kept, -1)
            self.raw.remove(slot, n_kept)
            self.lengths[slot] = n_kept

    def compact(self) -> None:
        """Move all sequences together; what they shared they no longer share."""
        states = [(slot, self.raw.save(slot), n) for slot, n in enumerate(self.lengths) if n]
        self.clear()
        for slot, state, n_tokens in states:
            self.place(slot, state, n_tokens)

    def clear(self) -> None:
        """Forget everything."""
        self.raw.clear()
        self.lengths = [0] * len(self.lengths)
        self._used = 0
