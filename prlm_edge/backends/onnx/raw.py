"""Sequences in memory of ours, evaluated by ONNX Runtime: the counterpart of `llama_raw.py` and `llama_cells.py`.

Each sequence has a row of its own; rows in use lie side by side, so that sequences that bring one token each are
evaluated in one call. A row that several share is copied. Not here: the calls (`onnx_session.py`), what sequences mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prlm_edge.backends.engine.raw import Row
from prlm_edge.backends.onnx.session import Session
from prlm_edge.errors import ModelError
from prlm_edge.types import Cancel

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OnnxRaw:
    """See `raw.Raw`.

    Args:
        session: The loaded graph.
        n_ctx: Tokens that each sequence may have.
        n_seq: Sequences, numbered from 0.
    """

    def __init__(self, session: Session, n_ctx: int, n_seq: int = 1) -> None:
        self.n_ctx = n_ctx
        self._session, self._n_seq = session, n_seq
        self._buffers: list[NDArray[Any]] = session.buffers(n_seq, n_ctx)
        self._rows: list[int] = []  # the sequence of each row in use
        self._lengths: dict[int, int] = {}
        self._bindings: dict[tuple[int, int], Any] = {}
        self._logits: dict[int, NDArray[Any]] = {}
        self._cancel: Cancel | None = None

    def close(self) -> None:
        """Free the memory. Idempotent."""
        self._bindings.clear()
        self._buffers = []
        self.clear()

    def row(self, row: int = -1) -> NDArray[Any]:
        """Logits of a row of the latest call; -1 is its last one."""
        return self._logits[row]

    def decode(self, rows: Sequence[Row]) -> None:
        """See `raw.Raw`: each sequence's rows in order, logits of its last one."""
        calls: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            calls.setdefault(row.seq, []).append(place)
        for seq, places in calls.items():
            if rows[places[0]].position != self._length(seq) or self._length(seq) + len(places) > self.n_ctx:
                raise ModelError("a sequence was to go on where it doesn't end", "report this")
        self._logits.clear()
        for seq, places in calls.items():
            if len(places) > 1:
                self._call([seq], rows, [places])
        single = [seq for seq, places in calls.items() if len(places) == 1]
        for group in self._side_by_side(single):
            self._call(group, rows, [calls[seq] for seq in group])
        self._logits[-1] = self._logits[len(rows) - 1]

    def watch(self, cancel: Cancel | None) -> None:
        """Break running calls off once `cancel` is set; None stops watching."""
        self._cancel = cancel

    def remove(self, seq: int, start: int = 0) -> bool:
        """Forget the tokens of `seq` from position `start` on."""
        if start > 0:
            if seq in self._lengths:
                self._lengths[seq] = min(start, self._lengths[seq])
        elif seq in self._lengths:
            at, last = self._rows.index(seq), self._rows.pop()
            del self._lengths[seq]
            if last != seq:  # the last row moves into the gap
                self._rows[at] = last
                self._copy(len(self._rows), at, self._lengths[last])
        return True

    def copy(self, source: int, target: int, n_tokens: int) -> None:
        """Let the empty sequence `target` begin with the first `n_tokens` of `source`."""
        self._copy(self._rows.index(source), self._add(target), n_tokens)
        self._lengths[target] = n_tokens

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self._lengths.clear()
        self._logits.clear()

    def save(self, seq: int = 0) -> bytearray:
        """The state of a sequence, for `restore` with the same model."""
        n_tokens = self._length(seq)
        state = bytearray(n_tokens * self._session.cell_bytes)
        if n_tokens:
            row = self._rows.index(seq)
            for buffer, part in zip(self._buffers, self._parts(state, n_tokens), strict=True):
                part[:] = buffer[row, :, :n_tokens]
        return state

    def restore(self, state: bytes | bytearray | memoryview, seq: int = 0) -> bool:
        """Replace a sequence by a saved one; False where it is none (the sequence is then empty)."""
        self.remove(seq)
        n_tokens, rest = divmod(len(state), self._session.cell_bytes)
        if rest or not 0 < n_tokens <= self.n_ctx:
            return False
        row = self._add(seq)
        for buffer, part in zip(self._buffers, self._parts(state, n_tokens), strict=True):
            buffer[row, :, :n_tokens] = part
        self._lengths[seq] = n_tokens
        return True

    def _call(self, seqs: list[int], rows: Sequence[Row], places: Sequence[Sequence[int]]) -> None:
        import numpy as np

        first = self._row_of(seqs[0])
        tokens = np.array([[rows[place].token for place in one] for one in places], np.int64)
        binding = self._bindings.get((first, len(seqs)))
        if binding is None:
            binding = self._bindings[first, len(seqs)] = self._session.bind(self._buffers, first, len(seqs))
        lengths = [self._length(seq) for seq in seqs]
        logits = self._session.run(binding, tokens, lengths, self._cancel)
        for seq, one, said in zip(seqs, places, logits, strict=True):
            self._lengths[seq] += len(one)
            self._logits[one[-1]] = said

    def _side_by_side(self, seqs: Sequence[int]) -> Iterator[list[int]]:
        """`seqs` in groups whose rows lie side by side."""
        for seq in seqs:
            self._row_of(seq)
        ordered = sorted(seqs, key=self._rows.index)
        for _, group in itertools.groupby(enumerate(ordered), lambda pair: self._rows.index(pair[1]) - pair[0]):
            yield [seq for _, seq in group]

    def _row_of(self, seq: int) -> int:
        return self._rows.index(seq) if seq in self._lengths else self._add(seq)

    def _add(self, seq: int) -> int:
        """A row for an empty sequence."""
        assert seq not in self._lengths and len(self._rows) < self._n_seq
        self._rows.append(seq)
        self._lengths[seq] = 0
        return len(self._rows) - 1

    def _length(self, seq: int) -> int:
        return self._lengths.get(seq, 0)

    def _copy(self, source: int, target: int, n_tokens: int) -> None:
        for buffer in self._buffers:
            buffer[target, :, :n_tokens] = buffer[source, :, :n_tokens]

    def _parts(self, state: bytes | bytearray | memoryview, n_tokens: int) -> NDArray[Any]:
        import numpy as np

        model = self._session.model
        shape = (2 * model.n_layers, model.n_kv_heads, n_tokens, model.head_size)
        return np.frombuffer(state, self._session.dtype).reshape(shape)


