"""The stages of `prlm-edge train`, each with its progress on the terminal, each going on where it was stopped.

A stage takes a recipe, a folder to write and an adapter to begin with, which is a training run's folder or a GGUF file,
and returns what it made. Stopped by Ctrl-C, it raises what `stopped` makes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from prlm_edge import models
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.interrupt import cancel_on_interrupt, stopped
from prlm_edge.cli.shared.progress import progress
from prlm_edge.cli.shared.table import PROG
from prlm_edge.cli.train.show import steps
from prlm_edge.errors import ModelError, UsageError
from prlm_edge.types import Cancel

if TYPE_CHECKING:
    from prlm_edge.train.config import Recipe
    from prlm_edge.train.data.examples import Examples
    from prlm_edge.train.data.prepared import Prepared
    from prlm_edge.train.data.tokens import Tokens
    from prlm_edge.train.reward.stage import RewardRun
    from prlm_edge.train.run.folder import TrainFolder
    from prlm_edge.train.types import Ask
    from prlm_edge.types import Scorer

REPORT, GGUF, REASONS = "report.html", "adapter.gguf", "reasons.jsonl"
_bars = partial(progress, at_once=True)


def _note(text: str) -> None:
    if console.is_first():
        console.note(text)


def _alone() -> None:
    """Refuse several processes.

    Raises:
        UsageError: This is one of several.
    """
    if console.several_processes():
        raise UsageError("several processes train warmstart and grpo alone", "run the other stages without a launcher")


def warmstart(
    recipe: Recipe, out: Path, adapter: Path | None, minutes: float | None = None, *, prepare: bool = False
) -> Path:
    """Supervised fine-tuning, from `adapter` or from a fresh one; for `minutes` at most, after which it can go on.

    Raises:
        typer.Exit: It was stopped, or only to `prepare` its data.
    """
    until = _until(minutes)
    from prlm_edge.train import base
    from prlm_edge.train import warmstart as stage
    from prlm_edge.train.data.prepared import Prepared
    from prlm_edge.train.run import memory, processes
    from prlm_edge.train.run.folder import TrainFolder, tasks_of

    folder_of_base = base.resolve(recipe.base.model)
    tokens = base.load_tokens(folder_of_base, recipe.data.max_tokens)
    kept = Prepared(out, recipe, folder_of_base)
    with processes.first_one_first():
        examples = _read(kept, recipe, tokens, dev=False)
        judged = _read(kept, recipe, tokens, dev=True) if recipe.data.dev_files else None
    _note(f"to learn from: {examples.say()}")
    if judged:
        _note(f"to choose by: {judged.say()}")
    if prepare:
        raise typer.Exit
    memory.check(folder_of_base, recipe, max(len(example.ids) for example in examples.examples))
    sha256 = examples.sha256 | (_dev(judged.sha256) if judged else {})
    if recipe.data.reasonings:
        sha256["reasonings"] = models.sha256_of(Path(recipe.data.reasonings))
    with processes.first_one_first():
        folder = TrainFolder.open(out, "warmstart", recipe, sha256, {*examples.tasks, *tasks_of(adapter)})
    if folder.adapter.exists():
        return folder.adapter
    cancel = Cancel()
    with cancel_on_interrupt(cancel), progress("warm start", unit="steps", at_once=True) as update:
        dev = judged.examples if judged else ()
        start = base.adapter_folder(adapter, folder_of_base) if adapter else None
        whole = stage.train(
            folder, recipe, examples.examples, dev, start=start, cancel=cancel, until=until, progress=update
        )
    return _ended(folder, recipe, whole=whole)


def reasons(recipe: Recipe, out: Path, adapter: Path | None) -> Path:
    """A file of reasonings towards the true answers, judged by the base, under `adapter` if there is one."""
    from prlm_edge.backends import open_backend
    from prlm_edge.models.adapters import NONE
    from prlm_edge.settings import Settings
    from prlm_edge.train import base, rejection
    from prlm_edge.train import reasons as stage
    from prlm_edge.train.data import prompts
    from prlm_edge.train.run.folder import TrainFolder

    _alone()
    data, sdpa = recipe.data.model_copy(update={"reasoning": True}), {"attention": "sdpa"}  # others take no such mask
    recipe = recipe.model_copy(update={"data": data, "base": recipe.base.model_copy(update=sdpa)})
    source = base.resolve(recipe.base.model)
    tokens = base.load_tokens(source, recipe.data.max_tokens)
    with progress("reading the data", unit="rows") as update:
        asked, sha256 = prompts.read(recipe.data.files, recipe, tokens, limit=recipe.data.limit, progress=update)
    if adapter is not None:
        adapter = base.adapter_folder(adapter, source)
        sha256 |= {"adapter": models.sha256_of(adapter / "adapter_model.safetensors")}
    TrainFolder.open(out, "reasons", recipe, sha256, _tasks(asked))
    file, n, cancel = out / REASONS, recipe.reasons.drafts + 1, Cancel()
    if len(rejection.read(file)) < n * len(asked):
        judge = base.load_model(source, recipe.base)
        judge = (base.resume_adapter(judge, adapter) if adapter else judge).eval()
        backend = open_backend(Settings(model=recipe.reasons.model or recipe.base.model, adapter=NONE))
        try:
            with cancel_on_interrupt(cancel), progress("drafting", unit="requests", at_once=True) as update:
                draw = stage.drawer(backend, judge, tokens, n, recipe.seed, cancel)
                whole = rejection.sample(file, asked, draw, n, cancel=cancel, progress=update)
        finally:
            backend.close()
        if not whole:
            raise stopped()
    _note(stage.say(file))
    return file


def rejection(recipe: Recipe, out: Path, adapter: Path | None) -> Path:
    """One round of rejection sampling: draw from `adapter`, keep what is good and true, fine-tune on it."""
    _alone()
    if adapter is None:
        raise UsageError("rejection sampling draws from a warm start", "give its adapter: --adapter RUN/adapter")
    from prlm_edge.train import base
    from prlm_edge.train import rejection as stage
    from prlm_edge.train import warmstart as tuning
    from prlm_edge.train.data import prompts
    from prlm_edge.train.grpo.open_engine import open_engine
    from prlm_edge.train.run.folder import TrainFolder, tasks_of

    if not recipe.data.reasoning:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"reasoning": True})})
    source = base.resolve(recipe.base.model)
    tokens = base.load_tokens(source, recipe.data.max_tokens)
    with progress("reading the data", unit="rows") as update:
        asked, sha256 = prompts.read(recipe.data.files, recipe, tokens, limit=recipe.data.limit, progress=update)
    folder = TrainFolder.open(out, "rejection", recipe, sha256, {*_tasks(asked), *tasks_of(adapter)})
    if folder.adapter.exists():
        return folder.adapter
    cancel, adapter = Cancel(), base.adapter_folder(adapter, source)
    with cancel_on_interrupt(cancel):
        engine = open_engine(recipe, source, out / "engine", tokens)
        try:
            engine.load_folder(adapter)
            with progress("drawing", unit="prompts", at_once=True) as update:
                whole = stage.sample(
                    out / "draws.jsonl",
                    asked,
                    lambda some, salt: [*map(stage.judged, engine.draw(some, salt, cancel))],
                    recipe.rejection.samples,
                    cancel=cancel,
                    progress=update,
                )
        finally:
            engine.close()
        if not whole:
            raise stopped()
        found = stage.examples(asked, stage.read(out / "draws.jsonl"), tokens, recipe.rejection)
        n_prompts = len({one.row.rpartition("#")[0] for one in found})
        _note(f"{n_prompts} of {len(asked)} prompts have answers to learn from: {len(found)} in all")
        if not found:
            raise UsageError(
                "nothing to learn from", "lower rejection.min_score or rejection.min_true, or warm-start longer"
            )
        with progress("training", unit="steps", at_once=True) as update:
            whole = tuning.train(folder, recipe, found, (), start=adapter, cancel=cancel, progress=update)
    return _ended(folder, recipe, whole=whole)


def reward(recipe: Recipe, out: Path, adapter: Path | None) -> RewardRun:
    """The reward model; `adapter`, a folder or a GGUF file, writes the answers that it learns to reject."""
    _alone()
    from prlm_edge.train.reward import base as reward_base
    from prlm_edge.train.reward import stage

    with progress("fetching the reward model's base", unit="bytes") as update:
        start = reward_base.fetch_base(update)
    adapter = _as_gguf(adapter, recipe, out)
    cancel = Cancel()
    with cancel_on_interrupt(cancel):
        found = stage.run(out, recipe, start, adapter=adapter, cancel=cancel, bars=_bars, say=_note)
    if found is None:
        raise stopped()
    return found


def blend(recipe: Recipe, out: Path, adapter: Path | None) -> Path:
    """Weights for choosing among several answers that `adapter`, a folder or a GGUF file, writes."""
    _alone()
    from prlm_edge.train import blend as stage

    adapter, cancel = _as_gguf(adapter, recipe, out), Cancel()
    with cancel_on_interrupt(cancel):
        found = stage.run(out, recipe, adapter=adapter, cancel=cancel, bars=_bars, say=_note)
    if found is None:
        raise stopped()
    return found


def grpo(
    recipe: Recipe, out: Path, adapter: Path | None, minutes: float | None = None, *, prepare: bool = False
) -> Path:
    """Reinforcement learning, from `adapter` or from a fresh one; for `minutes` at most, after which it can go on.

    Raises:
        typer.Exit: It was stopped, or only to `prepare` its data. Or it stopped for cause: why is said, and the adapter
            of the best dev point is kept.
    """
    until = _until(minutes)
    from prlm_edge.train import base
    from prlm_edge.train.data.prepared import Prepared
    from prlm_edge.train.grpo import stage
    from prlm_edge.train.run import processes
    from prlm_edge.train.run.folder import TrainFolder, tasks_of

    source = base.resolve(recipe.base.model)
    tokens = base.load_tokens(source, recipe.data.max_tokens)
    kept = Prepared(out, recipe, source)
    with processes.first_one_first():
        asked, sha256 = _prompts(kept, recipe, tokens, dev=False)
        judged, dev_sha256 = _prompts(kept, recipe, tokens, dev=True)
    _note(f"{len(asked)} prompts to draw from, {len(judged)} to choose by")
    if prepare:
        raise typer.Exit
    scorer, judge = _reward_model(recipe)
    tasks = {*_tasks(asked), *tasks_of(adapter)}
    with processes.first_one_first():
        folder = TrainFolder.open(out, "grpo", recipe, {**sha256, **_dev(dev_sha256), **judge}, tasks)
    if folder.adapter.exists():
        return folder.adapter
    cancel = Cancel()
    with cancel_on_interrupt(cancel), steps("GRPO") as shown:
        start = base.adapter_folder(adapter, source) if adapter else None
        outcome = stage.train(
            folder, recipe, asked, judged, start=start, scorer=scorer, cancel=cancel, until=until, shown=shown
        )
    found = _ended(folder, recipe, whole=outcome.whole or outcome.verdict.stop)
    if outcome.verdict.stop:
        _note(f"stopped for cause: {outcome.verdict.reason}\n{outcome.verdict.advice}")
        raise typer.Exit(1)
    return found


def _reward_model(recipe: Recipe) -> tuple[Scorer | None, dict[str, str]]:
    """The reward model, where a term needs it, and its SHA-256: a run keeps to the one it began with."""
    if not recipe.grpo.rewards.get("personalization"):
        if recipe.grpo.reward_model:
            raise UsageError("no reward term uses the reward model", "weigh it: --set grpo.rewards.personalization=0.5")
        return None, {}
    from prlm_edge.rerank.reward.scorer import LazyReward

    scorer = LazyReward(recipe.grpo.reward_model)
    return scorer, {"reward model": str(scorer.card()["sha256"]["model.onnx"])}


def recipe_in_order(recipe: Recipe, out: Path, adapter: Path | None) -> Path:
    """All stages of the recipe, each in a folder of its own and with what those before it made: the last adapter."""
    _alone()
    from prlm_edge.train.run.folder import TrainFolder, tasks_of

    for number, name in enumerate(recipe.stages, 1):
        _note(f"stage {number} of {len(recipe.stages)}: {name}")
        folder = out / f"{number}-{name}"
        if name == "reasons":
            drafted = {"reasonings": str(reasons(recipe, folder, adapter))}
            recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=drafted)})
        elif name == "blend":
            blend(recipe, folder, adapter)
        elif name == "reward":
            rated = reward(recipe, folder, adapter)
            if recipe.grpo.rewards.get("personalization"):
                with_it = recipe.grpo.model_copy(update={"reward_model": str(rated.folder)})
                recipe = recipe.model_copy(update={"grpo": with_it})
        else:
            adapter = {"warmstart": warmstart, "rejection": rejection, "grpo": grpo}[name](recipe, folder, adapter)
    if adapter is None:
        raise UsageError("the recipe's stages train no adapter", "give it warmstart or grpo: --set stages=[warmstart]")
    TrainFolder(out).keep_adapter(adapter)
    _write_gguf(adapter, out, recipe, tasks_of(adapter))
    return out / "adapter"


def _until(minutes: float | None) -> float:
    """The `time.monotonic()` that is `minutes` from now."""
    return math.inf if minutes is None else time.monotonic() + 60 * minutes


def _ended(folder: TrainFolder, recipe: Recipe, *, whole: bool) -> Path:
    """Write next to the adapter of a run the file that `generate --adapter` takes, and the report.

    Raises:
        typer.Exit: It was stopped; the file is that of the last checkpoint.
    """
    if not console.is_first():
        if not whole:
            raise stopped()
        return folder.adapter
    if not whole:
        if latest := folder.latest():
            _write_gguf(latest, folder.path, recipe, folder.header["tasks"])
        raise stopped()
    from prlm_edge.errors import MissingError
    from prlm_edge.train.run.report import write_report

    _write_gguf(folder.adapter, folder.path, recipe, folder.header["tasks"])
    try:
        write_report(folder.path, folder.path / REPORT)
    except (ImportError, MissingError, UsageError):
        _note(f'no {REPORT}: `pip install "prlm-edge[eval]"`, then `{PROG} train report {folder.path}`')
    return folder.adapter


def _dev(sha256: Mapping[str, str]) -> dict[str, str]:
    """Hashes of dev files, kept apart from those of training files, which may have the same names."""
    return {f"dev {name}": value for name, value in sha256.items()}


def _as_gguf(adapter: Path | None, recipe: Recipe, out: Path) -> Path | None:
    """An adapter as what the runtime lays over a model; a folder is written as such into `out`."""
    from prlm_edge.gguf.lora import write_lora_gguf
    from prlm_edge.storage import private_dir

    if adapter is None or not adapter.is_dir():
        return adapter
    private_dir(out)
    write_lora_gguf(adapter, _config_of_base(recipe), out / GGUF)
    return out / GGUF


def _tasks(asked: Iterable[Ask]) -> set[str]:
    return {one.scoring.task for one in asked}


def _write_gguf(adapter: Path, folder: Path, recipe: Recipe, tasks: Sequence[str]) -> None:
    """Write an adapter as the runtime takes it into `folder`."""
    from prlm_edge.gguf.lora import write_lora_gguf

    try:
        write_lora_gguf(adapter, _config_of_base(recipe), folder / GGUF, tasks=tasks)
    except ModelError as error:  # the training itself has not failed
        _note(f"no {GGUF}: {error.message}")


def _config_of_base(recipe: Recipe) -> dict[str, Any]:
    from prlm_edge.train import base

    found: dict[str, Any] = json.loads((base.resolve(recipe.base.model) / "config.json").read_text("utf-8"))
    return found


def _read(kept: Prepared, recipe: Recipe, tokens: Tokens, *, dev: bool) -> Examples:
    from prlm_edge.train.data.examples import read
    from prlm_edge.train.data.prepared import EXAMPLES

    files = recipe.data.dev_files if dev else recipe.data.files
    asked: dict[str, Any] = {
        "loss_on": "answer" if dev else recipe.warmstart.loss_on,
        "limit": recipe.data.dev_limit if dev else recipe.data.limit,
        "more_per_user": 0 if dev else recipe.data.more_per_user,
    }
    drafted = Path(recipe.data.reasonings) if recipe.data.reasonings and not dev else None
    sha256 = models.sha256_of(drafted) if drafted else None
    with progress("reading the dev data" if dev else "reading the data", unit="rows") as update:

        def make() -> Examples:
            known = None
            if drafted:
                from prlm_edge.train.reasons import best

                known = best(drafted)
            return read(files, tokens, recipe.data, seed=recipe.seed, reasonings=known, progress=update, **asked)

        return kept.get("dev-examples" if dev else "examples", EXAMPLES, files, make, reasonings=sha256, **asked)


def _prompts(kept: Prepared, recipe: Recipe, tokens: Tokens, *, dev: bool) -> tuple[list[Ask], dict[str, str]]:
    from prlm_edge.train.data.prepared import PROMPTS
    from prlm_edge.train.data.prompts import read

    files = recipe.data.dev_files if dev else recipe.data.files
    limit = recipe.data.dev_limit if dev else recipe.data.limit
    reasoning = recipe.grpo.reasoning_tokens
    with progress("reading the dev data" if dev else "reading the data", unit="rows") as update:

        def make() -> tuple[list[Ask], dict[str, str]]:
            asked, sha256 = read(files, recipe, tokens, limit=limit, progress=update)
            # Which tokenizer made a request's tokens can't be kept; whoever draws tokenizes its turns again.
            plain = [replace(one, request=replace(one.request, tokenized=None)) for one in asked]
            return plain, sha256

        return kept.get(
            "dev-prompts" if dev else "prompts", PROMPTS, files, make, limit=limit, reasoning_tokens=reasoning
        )
