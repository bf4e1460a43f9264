"""What drives decoding asks of what computes: rows of tokens in, logits and sequences kept. Not here: who does either.

The drivers are `context.py` (one sequence) and `batch.py` (many); llama.cpp computes in `llama_raw.py`, ONNX Runtime in
`onnx_raw.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from prlm_edge.types import Cancel


class Cancelled(Exception):
    """Evaluation was broken off; internal to the backends."""


class Row(NamedTuple):
    """One token of a call: where it stands in which sequence, and whether its logits are wanted."""

    token: int
    position: int
    seq: int
    logits: bool


class Raw(Protocol):
    """Evaluates tokens behind what it holds of their sequences.

    Attributes:
        n_ctx: Tokens it holds.
    """

    n_ctx: int

    def decode(self, rows: Sequence[Row]) -> None:
        """Evaluate `rows` in one call; what a failed call may have left of them is removed.

        Raises:
            Cancelled: The `watch`ed flag was set.
            ModelError: It failed.
        """
        ...

    def watch(self, cancel: Cancel | None) -> None:
        """Break running calls off once `cancel` is set; None stops watching."""
        ...

    def remove(self, seq: int, start: int = 0) -> bool:
        """Forget the tokens of `seq` from position `start` on; False where the model can't forget a part."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...

    def save(self, seq: int = 0) -> bytearray:
        """The state of a sequence, for `restore`."""
        ...

    def restore(self, state: bytes | bytearray | memoryview, seq: int = 0) -> bool:
        """Replace a sequence by a saved one; False where that is refused (the sequence is then empty)."""
        ...

    def close(self) -> None:
        """Free what it holds. Idempotent."""
        ...


class Cells(Protocol):
    """What a batch is decoded in.

    Attributes:
        n_cells: Tokens that all slots together may hold, each token that slots share counted once.
        lengths: Tokens of each slot; 0 for a free one.
    """

    n_cells: int
    lengths: list[int]

    @property
    def raw(self) -> Raw:
        """Whose rows are sampled from."""
        ...

    @property
    def free(self) -> int:
        """Tokens that can be added now."""
        ...

    def place(self, slot: int, state: bytearray, n_tokens: int) -> None:
        """Put a saved sequence of `n_tokens` into a free slot."""
        ...

    def share(self, source: int, slot: int, n_tokens: int) -> None:
        """Let a free slot begin with the first `n_tokens` of another."""
        ...

    def decode(self, tokens: Sequence[tuple[int, Sequence[int]]]) -> list[int]:
        """Append (slot, tokens) pairs in one call; returns the row of each pair's last token, which has logits."""
        ...

    def bury(self, slot: int, n_kept: int = 0) -> None:
        """Forget what `slot` holds behind its first `n_kept` tokens."""
        ...

    def compact(self) -> None:
        """Make what was forgotten free."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...

    def close(self) -> None:
        """Free what it holds. Idempotent."""
        ...
