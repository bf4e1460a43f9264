"""Which engine runs a local model: llama.cpp, which runs GGUF files, or ONNX Runtime, which runs folders made of them.

llama.cpp has to be compiled where it is installed; ONNX Runtime comes ready for every system.
"""

from __future__ import annotations

from importlib.util import find_spec

from prlm_edge.settings import Settings

GGUF, ONNX = "gguf", "onnx"


def engine_of(settings: Settings) -> str:
    """`GGUF` or `ONNX`: what the setting says; for "auto" llama.cpp where it is installed, else ONNX Runtime."""
    if settings.engine != "auto":
        return settings.engine
    return ONNX if find_spec("llama_cpp") is None else GGUF
