"""Drawing by llama.cpp: the runtime's own batched engine with the policy's adapter over it, for training on a CPU.

The policy's adapter is handed over as a GGUF file before each draw. llama.cpp and PyTorch differ a little (quantized
base, other kernels), so GRPO's ratio is taken against the engine's own log-probabilities, which corrects it. The
engine needs the trained weights as a GGUF file; for all else there is `rollout_hf.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.errors import PrlmError
from prlm_edge.gguf.lora import write_lora_gguf
from prlm_edge.train import base
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.rollout import rollout_of, seeded
from prlm_edge.train.types import Ask, Rollout
from prlm_edge.types import Cancel, Request, Sampling
from prlm_edge.writer import Reply

_SLOTS = 32  # sequences at a time; a group shares its prompt


class LlamaDrawer:
    """A `rollout.Drawer` that draws with llama.cpp.

    Args:
        model: GGUF file of the base.
        model_config: The base's config.json.
        folder: For the adapter's file.
        tokens: The base's tokenizer.
        n_ctx: Tokens of prompt and answer at most.
        seed: Of all draws.

    Raises:
        PrlmError: llama.cpp tokenizes differently from the trainer.
    """

    def __init__(
        self, model: Path, model_config: Mapping[str, Any], folder: Path, tokens: Tokens, *, n_ctx: int, seed: int
    ) -> None:
        self._engine = LlamaCpp(model, n_ctx=n_ctx, prefix_cache="off", max_slots=_SLOTS)
        self._config, self._folder, self._tokens, self._seed = model_config, folder, tokens, seed
        try:
            base.check_same_vocabulary(tokens, self._engine.tokenize, "llama.cpp")
        except PrlmError:
            self.close()
            raise

    def close(self) -> None:
        """Free the model. Idempotent."""
        self._engine.close()

    def load(self, policy: Any) -> None:
        """Draw with the adapter of a PeftModel as it is now."""
        work = self._folder / "policy"
        shutil.rmtree(work, ignore_errors=True)
        policy.save_pretrained(work)
        self._take(work)

    def load_folder(self, adapter: Path) -> None:
        """Draw with the adapter in a folder."""
        base.check_adapter(adapter, self._tokens)
        self._take(adapter)

    def draw(self, asks: Sequence[Ask], salt: str, cancel: Cancel | None = None) -> list[Rollout]:
        """See `Drawer.draw`."""
        return self._write(asks, seeded(asks, self._seed, salt), cancel)

    def best(self, asks: Sequence[Ask], sampling: Sampling, cancel: Cancel | None = None) -> list[Rollout]:
        """See `Drawer.best`."""
        return self._write(asks, [replace(one.request, sampling=sampling, logprobs=False) for one in asks], cancel)

    def _take(self, adapter: Path) -> None:
        write_lora_gguf(adapter, self._config, self._folder / "policy.gguf")
        self._engine.set_adapter(self._folder / "policy.gguf")

    def _write(self, asks: Sequence[Ask], requests: Sequence[Request], cancel: Cancel | None) -> list[Rollout]:
        replies = [Reply(request) for request in requests]
        for place, event in self._engine.stream_many(requests, cancel):
            replies[place].take(event)
        if any(reply.cancelled for reply in replies):
            raise PrlmError("stopped", "the same command goes on")
        return [rollout_of(ask, reply, self._tokens) for ask, reply in zip(asks, replies, strict=True)]
