"""A Hugging Face tokenizer as the metadata by which llama.cpp yields the same token ids.

Byte-level BPE only, and only with a pre-tokenizer that llama.cpp knows by name: any other would tokenize a little
otherwise and say nothing. One thing has no setting there: Qwen's tokenizers compose Unicode first (NFC), llama.cpp
doesn't, so decomposed text tokenizes otherwise there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge.errors import BAD_DATA, ModelError
from prlm_edge.gguf.names import SPLITS, WHOLE_WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HINT = "tokenizers of SmolLM2, Qwen2, Qwen3 and Llama 3 can be exported"
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>")


@dataclass(frozen=True)
class Ends:
    """The tokens that end a generation.

    Attributes:
        eos: The end-of-sequence token.
        others: Further ones: of the turn, of the message.
    """

    eos: int
    others: tuple[int, ...]


def load(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer in a Hugging Face folder.

    Raises:
        ModelError: There is none.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer.backend_tokenizer  # noqa: B018 - slow tokenizers have none
    except (OSError, *BAD_DATA) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder}: no tokenizer can be read there: {line}", _HINT) from None
    return tokenizer


def described(tokenizer: Any) -> dict[str, Any]:
    """The tokenizer.json by which it tokenizes."""
    return dict(json.loads(tokenizer.backend_tokenizer.to_str()))


def pre_name(table: Mapping[str, Any]) -> str:
    """llama.cpp's name of a tokenizer.json's way to split texts before merging.

    Raises:
        ModelError: It is none that llama.cpp and this module know.
    """
    model, normalizer = table["model"], table.get("normalizer") or {"type": "NFC"}
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise ModelError("a SentencePiece tokenizer can't be exported yet", _HINT)
    if normalizer != {"type": "NFC"}:
        raise ModelError(f"a tokenizer that normalizes texts by {normalizer['type']} can't be exported yet", _HINT)
    pre = table.get("pre_tokenizer") or {"type": "none"}
    name = _named(pre.get("pretokenizers", [pre]))
    if name is None or bool(model.get("ignore_merges")) != (name in WHOLE_WORDS):
        kinds = ", ".join(part["type"] for part in pre.get("pretokenizers", [pre]))
        raise ModelError(f"llama.cpp has no name for the way this tokenizer splits texts ({kinds})", _HINT)
    return name


def _named(parts: Sequence[Mapping[str, Any]]) -> str | None:
    if len(parts) != 2 or parts[1]["type"] != "ByteLevel" or parts[1].get("add_prefix_space"):
        return None
    first, by_regex = parts[0], parts[1].get("use_regex", True)
    if first["type"] == "Digits" and first.get("individual_digits") and by_regex:
        return "smollm"
    if first["type"] == "Split" and not by_regex and first["behavior"] == "Isolated" and not first.get("invert"):
        regex = first["pattern"].get("Regex", "")
        return next((name for name, split in SPLITS.items() if split == regex), None)
    return None


def ends(folder: Path, tokenizer: Any) -> Ends:
    """All ids that end a generation: the tokenizer's, those of generation_config.json, and known ends of turns.

    Raises:
        ModelError: There is none, or more than a GGUF file can name.
    """
    found = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    vocabulary = tokenizer.get_vocab()
    found += [vocabulary[text] for text in _TURN_ENDS if text in vocabulary]
    try:
        said = json.loads((folder / "generation_config.json").read_text("utf-8")).get("eos_token_id")
    except FileNotFoundError:
        said = None
    except BAD_DATA:
        raise ModelError(f"{folder}: generation_config.json is damaged", "fetch the model again") from None
    found += said if isinstance(said, list) else [] if said is None else [said]
    unique = list(dict.fromkeys(found))
    if not 1 <= len(unique) <= 3:
        raise ModelError(f"{folder}: {len(unique)} tokens end a turn, and a GGUF file names one to three", _HINT)
    return Ends(unique[0], tuple(unique[1:]))


def chat_template(folder: Path, tokenizer: Any) -> str:
    """The template that turns are rendered by.

    Raises:
        ModelError: There is none.
    """
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        template = template.get("default")
    if not template:
        raise ModelError(f"{folder}: no chat template", "copy chat_template.jinja from the model that was trained")
    return str(template)


def tokens(table: Mapping[str, Any], n_tokens: int) -> tuple[list[str], list[int]]:
    """Spelling and `gguf.TokenType` of each id; ids that the tokenizer doesn't have are unused.

    Args:
        table: The tokenizer.json.
        n_tokens: Rows of the model's embedding.

    Raises:
        ModelError: The tokenizer has ids beyond them.
    """
    from gguf import TokenType

    spelled = {int(id): (str(text), TokenType.NORMAL) for text, id in table["model"]["vocab"].items()}
    for token in table["added_tokens"]:
        kind = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        spelled[int(token["id"])] = (str(token["content"]), kind)
    if max(spelled) >= n_tokens:
        raise ModelError(
            f"the tokenizer has token {max(spelled)}, and the model embeds {n_tokens}", "it is of another model"
        )
    listed = [spelled.get(id, (f"[PAD{id}]", TokenType.UNUSED)) for id in range(n_tokens)]
    return [text for text, _ in listed], [int(kind) for _, kind in listed]


def write(writer: Any, folder: Path, tokenizer: Any, config: Mapping[str, Any]) -> None:
    """Put the tokenizer of `folder` into a `gguf.GGUFWriter`.

    Raises:
        ModelError: llama.cpp would not tokenize as it does, or turns have no template or no end.
    """
    table = described(tokenizer)
    name, stops = pre_name(table), ends(folder, tokenizer)
    spelled, kinds = tokens(table, int(config["vocab_size"]))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(spelled)
    writer.add_token_types(kinds)
    merges = table["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    bos = next((one for one in (tokenizer.bos_token_id, config.get("bos_token_id")) if one is not None), stops.eos)
    writer.add_bos_token_id(int(bos))
    writer.add_eos_token_id(stops.eos)
    for add, id in zip((writer.add_eot_token_id, writer.add_eom_token_id), stops.others, strict=False):
        add(id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(int(tokenizer.unk_token_id))
    writer.add_pad_token_id(stops.eos if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id))
    writer.add_add_bos_token(tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])
    writer.add_add_space_prefix(False)
    writer.add_chat_template(chat_template(folder, tokenizer))
