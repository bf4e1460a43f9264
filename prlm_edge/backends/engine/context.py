"""The context that prompts are evaluated in: one sequence, which keeps what it shares with the next prompt.

With llama.cpp always in cells 0, 1, 2, ...: attention adds up cell by cell, so another place is another rounding. A
single stream goes on decoding here; batches take the evaluated state elsewhere (`batch.py`). Not here: what decoding
yields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prlm_edge.backends.engine.prompt_tokens import CHUNK
from prlm_edge.backends.engine.raw import Raw, Row
from prlm_edge.types import Cancel, TokenizedPrompt


class Context:
    """One sequence of at most `n_ctx` tokens.

    Args:
        raw: Evaluates it, and nothing else; closed with it.

    Attributes:
        n_ctx: Size in tokens.
        tokens: What the cache holds, position by position.
        prompt: The prompt it was last given; its first `n_cuts` cuts are in the cache.
    """

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.n_ctx = raw.n_ctx
        self.tokens: list[int] = []
        self.prompt: TokenizedPrompt | None = None
        self.n_cuts = 0
        self._fresh = False  # whether the latest logits are those of the whole prompt

    def close(self) -> None:
        """Free the context. Idempotent."""
        self.raw.close()

    def shares(self, prompt: TokenizedPrompt) -> int:
        """How many cuts of `prompt` are in the cache, evaluated as they would be for it."""
        return prompt.shared(self.prompt.digests[: self.n_cuts]) if self.prompt else 0

    def begin(self, prompt: TokenizedPrompt) -> int:
        """Keep what is shared with `prompt`, all of it where its logits are still there; returns tokens kept."""
        shared = self.shares(prompt)
        if shared == len(prompt.cuts) and not (self._fresh and len(self.tokens) == len(prompt.tokens)):
            shared -= 1  # the logits are gone: the last call is made again
        kept = self.roll_back(prompt.cuts[shared - 1] if shared else 0)
        self.prompt, self.n_cuts = prompt, shared if kept else 0
        return kept

    def resume(self, prompt: TokenizedPrompt, n_cuts: int, state: bytes | bytearray | memoryview) -> bool:
        """Take the first `n_cuts` cuts of `prompt` from a saved state, which may hold more; False if it is refused."""
        self.roll_back(0)
        n_tokens = prompt.cuts[n_cuts - 1]
        if not self.raw.restore(state):
            return False
        if not self.raw.remove(0, n_tokens):
            self.raw.clear()
            return False
        self.tokens = list(prompt.tokens[:n_tokens])
        self.prompt, self.n_cuts = prompt, n_cuts
        return True

    def evaluate(self, cancel: Cancel | None = None) -> Iterator[int]:
        """Evaluate what is missing of the prompt, cut by cut; yields how many of its tokens are done.

        Raises:
            Cancelled: `cancel` was set; the cache ends at a cut.
            ModelError: The evaluation failed.
        """
        prompt = self.prompt
        assert prompt is not None
        self.raw.watch(cancel)
        try:
            while self.n_cuts < len(prompt.cuts):
                end = prompt.cuts[self.n_cuts]
                self._extend(prompt.tokens[len(self.tokens) : end])
                self.n_cuts += 1
                self._fresh = self.n_cuts == len(prompt.cuts)
                yield end
        finally:
            self.raw.watch(None)

    def append(self, tokens: Sequence[int]) -> None:
        """Evaluate tokens behind the prompt; logits are of the last one."""
        for start in range(0, len(tokens), CHUNK):
            self._extend(tokens[start : start + CHUNK])

    def roll_back(self, n_tokens: int) -> int:
        """Forget everything behind the first `n_tokens`; returns how many were really kept (0 where a model can't)."""
        if n_tokens < len(self.tokens):
            self._fresh = False
            if not self.raw.remove(0, n_tokens):
                self.raw.clear()  # recurrent models can't forget a part
                n_tokens = 0
            del self.tokens[n_tokens:]
            cuts = self.prompt.cuts if self.prompt else ()
            self.n_cuts = sum(cut <= n_tokens for cut in cuts[: self.n_cuts])
        return n_tokens

    def _extend(self, tokens: Sequence[int]) -> None:
        start, last = len(self.tokens), len(tokens) - 1
        self._fresh = False
        self.raw.decode([Row(token, start + i, 0, i == last) for i, token in enumerate(tokens)])
        self.tokens.extend(tokens)
