"""What llama.cpp calls the tensors of a Hugging Face model, and in which order it keeps the rows of queries and keys.

Shared by what writes models (`export/gguf/model.py`), adapters (`lora.py`) and importance matrices (`imatrix.py`).
Needs neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prlm_edge.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: `model_type` in config.json -> the member of `gguf.MODEL_ARCH`.
ARCHITECTURES = {"llama": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
_WORDS = r"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # of cl100k
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#: llama.cpp's name of a way to split texts before merging -> its expression. "smollm" is the third that we know.
SPLITS = {
    "qwen2": _CONTRACTIONS + _WORDS.format(digits=r"\p{N}"),
    "llama-bpe": _CONTRACTIONS + _WORDS.format(digits=r"\p{N}{1,3}"),
}
WHOLE_WORDS = ("llama-bpe",)  # looks a whole word up before it merges, and begins prompts with a token of its own


def architecture(config: Mapping[str, Any]) -> str:
    """The model type of a config.json.

    Raises:
        ModelError: It is none that can be exported.
    """
    arch = str(config.get("model_type"))
    if arch not in ARCHITECTURES:
        raise ModelError(f"{arch} models can't be exported yet", f"supported are {', '.join(ARCHITECTURES)}")
    return arch


def name_map(config: Mapping[str, Any]) -> Any:
    """The `gguf.TensorNameMap` of a model: `get_name("model.layers.0.mlp.up_proj")` is "blk.0.ffn_up".

    Raises:
        ModelError: See `architecture`.
    """
    import gguf

    member = getattr(gguf.MODEL_ARCH, ARCHITECTURES[architecture(config)])
    return gguf.get_tensor_name_map(member, int(config["num_hidden_layers"]))


def rows_for_llama(module: str, rows: NDArray[Any], config: Mapping[str, Any]) -> NDArray[Any]:
    """The rows of a "llama" model's queries and keys as llama.cpp turns them; all else as it is.

    Hugging Face keeps the two halves that a rotation mixes one after the other in a head, llama.cpp in pairs. Other
    architectures are rotated in halves there too.

    Args:
        module: The layer's name, without ".weight" or ".bias".
        rows: Weight [rows, columns], or bias [rows].
        config: The model's config.json.
    """
    heads = _turned_heads(module, config)
    return rows if heads is None else _swapped(rows, heads, 2, len(rows) // heads // 2)


def rows_from_llama(module: str, rows: NDArray[Any], config: Mapping[str, Any]) -> NDArray[Any]:
    """The rows that `rows_for_llama` turned, in Hugging Face's order again."""
    heads = _turned_heads(module, config)
    return rows if heads is None else _swapped(rows, heads, len(rows) // heads // 2, 2)


def _turned_heads(module: str, config: Mapping[str, Any]) -> int | None:
    """How many heads the rows of a layer are of; None where llama.cpp keeps them in their order."""
    if config["model_type"] != "llama" or not module.endswith(("q_proj", "k_proj")):
        return None
    heads = int(config["num_attention_heads"])
    return int(config.get("num_key_value_heads") or heads) if module.endswith("k_proj") else heads


def _swapped(rows: NDArray[Any], *parts: int) -> NDArray[Any]:
    """`rows` as an array of the three axes `parts`, the last two swapped."""
    return rows.reshape(*parts, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
