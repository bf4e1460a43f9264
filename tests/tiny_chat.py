"""Untrained language models of some kilobytes with a ChatML tokenizer of their own, as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prlm_edge.backends.engine.chat_template import CHATML

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_TEXTS = [
    "Write a title for: my post on winter sourdough",
    "You write titles in the user's own voice. <think>4 words, lower case, a colon.</think>\n<answer>rye wins</answer>",
    "the drain we should have dug last summer, and three flours for my starter 0123456789",
]


def make_tokenizer(folder: Path, **values: Any) -> Any:
    """Write a byte-level BPE of some 330 tokens that spells every text; returns it. `values` go to the tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        _TEXTS, trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **{**names, **values})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(folder: Path, kind: str = "llama", *, seed: int = 0, **values: Any) -> Path:
    """Write a model of two layers and its tokenizer; `kind` is llama, qwen2 or qwen3, `values` are of its config.

    Weights are larger than a fresh model's, so that its logits are of a trained model's size and greedy text varies.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, Qwen2Config, Qwen3Config

    tokenizer = make_tokenizer(folder)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    more: dict[str, Any] = {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 2048}
    if kind == "qwen3":
        more["head_dim"] = 32
    made = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}[kind]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(made(**{**sizes, **ends, **more, "initializer_range": 0.2, **values}))
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms are constants in a fresh model
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=[2, 0], pad_token_id=0)
    model.save_pretrained(folder)
    return folder
