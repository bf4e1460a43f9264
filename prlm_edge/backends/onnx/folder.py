"""Reads a folder with an ONNX language model: onnxruntime-genai's layout, and our card next to it.

    genai_config.json      which file, its sizes and cache, ids that end a turn: written by onnxruntime-genai's builder
    model.onnx (.data)     the graph and its weights
    tokenizer.json, tokenizer_config.json, chat_template.jinja
    prlm.json              our card: hashes, quantization, whether it was trained to reason; other builders' lack it

`prlm_edge.export.onnx` writes such folders, and `prlm_edge.gguf.to_onnx` makes them of GGUF files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA, ModelError, UsageError, first_line, no_onnx
from prlm_edge.models import sha256_of
from prlm_edge.models.store import ONNX_CARD, ONNX_MARKER, is_onnx

_ADVICE = "`prlm-edge model pull` mends an installed model; else export it again (`prlm-edge export onnx`)"


@dataclass(frozen=True)
class OnnxFolder:
    """A language model's folder, read and checked.

    Attributes:
        path: The folder.
        file: The graph.
        sha256: Of the weights; "" where no card says it.
        n_layers: Layers.
        n_kv_heads: Heads that keys and values have.
        head_size: Values of one head.
        n_ctx: Tokens that it can attend to.
        n_vocab: Logits.
        ends: Ids that end a turn.
        bos: Ids that begin a prompt.
        names: Spellings of the "bos" and "eos" tokens, "" for none.
        template: The chat template; "" where there is none.
        reasons: Whether training taught it to reason.
        tasks: Names of the tasks that it was trained for.
        adapter: The name of the adapter that was merged in; "" for none.
        n_parameters: How many weights it has; 0: unknown.
        card: What prlm.json says; empty without one.
    """

    path: Path
    file: Path
    sha256: str
    n_layers: int
    n_kv_heads: int
    head_size: int
    n_ctx: int
    n_vocab: int
    ends: frozenset[int]
    bos: tuple[int, ...]
    names: Mapping[str, str]
    template: str
    reasons: bool
    tasks: tuple[str, ...] = ()
    adapter: str = ""
    n_parameters: int = 0
    card: Mapping[str, Any] = field(default_factory=dict)


def read(folder: Path) -> OnnxFolder:
    """Read and check what the folder says.

    Raises:
        UsageError: No such folder, or no language model in it.
        ModelError: It is damaged, or not what its card was written for.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", "name one that `prlm-edge export onnx` wrote")
    if not is_onnx(folder):
        raise UsageError(f"{folder}: no ONNX language model in it", f"{ONNX_MARKER} belongs there, and model.onnx")
    try:
        config = json.loads((folder / ONNX_MARKER).read_bytes())
        tokenizer = json.loads((folder / "tokenizer_config.json").read_bytes())
        card = json.loads((folder / ONNX_CARD).read_bytes()) if (folder / ONNX_CARD).exists() else {}
        return _parsed(folder, config, tokenizer, card)
    except OSError as error:
        raise ModelError(f"{error.filename or folder}: {error.strerror}", _ADVICE) from None
    except BAD_DATA as error:
        what = " ".join(str(error).split())[:120]
        raise ModelError(f"{folder}: its configuration is damaged: {what}", _ADVICE) from None


def load_tokenizer(folder: Path) -> Any:
    """The folder's `tokenizers.Tokenizer`.

    Raises:
        MissingError: The package tokenizers is missing.
        ModelError: The file is missing or damaged.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise no_onnx("an ONNX model") from None
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"{folder / 'tokenizer.json'}: can't load it: {first_line(error)}", _ADVICE) from error


def _parsed(folder: Path, config: Any, tokenizer: Any, card: Any) -> OnnxFolder:
    model = config["model"]
    decoder = model["decoder"]
    name = str(decoder["filename"])
    if Path(name).name != name:
        raise ValueError(f"filename {name!r}")
    if not config.get("search", {}).get("past_present_share_buffer"):
        raise ValueError("its cache can't be shared between steps")
    ends = model["eos_token_id"]
    names = {which: _text(tokenizer.get(f"{which}_token")) for which in ("bos", "eos")}
    return OnnxFolder(
        path=folder,
        file=folder / name,
        sha256=_checked(folder, name, card),
        n_layers=int(decoder["num_hidden_layers"]),
        n_kv_heads=int(decoder["num_key_value_heads"]),
        head_size=int(decoder["head_size"]),
        n_ctx=int(model["context_length"]),
        n_vocab=int(model["vocab_size"]),
        ends=frozenset(int(end) for end in (ends if isinstance(ends, list) else [ends])),
        bos=tuple(int(token) for token in card.get("bos", _bos(model, tokenizer))),
        names=names,
        template=_template(folder, tokenizer),
        reasons=card.get("reasons") is True,
        tasks=tuple(map(str, card.get("tasks", ()))),
        adapter=str(card.get("adapter", "")),
        n_parameters=int(card.get("parameters", 0)),
        card=card,
    )


def _checked(folder: Path, name: str, card: Any) -> str:
    """The weights' hash, once every file that the card names is seen to be the one it was written for."""
    promised: dict[str, str] = dict(card.get("sha256", {}))
    for file, sha256 in promised.items():
        if Path(file).name != file or sha256_of(folder / file) != sha256:
            raise ModelError(f"{folder / file}: not the file that {ONNX_CARD} was written for", _ADVICE)
    return promised.get(f"{name}.data", promised.get(name, ""))


def _bos(model: Any, tokenizer: Any) -> list[int]:
    return [int(model["bos_token_id"])] if tokenizer.get("add_bos_token") else []


def _text(token: Any) -> str:
    return str(token.get("content", "") if isinstance(token, dict) else token or "")


def _template(folder: Path, tokenizer: Any) -> str:
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text("utf-8")
    source = tokenizer.get("chat_template")
    return source if isinstance(source, str) else ""
