"""What decoding asks of a model runtime: token sequences, one a slot, that it has evaluated and can go on from.

`llama/slots.py` implements it with llama.cpp, `onnx/slots.py` with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from prlm_edge.types import Cancel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Cancelled(Exception):
    """A call was broken off because `cancel` was set; never leaves the backends."""


class Slots(Protocol):
    """Evaluated token sequences, one a slot; slots are numbered from 0.

    Attributes:
        n_cells: Tokens that fit: into all slots together where they share memory, else into each.
        lengths: Tokens in each slot; 0 for a free one.
    """

    n_cells: int
    lengths: list[int]

    def append(self, more: Sequence[tuple[int, Sequence[int]]], cancel: Cancel | None = None) -> list[int]:
        """Evaluate tokens after those that their slots hold, in one call.

        Args:
            more: (slot, tokens) pairs.
            cancel: Breaks the call off once it is set.

        Returns:
            For each pair the row of its last token, as `logits` takes it.

        Raises:
            Cancelled: `cancel` was set; the slots hold what they held before.
            ModelError: The call failed; the slots hold what they held before.
        """
        ...

    def logits(self, row: int = -1) -> NDArray[np.float32]:
        """Logits at a row of the latest call, shape [vocabulary], valid until the next call; -1 is its last row."""
        ...

    def truncate(self, slot: int, n_tokens: int = 0) -> int:
        """Forget what a slot holds after its first `n_tokens`.

        Returns:
            How many it then holds: 0 where the model can't forget a part.
        """
        ...

    def share(self, source: int, slot: int, n_tokens: int) -> None:
        """Let a free slot begin with the first `n_tokens` of another."""
        ...

    def save(self, slot: int = 0) -> bytearray:
        """The state of a slot, for `restore`."""
        ...

    def restore(self, state: bytes | bytearray | memoryview, n_tokens: int, slot: int = 0) -> bool:
        """Put the first `n_tokens` of a saved state into a slot; False where it is refused (the slot is then empty)."""
        ...

    def fits(self, n_new: int, n_all: int, n_promised: int) -> bool:
        """Whether a free slot can take one more sequence; sequences are moved together where that makes the room.

        Args:
            n_new: Tokens that it may need besides those it shares with another slot.
            n_all: Tokens that it may need in all.
            n_promised: Tokens that the sequences in the other slots may still need.
        """
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...

    def close(self) -> None:
        """Free the memory. Idempotent."""
        ...
