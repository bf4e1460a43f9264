"""The context that prompts are evaluated in: one slot, which keeps what it shares with the next prompt.

llama.cpp's prompts are always in cells 0, 1, 2, ...: attention adds up cell by cell, so other places round differently.
A single request is decoded here too; a batch takes the evaluated state elsewhere (`batch.py`).
"""

from __future__ import annotations

from bisect import bisect_right

from prlm_edge.backends.engine.slots import Slots
from prlm_edge.types import Cancel, TokenizedPrompt


class Context:
    """Evaluates one prompt after the other.

    Args:
        slots: A single slot, for this alone; closed with it.

    Attributes:
        slots: The same.
        prompt: The prompt it was last given.
        n_cuts: How many cuts of it are evaluated and held.
        fresh: Whether the latest call was the last of that prompt, so that its logits are there.
    """

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.prompt: TokenizedPrompt | None = None
        self.n_cuts = 0
        self.fresh = False

    @property
    def n_cells(self) -> int:
        """Tokens that fit."""
        return self.slots.n_cells

    @property
    def evaluated(self) -> bool:
        """Whether its whole prompt is evaluated."""
        return self.prompt is not None and self.n_cuts == len(self.prompt.cuts)

    def close(self) -> None:
        """Free the slot. Idempotent."""
        self.slots.close()

    def shares(self, prompt: TokenizedPrompt) -> int:
        """How many cuts of `prompt` are held, evaluated as they would be for it."""
        return prompt.shared(self.prompt.digests[: self.n_cuts]) if self.prompt else 0

    def begin(self, prompt: TokenizedPrompt) -> int:
        """Keep what is shared with `prompt`, all of it where its logits are still there; returns tokens kept."""
        shared = self.shares(prompt)
        if shared == len(prompt.cuts) and not (self.fresh and self.slots.lengths[0] == len(prompt.tokens)):
            shared -= 1  # the logits are gone: the last call is made again
        kept = self.roll_back(prompt.cuts[shared - 1] if shared else 0)
        self.prompt, self.n_cuts = prompt, shared if kept else 0
        return kept

    def resume(self, prompt: TokenizedPrompt, n_cuts: int, state: bytes | bytearray | memoryview) -> None:
        """Take the first `n_cuts` cuts of `prompt` from a saved state, which may hold more, unless it is refused."""
        n_tokens = prompt.cuts[n_cuts - 1]
        self.roll_back(0)
        if self.slots.restore(state, n_tokens):
            self.prompt, self.n_cuts = prompt, n_cuts

    def evaluate(self, cancel: Cancel | None = None) -> int:
        """Evaluate the prompt's next call, up to its next cut; returns how many of its tokens are then done.

        Raises:
            Cancelled: `cancel` was set; what is held ends at a cut.
            ModelError: The evaluation failed.
        """
        assert self.prompt is not None
        end = self.prompt.cuts[self.n_cuts]
        self.fresh = False
        self.slots.append([(0, self.prompt.tokens[self.slots.lengths[0] : end])], cancel)
        self.n_cuts += 1
        self.fresh = self.evaluated
        return end

    def roll_back(self, n_tokens: int) -> int:
        """Forget everything after the first `n_tokens`; returns how many are kept: 0 where a model can't do that."""
        if n_tokens < self.slots.lengths[0]:
            self.fresh = False
            n_tokens = self.slots.truncate(0, n_tokens)
            cuts = self.prompt.cuts if self.prompt else ()
            self.n_cuts = bisect_right(cuts, n_tokens, hi=self.n_cuts)
        return n_tokens
