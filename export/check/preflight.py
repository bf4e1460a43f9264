"""Can this adapter be exported at all? Checked before any work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA, ModelError, UsageError
from prlm_edge.export.gguf import model as gguf
from prlm_edge.export.gguf import tokenizer as gguf_tokenizer
from prlm_edge.gguf.lora import FORM
from prlm_edge.models.store import hash_file, require_space
from prlm_edge.storage import fits, private_dir, writing

#: What says how texts and turns become tokens; training may write its copies of the other files otherwise.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja")
#: What a merge can't hold; a LoRA-GGUF holds less (`prlm_edge.gguf.lora`).
_REFUSED = ("modules_to_save", "trainable_token_indices", "layer_replication")
_SIZES = {"f16": 1.0, "f32": 2.0, "q8_0": 0.54, "q5_k_m": 0.4, "q4_k_m": 0.36, "q4_0": 0.36, "int8": 0.6, "int4": 0.5}
_HINT = "name a training run's adapter"


def check(adapter: Path, base: Path, out: Path | None = None, quants: tuple[str, ...] = ("f16",)) -> None:
    """Refuse what can't be exported.

    Args:
        adapter: Folder of the PEFT adapter.
        base: The base's Hugging Face folder.
        out: Where the files are to go; None leaves the disk alone.
        quants: The formats that will be written there, the merged f16 folder not counted.

    Raises:
        ModelError: An architecture, tokenizer or adapter that can't be exported; no chat template; no end of turn.
        UsageError: The adapter doesn't fit the base, or its tokenizer is another.
        PrlmError: Not enough disk space.
    """
    config = gguf.read_config(base)
    check_adapter(adapter, config)
    check_tokenizer(adapter, base)
    tokenizer = gguf_tokenizer.load(base)
    gguf_tokenizer.pre_name(gguf_tokenizer.described(tokenizer))
    gguf_tokenizer.chat_template(base, tokenizer)
    gguf_tokenizer.ends(base, tokenizer)
    if out is not None:
        with writing(out):
            require_space(private_dir(out), needed_bytes(config, quants))


def check_adapter(adapter: Path, config: Mapping[str, Any]) -> None:
    """Check that the adapter can be merged into a base of this config.json: its kind, and the shapes of its layers."""
    from safetensors import SafetensorError, safe_open

    try:
        said = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
        if not fits(said, FORM):
            raise ValueError("adapter_config.json holds odd values")
        with safe_open(adapter / "adapter_model.safetensors", "np") as tensors:
            shapes = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UsageError(f"{adapter}: no adapter in it", _HINT) from None
    except (OSError, SafetensorError, *BAD_DATA) as error:
        raise ModelError(f"{adapter}: a damaged adapter: {' '.join(str(error).split())[:120]}", _HINT) from None
    wrong = [key for key in _REFUSED if said.get(key)]
    if said.get("peft_type") != "LORA" or wrong or said.get("bias", "none") != "none":
        what = ", ".join(wrong) or f"type {said.get('peft_type')}, bias {said.get('bias')}"
        raise ModelError(f"{adapter}: can't be exported ({what})", "train plain LoRA")
    wanted = _layer_shapes(config)
    for key, shape in shapes.items():
        layer, _, side = key.removesuffix(".weight").removeprefix("base_model.model.").partition(".lora_")
        if side not in ("A", "B"):
            continue  # DoRA's magnitudes, which PEFT merges
        inputs_outputs = wanted.get(layer)
        if inputs_outputs is None or shape[1 if side == "A" else 0] != inputs_outputs[0 if side == "A" else 1]:
            raise UsageError(f"{adapter}: does not fit this base: {layer}", "give it the base it was trained on")


def _layer_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of each linear layer of a llama, qwen2 or qwen3 model."""
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or hidden // heads)
    queries, keys = heads * head, int(config.get("num_key_value_heads") or heads) * head
    of_a_block = {
        "self_attn.q_proj": (hidden, queries),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (queries, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    blocks = range(int(config["num_hidden_layers"]))
    return {f"model.layers.{n}.{name}": sizes for n in blocks for name, sizes in of_a_block.items()}


def check_tokenizer(adapter: Path, base: Path) -> None:
    """Check that tokenizer files in the adapter's folder are the base's, byte for byte.

    Raises:
        UsageError: One differs; tokens learned by one tokenizer mean others in the other.
    """
    for name in _TOKENIZER_FILES:
        mine, theirs = adapter / name, base / name
        if mine.is_file() and theirs.is_file() and hash_file(mine) != hash_file(theirs):
            raise UsageError(
                f"{adapter}: its {name} is not the one of {base}", "give it the base it was trained on, unchanged"
            )


def needed_bytes(config: Mapping[str, Any], quants: tuple[str, ...]) -> int:
    """Bytes of the merged f16 folder, the f16 GGUF file and the files in `quants`."""
    n = sum(a * b for a, b in _layer_shapes(config).values())
    n += int(config["vocab_size"]) * int(config["hidden_size"]) * (1 if config["tie_word_embeddings"] else 2)
    return int(2 * n * (2.0 + sum(_SIZES.get(quant, 1.0) for quant in quants)))
