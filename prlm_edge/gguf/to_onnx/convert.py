"""Writes the ONNX folder of a GGUF model, as `prlm_edge.backends.onnx.folder` reads it: the same numbers, the same ids.

Seconds for a model of 135 million parameters. Q8_0 and Q4_0 stay exactly what they are; see `weights.py`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from prlm_edge.errors import BAD_DATA, ModelError
from prlm_edge.gguf.header import ADAPTER, REASONS, TASKS, Header, check_model
from prlm_edge.gguf.to_onnx import tokenizer
from prlm_edge.gguf.to_onnx.graph import Decoder, shape_of
from prlm_edge.gguf.to_onnx.weights import Tensors
from prlm_edge.gguf.to_onnx.wire import Graph
from prlm_edge.models.store import ONNX_CARD, ONNX_MARKER, hash_file, require_space
from prlm_edge.storage import new_folder, private_dir, writing

_GRAPH, _WEIGHTS = "model.onnx", "model.onnx.data"
_GROWTH = 1.1  # 36 bytes hold a block that takes 34 in Q8_0


def convert(
    source: Path,
    target: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write the GGUF model `source` as the folder `target`, which appears whole or not at all.

    Args:
        source: A model of the llama or qwen2 architecture.
        target: A folder; one that is there already is replaced.
        progress: Called with (layers done, layers in all).
        about: More for the card.

    Raises:
        UsageError: No such file.
        ModelError: It is damaged, or of a kind that can't be converted.
        PrlmError: There is no room, or it can't be written.
    """
    header = check_model(source)
    try:
        with writing(target.parent):
            require_space(private_dir(target.parent), int(source.stat().st_size * _GROWTH))
        with new_folder(target) as work:
            _fill(work, source, header, progress, about or {})
    except BAD_DATA as error:
        line = " ".join(str(error).split())[:120]
        raise ModelError(f"{source}: damaged: {line}", "fetch the model again") from None


def _fill(
    work: Path, source: Path, header: Header, progress: Callable[[int, int], None], about: Mapping[str, str]
) -> None:
    said = header.metadata
    shape, tokens = shape_of(said), tokenizer.tokenizer_of(said)
    with (work / _WEIGHTS).open("wb") as stream:
        graph = Graph(stream, _WEIGHTS)
        n_tokens = Decoder(graph, shape, Tensors(source, header)).write(progress)
        stream.flush()
        os.fsync(stream.fileno())
    (work / _GRAPH).write_bytes(graph.model())
    _write(work / "tokenizer.json", tokens)
    if template := said.get("tokenizer.chat_template"):
        (work / "chat_template.jinja").write_text(str(template), "utf-8")
    begin = tokenizer.begin(said)
    _write(work / "tokenizer_config.json", {**tokenizer.names(said), "add_bos_token": bool(begin)})
    layers = {"num_hidden_layers": shape.n_layers, "num_key_value_heads": shape.n_kv_heads}
    decoder = {"filename": _GRAPH, "head_size": shape.head_size, **layers}
    model = {"context_length": shape.n_ctx, "vocab_size": n_tokens, "eos_token_id": tokenizer.ends(said)}
    search = {"past_present_share_buffer": True}
    _write(work / ONNX_MARKER, {"model": {**model, "decoder": decoder}, "search": search})
    card = {
        **about,
        "format": 1,
        "bos": begin,
        "reasons": said.get(REASONS) in (True, "true"),
        "tasks": [task for task in str(said.get(TASKS, "")).split(",") if task],
        "adapter": str(said.get(ADAPTER, "")),
        "parameters": sum(math.prod(tensor.shape) for tensor in header.tensors),
        "sha256": {path.name: hash_file(path) for path in sorted(work.iterdir())},
    }
    _write(work / ONNX_CARD, card)


def _write(path: Path, table: object) -> None:
    path.write_text(json.dumps(table, ensure_ascii=False) + "\n", "utf-8")
