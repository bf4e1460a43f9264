"""The language model as ONNX, quantized, for `prlm_edge.backends.onnx.backend`: a Hugging Face folder -> a folder.

onnxruntime-genai's builder makes the graph, with ONNX Runtime's own attention over a cache that stays in place and
weights of 8 or 4 bits by blocks; `graph.py` then saves it a table. It runs in a process of its own: it prints its
steps, changes `sys.path`, and keeps its memory. No network: the folder is local, and the hubs are set to offline.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge.backends.onnx.folder import read
from prlm_edge.backends.onnx.session import Session
from prlm_edge.backends.onnx.slots import OnnxSlots
from prlm_edge.cpu import default_threads
from prlm_edge.errors import BAD_DATA, MissingError, ModelError, UsageError
from prlm_edge.export.measure import Probe, log_softmax
from prlm_edge.gguf.names import ARCHITECTURES
from prlm_edge.models.store import ONNX_CARD, ONNX_MARKER, hash_file
from prlm_edge.storage import new_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK = 256
# What comes from the model unchanged; the builder writes some of these in other bytes.
_COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json", "generation_config.json")
_LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*")
_FULL = ("No space left on device", "os error 28")


@dataclass(frozen=True)
class Format:
    """How weights are stored: the builder's precision and its options."""

    precision: str
    options: tuple[str, ...] = ()


FORMATS = {
    "f32": Format("fp32"),
    "int8": Format("int8"),
    "int4": Format("int4", ("algo_config=k_quant", "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8")),
}


def export_onnx(
    source: Path, target: Path, *, quant: str = "int8", reasons: bool = False, about: Mapping[str, Any] | None = None
) -> None:
    """Export the model in the Hugging Face folder `source`; `target` appears whole or not at all.

    Args:
        source: With its weights, config.json, tokenizer.json and tokenizer_config.json.
        target: A folder that isn't there yet.
        quant: One of `FORMATS`: 8 bits a weight (the default), 4 bits, or 32-bit floats.
        reasons: Whether training taught it to reason.
        about: More for the card, `prlm.json`.

    Raises:
        UsageError: `target` is there, or `quant` or `source` is none.
        MissingError: onnxruntime-genai isn't installed.
        ModelError: Not of these architectures, or the builder failed.
        PrlmError: The disk is full.
    """
    config = _preflight(source, target, quant)
    with new_folder(target) as work:
        tied = bool(config.get("tie_word_embeddings"))
        _build(source, work / "built", FORMATS[quant], tied=tied)
        _finish(source, work, tied=tied)
        _write_card(source, work, {**(about or {}), "quantization": quant, "reasons": reasons})


def onnx_logprobs(folder: Path, wanted: Sequence[Probe]) -> Iterator[NDArray[np.float32]]:
    """Log-probabilities of an exported model, arrays as of `measure.hf_logprobs`.

    Raises:
        MissingError: onnxruntime isn't installed.
        ModelError: The folder is damaged.
    """
    import numpy as np

    session = Session(read(folder), default_threads())
    for probe in wanted:
        slots = OnnxSlots(session, probe.at[-1] + 1)
        said, begin = [], 0
        for at in probe.at:  # each call gives the logits of its last token alone
            for start in range(begin, at + 1, _CHUNK):
                slots.append([(0, probe.ids[start : min(start + _CHUNK, at + 1)])])
            said.append(slots.logits())
            begin = at + 1
        slots.close()
        yield log_softmax(np.stack(said))


def _preflight(source: Path, target: Path, quant: str) -> dict[str, Any]:
    """The model's config.json, once everything that can be checked before the work is checked."""
    if quant not in FORMATS:
        raise UsageError(f"{quant}: no ONNX quantization", f"there are {', '.join(FORMATS)}")
    if target.exists():
        raise UsageError(f"{target}: there already", "choose another folder, or delete it")
    try:
        config: dict[str, Any] = json.loads((source / "config.json").read_bytes())
        kind = str(config["model_type"])
    except (OSError, *BAD_DATA):
        raise UsageError(
            f"{source}: no Hugging Face model in it", "name a folder with config.json and weights"
        ) from None
    if kind not in ARCHITECTURES:
        raise ModelError(f"{kind} models can't be exported as ONNX yet", f"supported are {', '.join(ARCHITECTURES)}")
    missing = [name for name in _COPIED[:2] if not (source / name).is_file()]
    if missing:
        raise UsageError(f"{source}: {missing[0]} is missing", "save the model's tokenizer there")
    if importlib.util.find_spec("onnxruntime_genai") is None:
        raise MissingError("the export to ONNX needs onnxruntime-genai", 'pip install "prlm-edge[export]"')
    return config


def _build(source: Path, out: Path, format_: Format, *, tied: bool) -> None:
    """Run the builder; what it prints is shown only where it failed, and then only its last line."""
    options = ["hf_token=false", "hf_remote=false", "prune_lm_head=true", *format_.options]  # logits are 200 KB a token
    if tied:
        options.append("shared_embeddings=true")
    command = [sys.executable, "-P", "-m", "onnxruntime_genai.models.builder", "-i", str(source.resolve())]
    command += ["-o", str(out.resolve()), "-c", str(out.resolve().with_name("cache")), "-e", "cpu"]
    command += ["-p", format_.precision, "--extra_options", *options]
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quiet}, check=False)
    if done.returncode == 0:
        return
    if any(sign in done.stderr for sign in _FULL):
        raise OSError(28, os.strerror(28))
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
    raise ModelError(
        f"{source}: onnxruntime-genai can't build it: {said[-1][:200]}", "is the model whole? export it again"
    )


def _finish(source: Path, work: Path, *, tied: bool) -> None:
    """Put together the changed graph, the builder's configuration and the files that are the model's own."""
    from prlm_edge.export.onnx.graph import share_embedding

    if tied:
        share_embedding(work / "built" / "model.onnx", work / "model.onnx")
    else:
        for name in ("model.onnx", "model.onnx.data"):
            (work / "built" / name).replace(work / name)
    shutil.copyfile(work / "built" / ONNX_MARKER, work / ONNX_MARKER)
    for name in _COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, work / name)
    for licence in (path for pattern in _LICENCES for path in source.glob(pattern) if path.is_file()):
        shutil.copyfile(licence, work / licence.name)
    for name in ("built", "cache"):
        shutil.rmtree(work / name, ignore_errors=True)


def _write_card(source: Path, work: Path, about: Mapping[str, Any]) -> None:
    from prlm_edge.train.base import load_tokens

    files = sorted(path.name for path in work.iterdir() if path.is_file())
    card = {
        **about,
        "format": 1,
        "bos": load_tokens(source, 0).vocab.with_bos([]),  # what training put in front of every prompt
        "built_by": {name: version(name) for name in ("onnxruntime-genai", "onnxruntime", "onnx", "transformers")},
        "sha256": {name: hash_file(work / name) for name in files},
    }
    (work / ONNX_CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
