"""Makes the copies of an installed GGUF model that ONNX Runtime runs: alone, and with an adapter merged in.

What becomes ONNX is what llama.cpp would run: the tuned copy if there is one, else a GGUF file that is made of the
pulled one for the moment (`prlm_edge.gguf.merge`). Seconds, once; which model and adapter a copy is of, its card says.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from prlm_edge import models
from prlm_edge.errors import MissingError, UsageError
from prlm_edge.gguf.merge import Progress, merge
from prlm_edge.models import store, tuned_copy
from prlm_edge.models.onnx_copy import about, find, path_of
from prlm_edge.settings import Settings
from prlm_edge.storage import locked

_OTHER_ENGINE = 'install the engine that runs GGUF files: pip install "prlm-edge[gguf]"'


def copy_for(settings: Settings, adapter: Path | None, progress: Progress = lambda done, total: None) -> Path | None:
    """The ONNX folder of the model that `settings` mean, made now if need be; None where that is an ONNX folder itself.

    Raises:
        UsageError: No such model or adapter.
        MissingError: The model or ONNX Runtime isn't installed, or it is a GGUF file of the user's own.
        ModelError: It is damaged, or of a kind that can't be converted.
        PrlmError: There is no room, or it can't be written.
    """
    path = models.resolve(settings.model)
    if path.is_dir():
        return None
    if models.is_path(settings.model):
        raise MissingError(f"{path}: ONNX Runtime runs installed models, not GGUF files", _OTHER_ENGINE)
    if adapter is not None and not adapter.is_file():
        raise UsageError(f"{adapter}: no such adapter", "name a GGUF file that `prlm-edge export adapter` wrote")
    model = models.find(settings.model)
    if (made := make(model.folder, model.tune, adapter, progress)) is None:
        raise MissingError("no engine that runs local models is installed", 'pip install "prlm-edge[local]"')
    return made


def make(
    folder: Path, format: str, adapter: Path | None = None, progress: Progress = lambda done, total: None
) -> Path | None:
    """The copy, with `adapter` merged in where there is one, made now if need be.

    None where ONNX Runtime is not installed, so that nothing could run it.

    Args:
        folder: The installed model's.
        format: What its matrices are in, such as "q8_0"; "" for that of its file.
        adapter: A LoRA-GGUF of the model.
        progress: Called with (steps done, steps in all) while it is made.

    Raises:
        MissingError: The gguf package is missing, and it has to be merged or brought into the format.
        ModelError: It can't be converted.
        PrlmError: There is no room, or it can't be written.
    """
    if (path := find(folder, format, adapter)) is not None:
        return path
    if find_spec("onnxruntime") is None:
        return None
    with locked(folder):  # another process may just have made it
        return find(folder, format, adapter) or _make(folder, format, adapter, progress)


def _make(folder: Path, format: str, adapter: Path | None, progress: Progress) -> Path:
    from prlm_edge.gguf.to_onnx.convert import convert  # a request to llama.cpp needs none of it

    target, said = path_of(folder, format, adapter), about(folder, format, adapter)
    source = tuned_copy.find(folder, format, adapter) if format else None
    pulled = folder / store.check(folder, folder.name).files[0].name
    with store.making_copy(folder) as work:
        if source is None and (format or adapter):
            source = work / "merged.gguf"
            merge(pulled, adapter, source, format or None, lambda done, total: progress(done, 2 * total))
            convert(source, target, lambda done, total: progress(total + done, 2 * total), said)
        else:
            convert(source or pulled, target, progress, said)
    return target
