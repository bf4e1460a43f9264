"""Where a run's figures come from: data, models, settings, versions and machine, as run.json records them."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prlm_edge import models
from prlm_edge.backends import what_runs
from prlm_edge.cpu import cpu_name, usable_cores
from prlm_edge.evaluate.conditions import SET_BY_THE_RUN, settings_of
from prlm_edge.evaluate.data import Dataset
from prlm_edge.evaluate.records import Condition
from prlm_edge.models.adapters import adapter_of
from prlm_edge.rerank import make_scorer
from prlm_edge.rerank.blend import Blend
from prlm_edge.rerank.reward.scorer import LazyReward
from prlm_edge.settings import DEFAULTS

_SAID_OTHERWISE = {*SET_BY_THE_RUN, "model"}  # "models" says which one "auto" was
_PACKAGES = ("prlm-edge", "llama-cpp-python", "rank_bm25", "onnxruntime", "rouge-score", "sacrebleu", "numpy")


def header(data: Dataset, conditions: Sequence[Condition], seed: int, command: str) -> dict[str, Any]:
    """What run.json of a new run records. "asked" must be equal for a run to go on.

    Raises:
        UsageError: A condition's model does not exist.
        MissingError: A condition's model isn't pulled yet.
        ModelError: A condition's model is damaged.
    """
    return {
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "asked": {
            "data": {
                "name": data.name,
                "sha256": data.sha256,
                "task": data.task,
                "n_rows": len(data.rows),
                "n_users": data.n_users,
                "skipped": data.skipped,
                **({"asks": list(data.asks)} if data.asks else {}),
            },
            "models": _models(conditions),
            "defaults": {key: value for key, value in DEFAULTS.items() if key not in _SAID_OTHERWISE},
            "conditions": [{**asdict(condition), "settings": dict(condition.settings)} for condition in conditions],
            "seed": seed,
        },
        "versions": versions(_PACKAGES),
        "machine": {
            "cpu": cpu_name(),
            "cores": usable_cores(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }


def _models(conditions: Sequence[Condition]) -> dict[str, dict[str, str]]:
    """{name: {"file", "sha256"}} of the models, adapters, reward models and weights that the conditions run."""
    found: dict[str, dict[str, str]] = {}
    for condition in conditions:
        settings = settings_of(condition, "")
        scorer = None if condition.baseline or settings.n_drawn == 1 else make_scorer(settings)
        if isinstance(scorer, LazyReward):
            sha256 = scorer.card()["sha256"]["model.onnx"]
            found[settings.reward_model or "bundled reward model"] = {"file": scorer.folder.name, "sha256": sha256}
        if isinstance(scorer, Blend):
            scorer.check()
            of = {"file": scorer.path.name, "sha256": models.sha256_of(scorer.path)}
            found[settings.blend_weights or "bundled weights"] = of
        adapter = None if condition.baseline else adapter_of(settings)
        if adapter is not None:
            key = settings.adapter or "bundled adapter"
            found[key] = {"file": adapter.name, "sha256": models.sha256_of(adapter)}
        if condition.baseline:
            continue
        if settings.base_url:
            found[settings.model] = {"file": settings.base_url, "sha256": ""}
        else:
            run = what_runs(settings)
            merged = f" with {key}" if adapter is not None and run.adapter is None else ""
            found[settings.model + merged] = {"file": run.model.name, "sha256": _sha256(run.model)}
    return found


def _sha256(path: Path) -> str:
    """The hash of a model's weights: of a GGUF file, or as the card of an ONNX folder has it ("" without one)."""
    if path.is_dir():
        from prlm_edge.backends.onnx import folder as onnx_folder

        return onnx_folder.read(path).sha256
    return models.sha256_of(path)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
