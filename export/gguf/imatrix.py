"""The importance matrix: how strongly each input column of each linear layer is used, so that quantizing spares those.

A column's importance is the mean of x² over the tokens of real prompts, collected by hooks on the Hugging Face model
and named as llama.cpp names its tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge.errors import UsageError
from prlm_edge.gguf.names import name_map
from prlm_edge.storage import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Matrix = Mapping[str, "NDArray[np.float32]"]  # "blk.0.attn_q.weight" -> importance of each input column


def collect(model: Any, sequences: Iterable[Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """Run `sequences` of token ids through a Transformers causal LM and sum up the inputs of its linear layers.

    Args:
        model: Merged, not under an adapter.
        sequences: The training prompts' token ids.

    Raises:
        UsageError: There is no token in them.
        ModelError: An architecture that isn't exported.
    """
    import torch

    config = model.config.to_dict()
    names, sums = name_map(config), _Sums()
    head = "token_embd.weight" if config["tie_word_embeddings"] else "output.weight"
    model.eval()
    hooks = [
        layer.register_forward_pre_hook(sums.hook(f"{names.get_name(name)}.weight"))
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and name != "lm_head"
    ]
    try:
        with torch.no_grad():
            for ids in sequences:
                if len(ids):
                    tokens = torch.tensor([list(ids)], device=model.device)
                    said = model.base_model(tokens, use_cache=False).last_hidden_state
                    sums.add(head, said)  # what lm_head would read, without its logits
    finally:
        for hook in hooks:
            hook.remove()
    if not sums.totals:
        raise UsageError("no token sequences to learn importances from", "check the data")
    return {name: (total / sums.counts[name]).float().cpu().numpy() for name, total in sums.totals.items()}


class _Sums:
    """Sums of x² by tensor name, in float64."""

    def __init__(self) -> None:
        self.totals: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, x: Any) -> None:
        rows = x.detach().reshape(-1, x.shape[-1])
        squares = rows.double().square().sum(0)
        self.totals[name] = self.totals[name] + squares if name in self.totals else squares
        self.counts[name] = self.counts.get(name, 0) + len(rows)

    def hook(self, name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        return lambda _layer, inputs: self.add(name, inputs[0])


def save(path: Path, matrix: Matrix) -> None:
    """Write `matrix` to an .npz file, whole or not at all."""
    import numpy as np

    with atomic_write(path) as stream:
        tables: dict[str, Any] = dict(matrix)
        np.savez(stream, **tables)


def load(path: Path) -> Matrix:
    """The matrix in a file that `save` wrote."""
    import numpy as np

    with np.load(path, allow_pickle=False) as table:
        return dict(table)
