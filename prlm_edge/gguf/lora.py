"""A trained LoRA adapter as a GGUF file that llama.cpp loads over its base, and back as a folder that PEFT loads.

Written with the `gguf` package alone. For "llama" the rows of B of queries and keys are turned to llama.cpp's order
(`names.py`). DoRA, adapted embeddings and biases are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prlm_edge.errors import BAD_DATA, ModelError
from prlm_edge.gguf.file import new_file, write_tensors
from prlm_edge.gguf.header import REASONS, TASKS
from prlm_edge.gguf.merge import read_lora
from prlm_edge.gguf.names import architecture, name_map, rows_for_llama, rows_from_llama
from prlm_edge.storage import NUMBER, fits, new_folder, write_json

FORM = {"peft_type": str, "r": int, "lora_alpha": NUMBER}  # of an adapter_config.json; there is more in it
_LINEAR = (
    *(f"self_attn.{side}_proj" for side in "qkvo"),
    *(f"mlp.{side}_proj" for side in ("gate", "up", "down")),
)
_NAME = re.compile(r"^base_model\.model\.(.+)\.lora_([AB])(?:\.[^.]+)?\.weight$")


def write_lora_gguf(
    adapter: Path,
    model_config: Mapping[str, Any],
    target: Path,
    *,
    reasons: bool | None = None,
    tasks: Sequence[str] = (),
    dtype: Literal["f16", "f32"] = "f32",
) -> int:
    """Convert the PEFT adapter in folder `adapter`; `target` appears whole or not at all.

    Args:
        adapter: With adapter_config.json and adapter_model.safetensors.
        model_config: The base's config.json.
        target: The GGUF file.
        reasons: Whether it was trained to reason; None leaves that out of the file.
        tasks: Names of the tasks that it was trained for.
        dtype: Of the matrices: 16 bits to ship, 32 to draw with what was trained.

    Returns:
        How many layers it adapts.

    Raises:
        ModelError: It holds what a LoRA-GGUF can't say, or is damaged.
    """
    import gguf
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
        if not fits(config, FORM) or config["r"] < 1:
            raise ValueError("adapter_config.json holds odd values")
        tensors = load_file(adapter / "adapter_model.safetensors")
    except (OSError, SafetensorError, *BAD_DATA) as error:
        raise ModelError(f"{adapter}: no adapter can be read there: {error}", "name a training run's adapter") from None
    _refuse(adapter, config)
    names = name_map(model_config)
    layers: set[str] = set()
    written: list[Any] = []
    with new_file(target, architecture(model_config)) as writer:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(config))
        if reasons is not None:
            writer.add_bool(REASONS, reasons)
        if tasks:
            writer.add_string(TASKS, ",".join(tasks))
        for key, tensor in sorted(tensors.items()):
            module, side = _parts(key)
            name = names.get_name(module)
            if name is None:
                raise ModelError(f"{adapter}: llama.cpp has no layer {module!r}", "adapt linear layers only")
            layers.add(module)
            data = tensor.float().numpy()
            data = rows_for_llama(module, data, model_config) if side == "B" else data
            data = data.astype("f2") if dtype == "f16" else data
            writer.add_tensor_info(f"{name}.weight.lora_{side.lower()}", data.shape, data.dtype, data.nbytes)
            written.append(data)
        write_tensors(writer, written)
    return len(layers)


def write_peft(file: Path, model_config: Mapping[str, Any], target: Path) -> None:
    """Write a LoRA-GGUF as a folder that PEFT loads, to go on training; `target` appears whole or not at all.

    The matrices are those of the file, in 32 bits.

    Args:
        file: What `write_lora_gguf` wrote, or llama.cpp's converter.
        model_config: The base's config.json.
        target: A new folder.

    Raises:
        UsageError: No such file.
        ModelError: It is no LoRA-GGUF, or of another model.
    """
    import numpy as np
    from safetensors.numpy import save_file

    of, alpha, updates = read_lora(file)
    if of != model_config["model_type"]:
        hint = "name the model that it was made for"
        raise ModelError(f"{file}: an adapter of {of} models, not of {model_config['model_type']}", hint)
    names, modules = name_map(model_config), {}
    for n in range(int(model_config["num_hidden_layers"])):
        for layer in (f"model.layers.{n}.{one}" for one in _LINEAR):
            modules[f"{names.get_name(layer)}.weight"] = layer
    tensors, ranks = {}, set()
    for name, (a, b) in updates.items():
        module = modules.get(name)
        if module is None:
            raise ModelError(f"{file}: {name} is no linear layer of this model", "name the model that it was made for")
        ranks.add(len(a))
        for side, data in (("A", a), ("B", rows_from_llama(module, b, model_config))):
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = np.ascontiguousarray(data)
    if len(ranks) != 1:
        raise ModelError(f"{file}: its layers have the ranks {sorted(ranks)}", "export an adapter of one rank")
    (rank,) = ranks
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "r": rank,
        "lora_alpha": alpha or rank,  # llama.cpp takes no alpha for a scale of 1
        "target_modules": sorted({modules[name].rpartition(".")[2] for name in updates}),
        "bias": "none",
        "inference_mode": True,
    }
    with new_folder(target) as work:
        save_file(tensors, work / "adapter_model.safetensors")
        write_json(work / "adapter_config.json", config)


def _refuse(adapter: Path, config: Mapping[str, Any]) -> None:
    """Refuse what this format can't express: anything beyond B·A of linear layers."""
    wrong = [
        key
        for key in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
        if config.get(key)
    ]
    if config.get("peft_type") != "LORA" or wrong or config.get("bias", "none") != "none":
        what = ", ".join(wrong) or f"type {config.get('peft_type')}, bias {config.get('bias')}"
        raise ModelError(f"{adapter}: a LoRA-GGUF can't hold it ({what})", "train plain LoRA, or merge it instead")


def _alpha(config: Mapping[str, Any]) -> float:
    """llama.cpp scales by alpha / rank; rank-stabilized LoRA (arXiv 2312.03732) by alpha / sqrt(rank)."""
    alpha = float(config["lora_alpha"])
    return alpha * math.sqrt(int(config["r"])) if config.get("use_rslora") else alpha


def _parts(key: str) -> tuple[str, str]:
    match = _NAME.match(key)
    if match is None:
        raise ModelError(f"an adapter's tensor {key!r} is of no kind known here", "train plain LoRA on linear layers")
    return match[1], match[2]
