"""Drawing by Transformers: the model that is trained draws itself, in NF4, on a GPU or a CPU, of any architecture.

Reasoning and answer are drawn in two batched calls of `generate` (`generating.py`). The runtime's own `Phase` decides
where each ends, so a completion is what llama.cpp's engine would make of the same tokens. Log-probabilities are the
policy's at temperature 1, in float32. The penalty of dev answers is llama.cpp's, not Transformers'.

vLLM is not used: TRL's `use_vllm` draws a completion in one call, in which reasoning gets no budget of its own and the
tags of the forced format would count as drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prlm_edge.errors import PrlmError
from prlm_edge.train import base
from prlm_edge.train.config import Recipe
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.generating import Evaluated, Writing, drawing
from prlm_edge.train.grpo.rollout import rollout_of, seeded
from prlm_edge.train.types import Ask, Rollout
from prlm_edge.types import Cancel, Request, Sampling

_ROWS = 4  # times the micro-batch of training at a time: without gradients a row takes far less memory


class HfDrawer:
    """A `rollout.Drawer` that draws with the policy itself.

    Args:
        recipe: Resolved.
        source: Its base as a Hugging Face folder, for `load_folder`.
        tokens: The base's tokenizer.
    """

    def __init__(self, recipe: Recipe, source: Path, tokens: Tokens) -> None:
        self._recipe, self._source, self._tokens = recipe, source, tokens
        self._policy: Any = None

    def close(self) -> None:
        """Let go of the model. Idempotent."""
        self._policy = None

    def load(self, policy: Any) -> None:
        """Draw with a PeftModel as it is at each draw."""
        self._policy = policy

    def load_folder(self, adapter: Path) -> None:
        """Draw with the base and the adapter in a folder."""
        self._policy = base.resume_adapter(base.load_model(self._source, self._recipe.base), adapter)

    def draw(self, asks: Sequence[Ask], salt: str, cancel: Cancel | None = None) -> list[Rollout]:
        """See `Drawer.draw`."""
        return self._write(asks, seeded(asks, self._recipe.seed, salt), cancel)

    def best(self, asks: Sequence[Ask], sampling: Sampling, cancel: Cancel | None = None) -> list[Rollout]:
        """See `Drawer.best`; top-k, top-p and min-p of `sampling` are not applied."""
        return self._write(asks, [replace(one.request, sampling=sampling) for one in asks], cancel)

    def _write(self, asks: Sequence[Ask], requests: Sequence[Request], cancel: Cancel | None) -> list[Rollout]:
        rows = [Writing(ask.ids, request, self._tokens) for ask, request in zip(asks, requests, strict=True)]
        at_once = _ROWS * self._recipe.grpo.micro_batch
        ordered = sorted(rows, key=lambda row: len(row.prompt))  # less padding
        with drawing(self._policy, mixed=base.autocasts(self._recipe.base)) as model:
            for start in range(0, len(rows), at_once):
                some = ordered[start : start + at_once]
                evaluated = Evaluated(model, [row.prompt for row in some])
                for _ in ("reasoning", "answer"):
                    evaluated.write(some, penalty=requests[0].sampling.repeat_penalty, cancel=cancel)
                    for row in some:
                        row.next_phase()
                if cancel is not None and cancel.cancelled:
                    raise PrlmError("stopped", "the same command goes on")
        return [rollout_of(ask, row.reply, self._tokens) for ask, row in zip(asks, rows, strict=True)]
