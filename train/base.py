"""The model that training starts from: a GGUF file or a Hugging Face folder becomes a model and its tokenizer.

A GGUF file is turned into a folder once (dequantized, float32, kept in the cache under the file's hash). In "nf4" the
linear layers are quantized by bitsandbytes and stay frozen: QLoRA (arXiv 2305.14314); "bf16" and "fp32" train LoRA over
unquantized weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge import models
from prlm_edge.errors import BAD_DATA, ModelError, PrlmError, UsageError
from prlm_edge.gguf.lora import write_peft
from prlm_edge.gguf.names import ARCHITECTURES
from prlm_edge.prompt import TO_ANSWER
from prlm_edge.storage import cache_dir, expanded, locked, new_folder, own_dir
from prlm_edge.train.config import BaseConfig, LoraConfig, Recipe
from prlm_edge.train.data.tokens import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WHOLE = "whole"  # marks a folder that was written to its end


def resolve(base: str) -> Path:
    """A folder with weights and tokenizer for `base`: a Hugging Face folder, a GGUF file, or a model's name.

    Raises:
        UsageError: No such model, or neither a GGUF file nor a folder with a config.json.
        ModelError: An architecture that can't be read, or a damaged file.
    """
    path = expanded(base)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"{path}: no config.json in it", "name a Hugging Face model folder or a GGUF file")
        return path
    file = models.resolve(base, original=True)
    folder = own_dir(cache_dir() / "train") / f"{file.stem}-{models.sha256_of(file)[:16]}"
    if not (folder / WHOLE).exists():
        with locked(folder):
            if not (folder / WHOLE).exists():
                _unpack(file, folder)
    return folder


def adapter_folder(adapter: Path, base: Path) -> Path:
    """`adapter` as a folder to go on training from; a GGUF file is written as one into the cache.

    Args:
        adapter: A folder that a training run wrote, or a LoRA-GGUF.
        base: What `resolve` returns for its base.

    Raises:
        ModelError: The file is no LoRA-GGUF, or of another model.
    """
    if not adapter.is_file():
        return adapter
    folder = own_dir(cache_dir() / "train") / f"{base.name}-adapter-{models.sha256_of(adapter)[:16]}"
    with locked(folder):
        if not folder.exists():
            write_peft(adapter, json.loads((base / "config.json").read_text("utf-8")), folder)
    return folder


def load_tokens(folder: Path, n_ctx: int) -> Tokens:
    """The tokenizer of a resolved base, as the runtime tokenizes."""
    from transformers import AutoTokenizer

    quiet()
    return Tokens(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), n_ctx, folder.name)


def load_model(folder: Path, config: BaseConfig) -> PreTrainedModel:
    """The frozen base of a resolved folder, in `config.precision`, on the GPU where there is one.

    Raises:
        UsageError: `config.precision` can't be had on this machine.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet()
    dtype = torch.float32 if config.precision == "fp32" else torch.bfloat16
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": config.attention}
    if config.precision == "nf4":
        options["quantization_config"] = _nf4(dtype)
    if torch.cuda.is_available():
        options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, **options)
    keep_gradients_right(model)
    model.config.use_cache = False
    return model


def add_adapter(model: PreTrainedModel, config: LoraConfig, *, checkpointing: bool, nf4: bool) -> Any:
    """`model` with a fresh LoRA adapter (a PeftModel); the adapter's weights are float32."""
    import peft

    model = _prepared(model, checkpointing=checkpointing, nf4=nf4)
    wanted = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules if config.target_modules == "all-linear" else list(config.target_modules),
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, wanted, autocast_adapter_dtype=True)


def resume_adapter(model: PreTrainedModel, adapter: Path, *, checkpointing: bool = False) -> Any:
    """`model` with a trained adapter to go on from, prepared as by `add_adapter`.

    Raises:
        UsageError: No adapter lies there, or it is of another model.
    """
    import peft
    from safetensors import SafetensorError

    check_adapter(adapter, load_tokens(Path(model.name_or_path), 0))
    nf4 = bool(getattr(model, "is_loaded_in_4bit", False))
    try:
        return peft.PeftModel.from_pretrained(
            _prepared(model, checkpointing=checkpointing, nf4=nf4), adapter, is_trainable=True
        )
    except (RuntimeError, OSError, SafetensorError, *BAD_DATA) as error:
        raise UsageError(
            f"{adapter}: does not fit this model: {_line(error)}", "give it the base it was trained on"
        ) from None


def load_policy(source: Path, recipe: Recipe, start: Path | None) -> Any:
    """The base in `source` under a fresh adapter, or under the one in the folder `start`; raises as its parts do."""
    model, checkpointing = load_model(source, recipe.base), recipe.base.checkpointing
    if start is not None:
        return resume_adapter(model, start, checkpointing=checkpointing)
    return add_adapter(model, recipe.lora, checkpointing=checkpointing, nf4=recipe.base.precision == "nf4")


