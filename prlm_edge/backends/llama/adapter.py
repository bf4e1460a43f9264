"""A LoRA adapter in GGUF, loaded for a model; `prlm_edge.gguf.lora` writes such files."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import ModuleType
from typing import Any

from prlm_edge.backends.engine.prefixes import file_key
from prlm_edge.backends.llama import lib as llama_lib
from prlm_edge.errors import ModelError, UsageError


class Adapter:
    """An adapter that contexts of the model can apply; llama.cpp frees it with the model at the latest.

    Args:
        lib: llama-cpp-python's low-level module.
        model: The loaded model.
        path: The adapter.

    Raises:
        UsageError: No such file.
        ModelError: Not an adapter, or not one of this model.
    """

    def __init__(self, lib: ModuleType, model: Any, path: Path) -> None:
        if not path.is_file():
            raise UsageError(f"{path}: no such adapter", "name a GGUF file that `prlm-edge export adapter` wrote")
        self.path, self._lib = path, lib
        self.key = file_key(path)
        llama_lib.last_errors.clear()
        self.pointer: Any = lib.llama_adapter_lora_init(model, str(path).encode())
        if not self.pointer:
            raise ModelError(
                f"{path}: llama.cpp can't apply it to this model: {llama_lib.reason()}",
                "give the model it was made for",
            )

    def says(self, key: str) -> str:
        """A value of the adapter's metadata as text; "" where there is none."""
        value = ctypes.create_string_buffer(256)
        n = self._lib.llama_adapter_meta_val_str(self.pointer, key.encode(), value, len(value))
        return value.value.decode("utf-8", "replace") if n >= 0 else ""

    def close(self) -> None:
        """Free it; no context may still apply it. Idempotent."""
        if self.pointer:
            self._lib.llama_adapter_lora_free(self.pointer)
            self.pointer = None
