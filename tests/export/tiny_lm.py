"""Tiny language models of each architecture with a tokenizer of their own, in Transformers' folders.

Their weights are random but far apart, so that a row out of place changes what they say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "The oven was cold, but the rye had risen overnight; we'll name it 2024's loaf.",
    "def mend(parser):\n\treturn parser  # twice\n\nfix: the parser's last line 1234567",
    "Ein Brot für 12,50 Euro — naïve café, don't they'd I'm it's we've you're",
] * 4
TEXTS = [
    "The rye won.",
    "2024 was 31415.9265, or 7",
    "  two  spaces\n\n\tand tabs \r\n end  ",
    "don't DON'T we'll I'M",
    "naïve café — “quoted” … 日本語 🙂👩‍👩‍👧",
    "def f(x):\n    return x**2  # x<y",
    "",
    "x<|im_end|>y<think>z",
]
SIZES = {
    "vocab_size": 420,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make_lm(folder: Path, arch: str, *, pre: str = "smollm", std: float = 0.15, **values: Any) -> Path:
    """Write a model of two layers and its tokenizer; `values` are of its configuration."""
    import torch
    import transformers

    names = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    config = getattr(transformers, names[arch] + "Config")(**{**SIZES, "head_dim": 16, **values})
    torch.manual_seed(0)
    model = getattr(transformers, names[arch] + "ForCausalLM")(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.uniform_(0.5, 1.5)
            else:
                weight.normal_(std=std)
    model.save_pretrained(folder)
    make_tokenizer(pre).save_pretrained(folder)
    return folder


def make_tokenizer(pre: str) -> Any:
    """A byte-level BPE tokenizer that splits texts as the one of that name, with ChatML and 400 or so tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from prlm_edge.gguf.names import SPLITS

    backend = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    if pre == "smollm":
        first, regex = pre_tokenizers.Digits(individual_digits=True), True
    else:
        from tokenizers import Regex

        pattern = SPLITS[pre]
        first, regex = pre_tokenizers.Split(Regex(pattern), "isolated"), False
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)]
    )
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    ends = {"bos_token": special[1], "eos_token": special[2], "pad_token": special[2], "unk_token": special[0]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **ends)
    tokenizer.chat_template = CHATML
    return tokenizer


def edit(path: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def make_adapter(folder: Path, target: Path, **values: Any) -> Path:
    """Write a random LoRA adapter of the model in `folder`, strong enough to change what it says."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **values}
    torch.manual_seed(1)
    adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    adapted.save_pretrained(target)
    return target
