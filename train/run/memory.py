"""How much memory a step will take, estimated before the first one, and the knob to turn where there is too little.

The estimate is of the largest step: weights, adapter with AdamW's two moments, activations of the longest micro-batch,
and logits of its labelled tokens.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prlm_edge import cpu
from prlm_edge.errors import PrlmError
from prlm_edge.train.config import Recipe

_BYTES = {"fp32": 4.0, "bf16": 2.0, "nf4": 0.55}
# Activations a token and layer, in hidden sizes and in sizes of the feed-forward layer: SmolLM2-135M in bf16 kept 44
# hidden sizes in all (4 x 512 tokens: 3.3 GB), here with a margin; with checkpointing a layer's input and one layer at
# work, which is an estimate.
_KEPT, _KEPT_INNER, _KEPT_CHECKPOINTED = 32.0, 6.0, 4.0
_RUNTIME = 0.9e9  # PyTorch, Transformers and the data
# What the C library's heap keeps of other micro-batches, although `give_back` returns what it can:
# Qwen2.5-Coder-0.5B took 10.1 GB after 60 steps of up to 2 x 1,020 tokens (16.8 without it). A GPU's allocator
# uses its blocks again.
_KEPT_BY_HEAP = 1.5


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step takes, by their use."""

    weights: float
    adapter: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """All of it, the runtime included."""
        return self.weights + self.adapter + self.activations + self.logits + _RUNTIME

    def say(self) -> str:
        """One line for people."""
        parts = ", ".join(f"{name} {n / 1e9:.1f}" for name, n in asdict(self).items())
        return f"{self.total / 1e9:.1f} GB ({parts})"


def estimate(config: dict[str, Any], recipe: Recipe, longest: int) -> StepMemory:
    """The memory of a step.

    Args:
        config: The model's config.json.
        recipe: Resolved.
        longest: Tokens of the longest example.
    """
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    inner, vocab = int(config["intermediate_size"]), int(config["vocab_size"])
    n_linear = layers * (4 * hidden * hidden + 3 * hidden * inner)
    width = 4.0 if recipe.base.precision == "fp32" else 2.0
    n_adapter = recipe.lora.r * layers * (8 * hidden + 3 * (hidden + inner))
    tokens = min(recipe.warmstart.micro_batch, recipe.warmstart.batch) * longest
    kept = _KEPT_CHECKPOINTED if recipe.base.checkpointing else _KEPT + _KEPT_INNER * inner / hidden
    return StepMemory(
        weights=n_linear * _BYTES[recipe.base.precision] + vocab * hidden * width,
        adapter=n_adapter * 4 * 4.0,  # weight, gradient and two moments
        activations=tokens * hidden * layers * kept * width * (1.0 if _on_gpu() else _KEPT_BY_HEAP),
        logits=tokens / 8 * vocab * 4 * 3.0,  # an eighth of a prompt is labelled at most; logits, softmax, gradient
    )


def check(folder: Path, recipe: Recipe, longest: int) -> StepMemory:
    """Refuse a run whose steps will not fit into memory.

    Raises:
        PrlmError: More memory is needed than there is; the hint names the knob that helps most.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    needed, there = estimate(config, recipe, longest), available()
    if there is not None and needed.total > there:
        raise PrlmError(
            f"a step needs about {needed.say()}, and {there / 1e9:.1f} GB are free",
            _knob(needed, recipe),
        )
    return needed


def give_back() -> None:
    """Return freed memory to the system; glibc keeps it, and batches of ever other lengths make ever more of it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def fitting(knob: str, value: int) -> Iterator[None]:
    """Says what to turn down where the GPU's memory runs out in the block.

    Args:
        knob: A key of the recipe, such as "grpo.micro_batch".
        value: What it is now.

    Raises:
        PrlmError: The memory ran out; checkpoints there are stay.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        less = f"--set {knob}={value // 2}" if value > 1 else "--set data.max_tokens=512"
        hint = f"{less} and a new --out, or end what else runs on it"
        raise PrlmError("the GPU's memory is full", hint) from None


def available() -> int | None:
    """Free bytes of the GPU where there is one, else of the machine or its container; None where that is unknown."""
    if _on_gpu():
        import torch

        return int(torch.cuda.mem_get_info()[0])
    found = cpu.memory()
    return None if found is None else found[1]


def _on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _knob(needed: StepMemory, recipe: Recipe) -> str:
    if max(needed.activations, needed.logits) < needed.weights:
        return "--qlora" if recipe.base.precision != "nf4" else "train a smaller model"
    if recipe.warmstart.micro_batch > 1:
        return f"--set warmstart.micro_batch={max(1, recipe.warmstart.micro_batch // 2)}"
    if not recipe.base.checkpointing:
        return "--set base.checkpointing=true"
    return f"--set data.max_tokens={recipe.data.max_tokens // 2}"
