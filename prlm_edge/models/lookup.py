"""What a model's name means (`find`) and where an installed model is (`resolve`). Never uses the network."""

from __future__ import annotations

import re
from pathlib import Path

from prlm_edge.errors import UsageError, did_you_mean
from prlm_edge.models import onnx_copy, store, tuned_copy
from prlm_edge.models.catalog import FileSource, Model, ModelFile, named, registry
from prlm_edge.models.engine import GGUF, ONNX
from prlm_edge.storage import expanded

_HF_NAME = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+\.gguf)(?:@(?P<revision>[\w./-]+))?")


def find(name: str) -> Model:
    """The model that `name` means: a name or alias of the registry, or `hf://owner/repo/file.gguf[@revision]`.

    Raises:
        UsageError: No such name; the hint has the nearest one.
    """
    if (model := named(name)) is not None:
        return model
    if name.startswith("hf://"):
        match = _HF_NAME.fullmatch(name)
        if match is None or ".." in name:
            raise UsageError(
                f"{name}: not a model name", "it must look like hf://owner/repo/file.gguf or hf://…/file.gguf@revision"
            )
        path = match["file"]
        source = FileSource(hf=match["repo"], path=path, revision=match["revision"] or "main")
        return Model(
            str(source),
            "llm",
            f"{path} of {match['repo']}",
            "see its repository",
            (ModelFile(path.rpartition("/")[2], source),),
        )
    if (export := _exported(name)) is not None:
        return export
    known = [n for model in registry().values() for n in (model.name, *model.aliases)]
    known += [manifest.name for _, manifest in store.installed()]
    rest = "`prlm-edge model list` shows the names; a path to a .gguf file works too"
    raise UsageError(f"unknown model {name!r}", did_you_mean(name.lower(), known, rest))


def _exported(name: str) -> Model | None:
    """An export that `prlm-edge model install` installed under `name`."""
    manifest = store.installed_export(name)
    if manifest is None:
        return None
    files_ = tuple(ModelFile(f.name, FileSource(), f.size, f.sha256) for f in manifest.files)
    return Model(name, manifest.kind, "made by prlm-edge export", manifest.licence, files_)


def resolve(
    name_or_path: str, kind: str = "llm", *, original: bool = False, adapter: Path | None = None, engine: str = GGUF
) -> Path:
    """Where the model is: the .gguf file of an "llm", the folder of an "embedder". Never uses the network.

    Args:
        name_or_path: A registry name or alias, an `hf://` name, or a path to a local file (folder for an embedder).
        kind: What the caller can use: "llm" (an ONNX model's folder too), "embedder" or "adapter".
        original: The file as it was pulled, even where there is a tuned copy of it (`tuned_copy.py`).
        adapter: The copy with this adapter merged in, where there is one.
        engine: The copy that this one runs, where there is one.

    Raises:
        MissingError: A known model that isn't installed; the hint is the command that installs it.
        UsageError: An unknown name, a path that doesn't exist, or a model of another kind.
        ModelError: It is installed but damaged.
    """
    if is_path(name_or_path):
        return _local(expanded(name_or_path), kind)
    model = find(name_or_path)
    if model.kind != kind and (model.kind, kind) != ("onnx-llm", "llm"):
        wanted = {"llm": "a language model", "embedder": "an embedder", "adapter": "an adapter"}
        raise UsageError(
            f"{name_or_path} is {wanted.get(model.kind, model.kind)}, not {wanted.get(kind, kind)}",
            "`prlm-edge model list` shows what each model is for",
        )
    store.check(model.folder, model.name)
    if model.kind in ("embedder", "onnx-llm"):
        return model.folder
    find_copy = onnx_copy.find if engine == ONNX else tuned_copy.find
    for merged in (adapter, None) if (model.tune or engine == ONNX) and not original else ():
        if (copy := find_copy(model.folder, model.tune, merged)) is not None:
            return copy
    return model.folder / model.files[0].name


def is_path(name: str) -> bool:
    """Whether a model's name is a path to a local file or folder."""
    if name.startswith("hf://"):
        return False
    if name.endswith((".gguf", ".GGUF")) or "/" in name or "\\" in name or name.startswith("~"):
        return True
    return named(name) is None and Path(name).exists() and _exported(name) is None


def _local(path: Path, kind: str) -> Path:
    if not path.exists():
        raise UsageError(
            f"{path}: no such model file", "give a path to a .gguf file, or a name of `prlm-edge model list`"
        )
    if not (path.is_file() or path.is_dir()):  # a device could be read for ever
        raise UsageError(f"{path}: neither a file nor a folder", "give a path to a .gguf file")
    if kind == "llm" and path.is_dir() and (path / "export.json").is_file():
        return next(iter(sorted(path.glob("*.gguf"))), path)
    if kind == "llm" and path.is_dir():
        if store.is_onnx(path):
            return path
        raise UsageError(f"{path} is a folder, not a model file", "give the .gguf file inside it, or an ONNX export")
    if kind == "embedder" and not all((path / name).is_file() for name in ("model.onnx", "tokenizer.json")):
        raise UsageError(f"{path}: not an embedder", "it must be a folder with model.onnx and tokenizer.json")
    return path
