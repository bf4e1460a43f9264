"""Makes a model's tuned copies: its weights in a format that llama.cpp runs faster, alone and with our adapter in them.

llama.cpp has no matrix kernel for Q4_1; the same weights as Q8_0 evaluate a prompt 2.2 times faster and decode 1.2
times faster, for half as much memory again and a KL divergence of 0.005 (SmolLM2-135M, AVX-512). An adapter that is
laid over it at run time costs 1.40 s in place of 1.20 for 665 tokens of prompt, and 15.5 ms in place of 12.2 a token;
merged into the copy it costs nothing, and stays as near to what was trained (KL .0032; .0027 at run time). A copy takes
seconds, once, when it is first asked for. Which models gain from one is data (`tune` in models.toml). The pulled file
stays: training starts from it, and `--model FILE` runs any file as it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from prlm_edge import models
from prlm_edge.backends.llama.quantize import convert
from prlm_edge.backends.onnx.copy import copy_for
from prlm_edge.errors import ModelError, PrlmError
from prlm_edge.gguf.merge import Progress, merge
from prlm_edge.models import store
from prlm_edge.models.adapters import adapter_of, is_ours
from prlm_edge.models.choice import chosen
from prlm_edge.models.engine import ONNX, engine_of
from prlm_edge.models.tuned_copy import BAKED, RECORD, Tuned, find, most_bytes, read, stem_of
from prlm_edge.settings import Settings
from prlm_edge.storage import atomic_write, locked


class Run(NamedTuple):
    """What is run: a model's file or folder, an adapter that is laid over it, and why it is slower than it could be."""

    model: Path
    adapter: Path | None
    note: str = ""


def what_runs(settings: Settings, progress: Progress = lambda done, total: None) -> Run:
    """The files of the local model that `settings` mean; a copy that they ask for is made if there is none yet.

    What can't be made for llama.cpp is no error: the model is then run as it was pulled, and our adapter laid over it.

    Raises:
        UsageError: No such model, or one of another kind.
        MissingError: It isn't installed.
        ModelError: It or the adapter is damaged.
    """
    settings = chosen(settings)
    adapter, note = adapter_of(settings), ""
    if engine_of(settings) == ONNX and (made := copy_for(settings, adapter, progress)) is not None:
        return Run(made, None)
    if adapter is not None and is_ours(settings):
        models.resolve(settings.model)  # raises where it isn't there
        model = models.find(settings.model)
        try:
            if model.tune and (baked := make(model.folder, model.tune, adapter, progress)) is not None:
                return Run(baked, None)
        except PrlmError as error:
            note = f"slower than it could be: no copy of the model with its adapter can be made: {error.message}"
            note += f"; {error.hint}" * bool(error.hint)
    return Run(model_file(settings.model), adapter, note)


def model_file(name_or_path: str) -> Path:
    """What is run for a language model alone: as `models.resolve`, but its tuned copy is made if there is none yet.

    What can't be made is no error: the model is then run as it was pulled.
    """
    path = models.resolve(name_or_path)
    model = None if models.is_path(name_or_path) else models.find(name_or_path)
    try:
        return (make(model.folder, model.tune) if model and model.tune else None) or path
    except PrlmError:
        return path


def make(
    folder: Path, format: str, adapter: Path | None = None, progress: Progress = lambda done, total: None
) -> Path | None:
    """The copy, with `adapter` merged in where there is one, made now if need be.

    None where llama-cpp-python is not installed, so that nothing could run it.

    Args:
        folder: The installed model's.
        format: Such as "q8_0".
        adapter: A LoRA-GGUF of the model.
        progress: Called with (steps done, steps in all) while it is made with an adapter.

    Raises:
        PrlmError: There is no room, or it can't be written; the model can be run as it was pulled.
        MissingError: The gguf package, which merges, is missing.
        ModelError: It can't be converted.
    """
    if (path := find(folder, format, adapter)) is not None:
        return path
    if find_spec("llama_cpp") is None:
        return None
    with locked(folder):  # another process may just have made it
        return find(folder, format, adapter) or _make(folder, format, adapter, progress)


def _make(folder: Path, format: str, adapter: Path | None, progress: Progress) -> Path:
    source = store.check(folder, folder.name).files[0]
    stem, kept = stem_of(source.name), BAKED if adapter else RECORD
    name = f"{stem}.{'voice.' if adapter else ''}{format.upper()}.gguf"
    store.require_space(folder, most_bytes(source.size, format))
    with store.making_copy(folder) as work:
        made = work / name
        if adapter is not None:
            merge(folder / source.name, adapter, made, format, progress)
        elif why := convert(folder / source.name, made, format, requantize=True):
            raise ModelError(f"{source.name}: llama.cpp can't make a {format} copy: {why}", "free some space")
        of = models.sha256_of(adapter) if adapter else ""
        before = read(folder, kept)
        record = Tuned(name, made.stat().st_size, store.hash_file(made), format, source.sha256, of)
        made.chmod(0o600)
        made.replace(folder / name)
        with atomic_write(folder / kept, follow=False) as stream:
            stream.write(json.dumps(asdict(record), indent=2).encode())
        if before is not None and before.file not in (name, source.name):  # in a format that is used no more
            (folder / before.file).unlink(missing_ok=True)
    return folder / name
