"""A GGUF file's tokenizer as tokenizer.json, by which the `tokenizers` package yields the ids that llama.cpp does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prlm_edge.errors import ModelError
from prlm_edge.gguf.names import SPLITS, WHOLE_WORDS

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5  # gguf.TokenType
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>")  # llama.cpp ends a turn at these, whatever the file says
_PREFIX = "tokenizer.ggml."


def tokenizer_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer.json of a GGUF file's metadata.

    Raises:
        ModelError: It is none of single bytes, or splits texts in a way that is not known here.
    """
    name = str(metadata.get(f"{_PREFIX}pre"))
    pre = _splitting(name)
    if metadata.get(f"{_PREFIX}model") != "gpt2" or pre is None:
        raise ModelError(
            f"a tokenizer of this kind ({name}) can't be run by ONNX Runtime here",
            "install the engine that runs GGUF files: prlm-edge[gguf]",
        )
    spelled, kinds = metadata[f"{_PREFIX}tokens"], metadata[f"{_PREFIX}token_type"]
    known = [(id, text, kind) for id, (text, kind) in enumerate(zip(spelled, kinds, strict=True)) if kind != _UNUSED]
    alike = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": id, "content": text, "special": kind == _CONTROL, **alike}
        for id, text, kind in known
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    model = {
        "type": "BPE",
        "vocab": {text: id for id, text, _ in known},
        "merges": [merge.split(" ", 1) for merge in metadata[f"{_PREFIX}merges"]],
        "ignore_merges": name in WHOLE_WORDS,
    }
    decoder = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {"version": "1.0", "added_tokens": added, "pre_tokenizer": pre, "decoder": decoder, "model": model}


def ends(metadata: Mapping[str, Any]) -> list[int]:
    """Ids that end a turn."""
    named = (metadata.get(f"{_PREFIX}{which}_token_id") for which in ("eos", "eot", "eom"))
    spelled = metadata[f"{_PREFIX}tokens"]
    found = [id for id in named if id is not None] + [spelled.index(text) for text in _TURN_ENDS if text in spelled]
    return list(dict.fromkeys(map(int, found)))


def names(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Spellings of the tokens that begin and end a text, as tokenizer_config.json names them; "" for none."""
    ids = {f"{which}_token": metadata.get(f"{_PREFIX}{which}_token_id") for which in ("bos", "eos")}
    return {which: "" if id is None else metadata[f"{_PREFIX}tokens"][id] for which, id in ids.items()}


def begin(metadata: Mapping[str, Any]) -> list[int]:
    """What stands in front of every prompt: one id, or none."""
    wanted = metadata.get(f"{_PREFIX}add_bos_token", metadata.get(f"{_PREFIX}pre") in WHOLE_WORDS)
    bos = metadata.get(f"{_PREFIX}bos_token_id")
    return [int(bos)] if wanted and bos is not None else []


def _splitting(name: str) -> dict[str, Any] | None:
    """The pre-tokenizer that llama.cpp knows by `name`; None for one that is not known here."""
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": name == "smollm"}
    if name == "smollm":
        first: dict[str, Any] = {"type": "Digits", "individual_digits": True}
    elif name in SPLITS:
        first = {"type": "Split", "pattern": {"Regex": SPLITS[name]}, "behavior": "Isolated", "invert": False}
    else:
        return None
    return {"type": "Sequence", "pretokenizers": [first, by_bytes]}