class OnnxCells:
    """See `raw.Cells`: a row for each slot, with room for all that any of them may need.

    Args:
        session: The loaded graph.
        n_cells: Tokens that a slot may hold.
        n_slots: Slots.
    """

    def __init__(self, session: Session, n_cells: int, n_slots: int) -> None:
        self.raw = OnnxRaw(session, n_cells, n_slots)
        self.n_cells = n_cells
        self.lengths = [0] * n_slots

    @property
    def free(self) -> int:
        """Every slot has room of its own."""
        return self.n_cells

    def place(self, slot: int, state: bytearray, n_tokens: int) -> None:
        """Put a saved sequence of `n_tokens` into a free slot."""
        if not self.raw.restore(state, slot):
            raise ModelError("an evaluated prompt does not fit into its batch", "free memory and try again")
        self.lengths[slot] = n_tokens

    def share(self, source: int, slot: int, n_tokens: int) -> None:
        """Let a free slot begin with the first `n_tokens` of another."""
        self.raw.copy(source, slot, n_tokens)
        self.lengths[slot] = n_tokens

    def decode(self, tokens: Sequence[tuple[int, Sequence[int]]]) -> list[int]:
        """Append (slot, tokens) pairs; returns the row of each pair's last token."""
        rows: list[Row] = []
        ends = []
        for slot, more in tokens:
            start = self.lengths[slot]
            rows += [Row(token, start + i, slot, i == len(more) - 1) for i, token in enumerate(more)]
            ends.append(len(rows) - 1)
        self.raw.decode(rows)
        for slot, more in tokens:
            self.lengths[slot] += len(more)
        return ends

    def bury(self, slot: int, n_kept: int = 0) -> None:
        """Forget what `slot` holds behind its first `n_kept` tokens."""
        self.raw.remove(slot, n_kept)
        self.lengths[slot] = min(n_kept, self.lengths[slot])

    def compact(self) -> None:
        """Nothing to do: what is forgotten is free at once."""

    def clear(self) -> None:
        """Forget everything."""
        self.raw.clear()
        self.lengths = [0] * len(self.lengths)

    def close(self) -> None:
        """Free the memory. Idempotent."""
        self.raw.close()