def autocasts(config: BaseConfig) -> bool:
    """Whether the model is trained, and draws, under bfloat16 autocast.

    On a GPU that can, unless in "fp32". On a CPU it computes in the weights' own types, which is as quick there.
    """
    import torch

    return config.precision != "fp32" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _prepared(model: Any, *, checkpointing: bool, nf4: bool) -> Any:
    """`model` made ready for an adapter: norms of a quantized one in float32, inputs that pass gradients on."""
    import peft

    if nf4:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
        keep_gradients_right(model)
    elif checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def quiet() -> None:
    """Silence progress bars and advice of the libraries; the command line says what users need."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def keep_gradients_right(model: Any) -> None:
    """Forbid bitsandbytes to repack NF4 weights in place.

    On a CPU with AVX512_BF16, the first forward pass in eval mode repacks `Linear4bit` for inference; gradients and
    merges after that are wrong (cosine 0.2 to the true ones).
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _nf4(dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=True,
    )


def _unpack(file: Path, folder: Path) -> None:
    """Write `file` as a Hugging Face folder; `folder` appears whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    quiet()
    with new_folder(folder) as work:
        try:
            model = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                trust_remote_code=False,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
            )
        except (OSError, RuntimeError, *BAD_DATA) as error:
            raise _unreadable(file, error) from None
        if model.config.model_type not in ARCHITECTURES:
            raise ModelError(f"{file.name}: architecture {model.config.model_type}", _ADVICE)
        read_tokenizer(file).save_pretrained(work)
        model.save_pretrained(work)
        (work / WHOLE).touch()


def read_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file, which tokenizes as llama.cpp does.

    Transformers' reader leaves SmolLM's splitting of digits out, by which 15 of 150 texts tokenize differently.

    Raises:
        ModelError: It can't be read.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers as pre
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, trust_remote_code=False
        )
    except (OSError, RuntimeError, *BAD_DATA) as error:
        raise _unreadable(file, error) from None
    field = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        backend: Any = tokenizer.backend_tokenizer
        bytes_ = pre.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
        backend.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), bytes_])
    return tokenizer


_ADVICE = f"supported are {', '.join(ARCHITECTURES)}; a Hugging Face folder of the model may serve instead"


def _unreadable(file: Path, error: Exception) -> ModelError:
    return ModelError(f"{file.name}: can't be read for training: {_line(error)}", _ADVICE)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_adapter(adapter: Path, tokens: Tokens) -> None:
    """Refuse an adapter that was trained on other tokens than `tokens` are.

    It is compared by its own tokenizer, where it has one, else by that of the base it names. Where neither is on this
    machine, only the sizes of its layers are compared (`resume_adapter`).

    Raises:
        UsageError: No adapter lies there, or it is of a model that tokenizes otherwise.
    """
    try:
        config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
        named = str(config.get("base_model_name_or_path") or "")
    except (OSError, *BAD_DATA):
        raise UsageError(f"{adapter}: no adapter in it", "name a folder that a training run wrote") from None
    places = [adapter, *([Path(named)] if named else [])]
    theirs = next((place for place in places if (place / "tokenizer.json").is_file()), None)
    if theirs is None:
        return
    try:
        check_same_vocabulary(tokens, load_tokens(theirs, 0).encode_text, f"the base of {adapter}")
    except PrlmError as error:
        raise UsageError(error.message, "give it the base it was trained on") from None


#: On which tokenizers differ that are nearly the same.
ODD_TEXTS = (
    "Version 2024.11:  31415 words\n\n2. #4711, 50% off",  # Transformers reads SmolLM2 wrongly here
    "naïve café — “quoted” … don't, we'll",
    "def f(x):\n\treturn  x  # twice\n\n",
    "日本語のテキスト 🙂",
    f"x<|im_end|>y</s> {TO_ANSWER}",
    " leading, trailing ",
)


def check_same_vocabulary(tokens: Tokens, encode: Callable[[str], Sequence[int]], whose: str) -> None:
    """Refuse a tokenizer that is not the trainer's.

    Args:
        tokens: The trainer's tokenizer.
        encode: The other one, text -> ids.
        whose: The other one's name.

    Raises:
        PrlmError: Some text tokenizes otherwise; the message names the first.
    """
    for text in ODD_TEXTS:
        if tokens.encode_text(text) != list(encode(text)):
            raise PrlmError(
                f"{whose} tokenizes {text[:40]!r} differently from the trained model",
                "what is learned on other tokens is lost in use: train from another copy of the model",
            )
