"""Tiny models as `prlm_edge.export.onnx.model` exports them, each once a session."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

from tiny_chat import make_model


class Exported(NamedTuple):
    """A model as a Hugging Face folder, and its export."""

    source: Path
    folder: Path


def exported(root: Path, kind: str, quant: str, *, tied: bool = False) -> Exported:
    """Make and export a model under `root`, unless that was done."""
    return _exported(root, kind, quant, tied)


@functools.cache
def _exported(root: Path, kind: str, quant: str, tied: bool) -> Exported:
    from prlm_edge.export.onnx.model import export_onnx

    name = f"{kind}{'-tied' * tied}"
    source = root / name
    if not source.exists():
        make_model(source, kind, tie_word_embeddings=tied)
        (source / "LICENSE").write_text("Do what you like.\n")
    folder = root / f"{name}-{quant}"
    export_onnx(source, folder, quant=quant, reasons=True)
    return Exported(source, folder)


def in_pytorch(source: Path) -> Any:
    """The model as Transformers runs it."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
