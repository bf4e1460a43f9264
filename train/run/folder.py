"""A training run on disk: its recipe, its data, checkpoints that are known to be whole, and the adapter it ended in.

A run goes on only under the recipe and the data that it began with. A checkpoint counts when the list of its files,
written last, matches what lies there: a process killed while writing or deleting one leaves none that looks good.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from prlm_edge.errors import BAD_DATA, PrlmError, UsageError
from prlm_edge.gguf.header import TASKS, read_header
from prlm_edge.storage import atomic_write, fits, new_folder, private_dir, writing
from prlm_edge.train.config import Recipe, dump
from prlm_edge.train.data.prepared import FOLDER

FILES = "files.json"
_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate")


@dataclass(frozen=True)
class TrainFolder:
    """The folder of one stage of a run."""

    path: Path

    @classmethod
    def open(cls, path: Path, stage: str, recipe: Recipe, data: Mapping[str, str], tasks: Iterable[str] = ()) -> Self:
        """A new run, or one to go on with.

        Args:
            path: The folder.
            stage: "warmstart" and so on.
            recipe: Resolved.
            data: SHA-256 of each data file by name.
            tasks: Names of the tasks that are learned, for the adapter's card.

        Raises:
            UsageError: Another run lies there, or this one under another recipe (as far as the stage reads it) or on
                other data.
            PrlmError: The disk is full or not writable, or the run's header is damaged.
        """
        asked = {"stage": stage, "recipe": recipe.of_stage(stage), "data": dict(data)}
        about = {"tasks": sorted(set(tasks)), "versions": {name: version(name) for name in _PACKAGES}}
        folder = cls.begin(path, asked, about)
        if not (path / "recipe.yaml").exists():
            with atomic_write(path / "recipe.yaml") as stream:
                stream.write(dump(recipe, path).encode())
        return folder

    @classmethod
    def begin(cls, path: Path, asked: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> Self:
        """A new run, or one to go on with; `open` with a header of the caller's own.

        Args:
            path: The folder.
            asked: What must be equal for a run to go on, for JSON.
            about: What run.json holds besides.
        """
        folder = cls(path)
        if (path / "run.json").exists():
            known = folder.header
            for key, value in asked.items():
                if what := _difference(key, known.get(key), value):
                    raise UsageError(
                        f"{path}: a run with another {what}", "choose another --out, or delete that folder"
                    )
            return folder
        if path.exists() and (not path.is_dir() or any(not _before_header(one) for one in path.iterdir())):
            raise UsageError(f"{path}: not empty, and no run", "choose another --out")
        with writing(path):
            private_dir(path)
            with atomic_write(path / "run.json") as stream:  # the first file: a kill leaves a run, or nothing
                stream.write(json.dumps({**asked, **(about or {})}, indent=2).encode())
        return folder

    @property
    def header(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            PrlmError: It is missing or damaged.
        """
        try:
            found = {"stage": "", "data": {}, "tasks": [], **json.loads((self.path / "run.json").read_text("utf-8"))}
            if not fits(found, {"stage": str, "data": {str: str}, "tasks": [str]}):
                raise ValueError("odd values")
            return found
        except (OSError, *BAD_DATA):
            raise PrlmError(f"{self.path}: run.json is missing or damaged", "choose another folder") from None

    @property
    def checkpoints(self) -> Path:
        """Where the Trainer keeps checkpoint-N folders."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The trained adapter; there once the stage has ended."""
        return self.path / "adapter"

    def latest(self) -> Path | None:
        """The last whole checkpoint; torn ones are removed."""
        found: list[tuple[int, Path]] = []
        for path in self.checkpoints.glob("checkpoint-*"):
            step = path.name.rpartition("-")[2]
            if step.isdigit() and is_whole(path):
                found.append((int(step), path))
            else:
                shutil.rmtree(path)
        return max(found)[1] if found else None

    def keep_adapter(self, source: Path) -> None:
        """Make a copy of `source` this run's adapter, whole or not at all.

        Raises:
            PrlmError: The disk is full or not writable.
        """
        with new_folder(self.adapter) as work:
            shutil.copytree(source, work, dirs_exist_ok=True)


def _before_header(path: Path) -> bool:
    """Whether this is prepared data, or what a kill leaves of a header that was being written."""
    return path.name == FOLDER or (path.name.startswith(".run.json.") and path.suffix == ".tmp")


def seal(checkpoint: Path) -> None:
    """Mark `checkpoint` as whole: flush its files to disk and list their sizes."""
    sizes = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != FILES:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            sizes[path.relative_to(checkpoint).as_posix()] = path.stat().st_size
    with atomic_write(checkpoint / FILES) as stream:
        stream.write(json.dumps(sizes).encode())


def tasks_of(adapter: Path | None) -> list[str]:
    """Names of the tasks that an adapter learned: of a run's as its header says, of a GGUF file as its metadata does.

    Raises:
        PrlmError: The run's header, or the file, is damaged.
    """
    if adapter is not None and adapter.is_file():
        return [task for task in str(read_header(adapter).metadata.get(TASKS, "")).split(",") if task]
    if adapter is None or not (adapter.parent / "run.json").is_file():
        return []
    return list(TrainFolder(adapter.parent).header["tasks"])


def is_whole(checkpoint: Path) -> bool:
    """Whether every file that `seal` listed is there with its size."""
    try:
        sizes = json.loads((checkpoint / FILES).read_text("utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, *BAD_DATA):
        return False


def _difference(key: str, old: Any, new: Any) -> str:
    """The first thing that differs, such as "recipe (warmstart.lr: 0.0005, not 0.001)"; "" where nothing does.

    A setting that an older run does not name counts as None.
    """
    if old == new:
        return ""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return f"{key} ({old!r}, not {new!r})"
    for name in {**new, **old}:
        if inner := _difference(name, old.get(name), new.get(name)):
            nested = isinstance(new.get(name), dict) or key != "data"
            return f"{key}.{inner}" if nested else f"data file {name}"
    return ""
