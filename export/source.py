"""What is exported, and as what: a training run's adapter with its recipe and base, and what the user asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prlm_edge import models
from prlm_edge.errors import BAD_DATA, UsageError
from prlm_edge.models.store import hash_file
from prlm_edge.storage import expanded
from prlm_edge.train import base, config
from prlm_edge.train.config import DataFile, Recipe
from prlm_edge.train.run.folder import TrainFolder, tasks_of

WEIGHTS = "adapter_model.safetensors"
MAX_KL = 0.02  # of the format that `auto` chooses
ROUGE_USERS = 30
MIN_STOPPED = 0.9  # share of answers that end by themselves


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        out: The folder to publish.
        name: The model's name.
        quant: A format, or "auto".
        files: Data to hold the export to.
        limit: Users of each file.
        licence: SPDX identifier of the result.
        attribution: Markdown for the model card.
        max_kl: What `auto` allows.
        rouge_users: How many users `auto` answers with each format, to score the answers; 0 for none.
        min_stopped: Share of answers that must end by themselves.
    """

    out: Path
    name: str
    quant: str
    files: tuple[DataFile, ...]
    limit: int = 60
    licence: str = "Apache-2.0"
    attribution: str = ""
    max_kl: float = MAX_KL
    rouge_users: int = ROUGE_USERS
    min_stopped: float = MIN_STOPPED


@dataclass(frozen=True)
class Trained:
    """A trained adapter with where it comes from.

    Attributes:
        adapter: Folder with adapter_config.json and adapter_model.safetensors.
        recipe: By which it was trained; its `base.model` names the base.
        base: The base as a Hugging Face folder.
        base_file: The GGUF file that the base came from; None where it is a Hugging Face folder.
        run: The run's folder; None for an adapter alone.
        data: SHA-256 of the data files it learned from, by name; empty where unknown.
        stages: Names of the stages that led to it, where known.
        tasks: Names of the tasks that it was trained for, where known.
    """

    adapter: Path
    recipe: Recipe
    base: Path
    base_file: Path | None
    run: Path | None
    data: Mapping[str, str]
    stages: tuple[str, ...]
    tasks: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the adapter's weights."""
        return hash_file(self.adapter / WEIGHTS)

    @property
    def base_name(self) -> str:
        """For people."""
        return self.base_file.name if self.base_file else self.base.name

    @property
    def reasons(self) -> bool:
        """Whether it reasons by default; a model that learned both ways answers at once (docs/training.md)."""
        return self.recipe.data.reasoning is True

    def base_sha256(self) -> str:
        """Of the base: its GGUF file, or its weights and config in a fixed order."""
        if self.base_file is not None:
            return models.sha256_of(self.base_file)
        parts = sorted(self.base.glob("*.safetensors"))
        return "+".join(hash_file(path) for path in (self.base / "config.json", *parts))


def open_source(path: Path, *, model: str | None = None) -> Trained:
    """Find the adapter of `path`: a run (of one stage, or a whole recipe), or an adapter's own folder or GGUF file.

    Args:
        path: The folder or file.
        model: The base, where no run names it, or another copy of it.

    Raises:
        UsageError: No adapter there, or nothing says what it was trained on.
        ConfigError: The run's recipe can't be read.
    """
    tasks: tuple[str, ...] = ()
    if path.is_file():
        if model is None:
            raise UsageError(f"{path}: nothing says what it was trained on", "name it: --model default, or a folder")
        tasks, path = tuple(tasks_of(path)), base.adapter_folder(path, base.resolve(model))
    adapter = path / "adapter" if (path / "adapter" / WEIGHTS).is_file() else path
    if not (adapter / WEIGHTS).is_file():
        raise UsageError(f"{path}: no trained adapter in it", "name a training run that has ended, or its adapter")
    stages = _stages(path, adapter)
    recipe = _recipe(stages[-1] if stages else None, adapter, model)
    named = recipe.base.model
    folder = base.resolve(named)
    file = None if expanded(named).is_dir() else models.resolve(named, original=True)
    data: dict[str, str] = {}
    headers = [TrainFolder(stage).header for stage in stages]
    for header in headers:
        data |= header["data"]
    run = stages[-1] if stages else None
    tasks = tuple(sorted({task for header in headers for task in header["tasks"]})) or tasks
    return Trained(adapter, recipe, folder, file, run, data, tuple(header["stage"] for header in headers), tasks)


def _stages(path: Path, adapter: Path) -> list[Path]:
    """The run folders that led to the adapter; the last one is its own."""
    for folder in (path, adapter.parent):
        if (folder / "run.json").is_file():
            return [folder]
        found = sorted(one.parent for one in folder.glob("[0-9]*-*/run.json"))
        trained = [one for one in found if TrainFolder(one).header.get("stage") != "reward"]
        if trained:
            return trained
    return []


def _recipe(run: Path | None, adapter: Path, model: str | None) -> Recipe:
    given = {"base.model": model}
    if run is not None and (run / "recipe.yaml").is_file():
        return config.load(str(run / "recipe.yaml"), given=given)
    if model is None:
        given["base.model"] = _named_base(adapter)
    return config.load("edge-cpu", given=given)


def _named_base(adapter: Path) -> str:
    """The base that an adapter's own config names, where it is on this machine."""
    try:
        named = str(json.loads((adapter / "adapter_config.json").read_text("utf-8")).get("base_model_name_or_path", ""))
    except (OSError, *BAD_DATA):
        named = ""
    if named and Path(named).is_dir():
        return named
    raise UsageError(f"{adapter}: nothing says what it was trained on", "name it: --model default, or a folder")
