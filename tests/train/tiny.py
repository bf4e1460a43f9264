"""Untrained models of some kilobytes in Transformers' folders: training them takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_llama(folder: Path, **values: Any) -> Path:
    """Write a Llama of two layers; `values` are of its LlamaConfig."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**sizes, "num_key_value_heads": 2, **values})).save_pretrained(folder)
    return folder


def make_bert(folder: Path, **values: Any) -> Path:
    """Write a BERT of two layers that scores, with the head of a reward model; `values` are of its BertConfig."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(**{**sizes, "num_labels": 1, **values})).save_pretrained(folder)
    return folder
