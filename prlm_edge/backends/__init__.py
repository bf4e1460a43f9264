"""Language models behind one Protocol (`types.Backend`): llama.cpp or ONNX Runtime in-process, or a server."""

from __future__ import annotations

from typing import Any

from prlm_edge import models
from prlm_edge.backends.llama.tuned import model_file, what_runs
from prlm_edge.errors import UsageError
from prlm_edge.gguf.merge import Progress
from prlm_edge.models.adapters import NONE
from prlm_edge.models.catalog import DEFAULT
from prlm_edge.models.choice import chosen
from prlm_edge.models.engine import GGUF
from prlm_edge.settings import Settings
from prlm_edge.types import Backend

__all__ = ["model_file", "open_backend", "what_runs"]


def open_backend(settings: Settings, progress: Progress = lambda done, total: None) -> Backend:
    """The backend that `settings` ask for: a server where `base_url` is set, else a GGUF file or an ONNX folder.

    Args:
        settings: Which model, and how.
        progress: Called with (steps done, steps in all) while a faster copy of the model is made (`llama/tuned.py`).

    Raises:
        MissingError: llama-cpp-python (onnxruntime) or the model isn't there yet.
        UsageError: No such model or file, or an adapter for a server or an ONNX model.
        ModelError: The model is damaged or of another kind.
        BackendError: The server can't be reached.
    """
    settings = chosen(settings)
    if settings.base_url:
        from prlm_edge.backends.server.openai import OpenAI

        if settings.adapter not in (None, NONE):
            raise UsageError("an adapter needs a local model, and base_url is set", "leave one of them out")
        model = "" if settings.model == DEFAULT else settings.model
        return OpenAI(settings.base_url, model=model, api_key=settings.api_key, n_ctx=settings.n_ctx)
    path, adapter, note = what_runs(settings, progress)
    how: dict[str, Any] = {
        "n_ctx": settings.n_ctx,
        "n_threads": settings.threads,
        "prefix_cache": settings.prefix_cache,
        "prefix_cache_mb": settings.prefix_cache_mb,
    }
    if not path.is_dir():
        from prlm_edge.backends.llama.backend import LlamaCpp
        from prlm_edge.backends.llama.probe import try_files

        sha256 = models.sha256_of(path)
        try_files(path, sha256, adapter)
        return LlamaCpp(path, sha256=sha256, adapter=adapter, note=note, **how)
    if adapter is not None:
        raise UsageError(
            f"{path}: an adapter can't be applied to an ONNX model",
            "merge it before the export, or use the GGUF model (`--adapter none` leaves it out)",
        )
    if settings.engine == GGUF:
        raise UsageError(f"{path}: llama.cpp can't run an ONNX model", "leave the setting engine at auto")
    from prlm_edge.backends.onnx.backend import Onnx

    return Onnx(path, **how)
