"""Slots in memory of ours, evaluated by ONNX Runtime.

Each sequence has a row of its own in the cache; rows in use are side by side, so that sequences that bring one token
each are evaluated in one call.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prlm_edge.backends.onnx.session import Session
from prlm_edge.errors import ModelError
from prlm_edge.types import Cancel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_More = Sequence[tuple[int, Sequence[int]]]


class OnnxSlots:
    """See `Slots`. Each slot has cells of its own.

    Args:
        session: The loaded graph.
        n_cells: Tokens that each slot may hold.
        n_slots: Slots.
    """

    def __init__(self, session: Session, n_cells: int, n_slots: int = 1) -> None:
        self.n_cells = n_cells
        self.lengths = [0] * n_slots
        self._session = session
        self._buffers: list[NDArray[Any]] = session.buffers(n_slots, n_cells)
        self._rows: list[int] = []  # the slot of each row in use
        self._bindings: dict[tuple[int, int], Any] = {}
        self._logits: list[NDArray[np.float32]] = []  # of each pair of the latest call

    def close(self) -> None:
        """Free the memory. Idempotent."""
        self._bindings.clear()
        self._buffers = []
        self.clear()

    def append(self, more: _More, cancel: Cancel | None = None) -> list[int]:
        """See `Slots`: a call of ONNX Runtime for each pair of several tokens, and one for all others together."""
        if any(self.lengths[slot] + len(tokens) > self.n_cells for slot, tokens in more):
            raise ModelError("a sequence is longer than its slot", "report this")
        for slot, _ in more:
            if slot not in self._rows:
                self._rows.append(slot)
        found: dict[int, NDArray[np.float32]] = {}
        for call in self._calls(more):
            found |= self._call(call, cancel)
        self._logits = [found[slot] for slot, _ in more]
        return list(range(len(more)))

    def logits(self, row: int = -1) -> NDArray[np.float32]:
        """See `Slots`."""
        return self._logits[row]

    def truncate(self, slot: int, n_tokens: int = 0) -> int:
        """See `Slots`."""
        self.lengths[slot] = min(n_tokens, self.lengths[slot])
        if self.lengths[slot] == 0 and slot in self._rows:
            at, last = self._rows.index(slot), self._rows.pop()
            if last != slot:  # the last row moves into the gap
                self._rows[at] = last
                self._copy(len(self._rows), at, self.lengths[last])
        return self.lengths[slot]

    def share(self, source: int, slot: int, n_tokens: int) -> None:
        """See `Slots`; the tokens are copied."""
        self._rows.append(slot)
        self._copy(self._rows.index(source), len(self._rows) - 1, n_tokens)
        self.lengths[slot] = n_tokens

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self._logits = []
        self.lengths = [0] * len(self.lengths)

    def save(self, slot: int = 0) -> bytearray:
        """See `Slots`; for slots of the same model."""
        n_tokens = self.lengths[slot]
        state = bytearray(n_tokens * self._session.cell_bytes)
        if n_tokens:
            row = self._rows.index(slot)
            for buffer, part in zip(self._buffers, self._parts(state), strict=True):
                part[:] = buffer[row, :, :n_tokens]
        return state

    def restore(self, state: bytes | bytearray | memoryview, n_tokens: int, slot: int = 0) -> bool:
        """See `Slots`."""
        self.truncate(slot)
        n_saved, rest = divmod(len(state), self._session.cell_bytes)
        if rest or not 0 < n_tokens <= min(n_saved, self.n_cells):
            return False
        self._rows.append(slot)
        for buffer, part in zip(self._buffers, self._parts(state), strict=True):
            buffer[len(self._rows) - 1, :, :n_tokens] = part[:, :n_tokens]
        self.lengths[slot] = n_tokens
        return True

    def fits(self, n_new: int, n_all: int, n_promised: int) -> bool:
        """See `Slots`."""
        return n_all <= self.n_cells

    def _calls(self, more: _More) -> Sequence[_More]:
        """`more` in calls of equally many tokens, whose rows lie side by side."""
        single = sorted((pair for pair in more if len(pair[1]) == 1), key=lambda pair: self._rows.index(pair[0]))
        places = itertools.groupby(enumerate(single), lambda one: self._rows.index(one[1][0]) - one[0])
        return [[pair] for pair in more if len(pair[1]) > 1] + [[pair for _, pair in some] for _, some in places]

    def _call(self, more: _More, cancel: Cancel | None) -> dict[int, NDArray[np.float32]]:
        """Evaluate as many tokens for each slot; gives their last tokens' logits by slot."""
        import numpy as np

        where = self._rows.index(more[0][0]), len(more)
        binding = self._bindings.get(where)
        if binding is None:
            binding = self._bindings[where] = self._session.bind(self._buffers, *where)
        tokens = np.array([tokens for _, tokens in more], np.int64)
        logits = self._session.run(binding, tokens, [self.lengths[slot] for slot, _ in more], cancel)
        for slot, new in more:
            self.lengths[slot] += len(new)
        return {slot: said for (slot, _), said in zip(more, logits, strict=True)}

    def _copy(self, source: int, target: int, n_tokens: int) -> None:
        for buffer in self._buffers:
            buffer[target, :, :n_tokens] = buffer[source, :, :n_tokens]

    def _parts(self, state: bytes | bytearray | memoryview) -> NDArray[Any]:
        import numpy as np

        model = self._session.model
        shape = (2 * model.n_layers, model.n_kv_heads, -1, model.head_size)
        return np.frombuffer(state, self._session.dtype).reshape(shape)
