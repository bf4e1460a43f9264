"""A Hugging Face folder as one GGUF file in 16 or 32 bits: llama, qwen2 and qwen3.

Written with the `gguf` package's own writer and names, tensor by tensor, so that memory holds one at a time. What can't
be said exactly is refused: tests hold what the file says, and its tokens, to the Hugging Face model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prlm_edge.errors import BAD_DATA, ModelError
from prlm_edge.export.gguf import tokenizer as gguf_tokenizer
from prlm_edge.gguf.file import new_file, write_tensors
from prlm_edge.gguf.header import REASONS, TASKS
from prlm_edge.gguf.names import architecture, name_map, rows_for_llama

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROTATIONS = ("default", "linear", "llama3")


@dataclass(frozen=True)
class About:
    """What a model file says of itself.

    Attributes:
        name: For people.
        reasons: Whether training taught it to reason (`llamacpp.REASONS`).
        licence: SPDX identifier; "" leaves it out.
        base_model: What it was trained from, for people; "" leaves it out.
        tasks: Names of the tasks that it was trained for; none leaves that out.
    """

    name: str
    reasons: bool
    licence: str = ""
    base_model: str = ""
    tasks: Sequence[str] = ()


def write_gguf(folder: Path, target: Path, about: About, *, dtype: Literal["f16", "f32"] = "f16") -> None:
    """Convert a model; `target` appears whole or not at all. Norms and biases stay in 32 bits.

    Args:
        folder: With config.json, tokenizer and *.safetensors.
        target: The GGUF file.
        about: Its metadata.
        dtype: Of the matrices.

    Raises:
        ModelError: An architecture, rotation, layer or tokenizer that can't be said, damaged weights, or one too large
            for 16 bits.
        PrlmError: The disk is full or not writable.
    """
    config = read_config(folder)
    tokenizer = gguf_tokenizer.load(folder)
    tensors = _Tensors(folder, config, dtype)
    with new_file(target, architecture(config)) as writer:
        _describe(writer, about, dtype)
        _shape(writer, config)
        gguf_tokenizer.write(writer, folder, tokenizer, config)
        tensors.write(writer)


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json as Transformers understands it; what GGUF can't express is refused.

    Raises:
        ModelError: It can't be read or exported.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        raw = json.loads((folder / "config.json").read_text("utf-8"))
        architecture(raw)
        config = dict(AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict())
    except (OSError, StrictDataclassError, *BAD_DATA) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder}: config.json can't be read: {line}", "fetch the model again") from None
    wrong = [
        what
        for what, is_wrong in (
            (f"activation {config.get('hidden_act')}", config.get("hidden_act") != "silu"),
            ("sliding windows", "sliding_attention" in (config.get("layer_types") or ())),
            (f"rotation {rotation(config)['rope_type']}", rotation(config)["rope_type"] not in _ROTATIONS),
            ("partial rotation", float(rotation(config).get("partial_rotary_factor", 1.0)) != 1.0),
        )
        if is_wrong
    ]
    if wrong:
        raise ModelError(f"{folder}: can't be exported yet: {', '.join(wrong)}", "choose another base model")
    return config


def rotation(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary embedding's parameters: "rope_type", "rope_theta" and what the type needs (arXiv 2104.09864)."""
    found: Mapping[str, Any] = config["rope_parameters"]
    return found


def _describe(writer: Any, about: About, dtype: str) -> None:
    import gguf

    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(about.name)
    writer.add_license(about.licence)
    if about.base_model:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, about.base_model)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if dtype == "f16" else gguf.LlamaFileType.ALL_F32)
    writer.add_bool(REASONS, about.reasons)
    if about.tasks:
        writer.add_string(TASKS, ",".join(about.tasks))


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _shape(writer: Any, config: Mapping[str, Any]) -> None:
    import gguf

    rope, head = rotation(config), _head_dim(config)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(int(config["num_attention_heads"]))
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or config["num_attention_heads"]))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def _slowdown(config: Mapping[str, Any]) -> NDArray[np.float32]:
    """The divisors that Llama 3.1 applies to its head_dim / 2 frequencies: `factor` for slow ones, 1 for fast ones."""
    import numpy as np

    rope, head = rotation(config), _head_dim(config)
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    turns = float(rope["original_max_position_embeddings"]) / (2 * math.pi)  # of frequency 1, in the old context
    found = []
    for i in range(head // 2):
        share = (turns * float(rope["rope_theta"]) ** (-2 * i / head) - low) / (high - low)
        share = min(max(share, 0.0), 1.0)
        found.append(1 / ((1 - share) / float(rope["factor"]) + share))
    return np.array(found, np.float32)


class _Tensors:
    """The weights of a folder under llama.cpp's names, read one at a time."""

    def __init__(self, folder: Path, config: Mapping[str, Any], dtype: str) -> None:
        self._folder, self._config = folder, config
        self._matrix_bytes = 2 if dtype == "f16" else 4
        self._names = name_map(config)
        self._files = {key: file for file in _weight_files(folder) for key in _shapes(file)}
        self._shapes = {key: shape for file in set(self._files.values()) for key, shape in _shapes(file).items()}
        if config["tie_word_embeddings"]:
            self._files.pop("lm_head.weight", None)
        elif "lm_head.weight" not in self._files:
            raise ModelError(f"{folder}: lm_head.weight is missing", "fetch or merge the model again")

    def write(self, writer: Any) -> None:
        """Write all of them with a `gguf.GGUFWriter` that has its metadata."""
        import numpy as np

        extra = _slowdown(self._config) if rotation(self._config)["rope_type"] == "llama3" else None
        for key in self._files:
            shape, width = self._shapes[key], self._width(key)
            writer.add_tensor_info(self._name(key), shape, np.dtype(f"f{width}"), math.prod(shape) * width)
        if extra is not None:
            writer.add_tensor_info("rope_freqs.weight", extra.shape, extra.dtype, extra.nbytes)
        data = (self._converted(key) for key in self._files)
        write_tensors(writer, data if extra is None else chain(data, [extra]))

    def _converted(self, key: str) -> NDArray[Any]:
        data = rows_for_llama(key.rpartition(".")[0], self._read(key), self._config)
        return _narrowed(key, data) if self._width(key) == 2 else data

    def _name(self, key: str) -> str:
        name = self._names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ModelError(f"{self._folder}: llama.cpp has no layer {key!r}", "choose another base model")
        return str(name)

    def _width(self, key: str) -> int:
        return self._matrix_bytes if len(self._shapes[key]) > 1 else 4

    def _read(self, key: str) -> NDArray[np.float32]:
        import torch
        from safetensors import safe_open

        with safe_open(self._files[key], "pt") as tensors:
            found: NDArray[np.float32] = tensors.get_tensor(key).to(torch.float32).numpy()
        return found


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no model*.safetensors in it", "name a Hugging Face model folder")
    return files


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{file}: damaged: {error}", "fetch or merge the model again") from None


def _narrowed(key: str, data: NDArray[np.float32]) -> NDArray[np.float16]:
    import numpy as np

    with np.errstate(over="ignore"):
        half = data.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(f"{key}: a weight is too large for 16 bits, or no number", "export it as f32")
    return half
