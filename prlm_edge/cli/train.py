"""`prlm-edge train`: teach a small model how people write. Not here: how it is done (`prlm_edge.train`)."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prlm_edge.cli import EXIT_INTERRUPTED, _console
from prlm_edge.cli._interrupt import cancel_on_interrupt
from prlm_edge.cli._options import JsonFlag, new_app
from prlm_edge.cli._table import PROG, VERBS
from prlm_edge.errors import MissingError, UsageError
from prlm_edge.types import Cancel

if TYPE_CHECKING:
    from prlm_edge.train.config import Recipe
    from prlm_edge.train.data import Examples
    from prlm_edge.train.run_folder import TrainFolder

app = new_app(help=VERBS["train"].help, no_args_is_help=True)
_NEEDED = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "gguf", "yaml")

RecipeOption = Annotated[str, typer.Option("--recipe", metavar="NAME|FILE", help="`train recipes` lists ours.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as warmstart.lr=1e-4.")]
DataOption = Annotated[list[Path] | None, typer.Option("--data", "-d", help="A data set; several make a mixture.")]
DevOption = Annotated[list[Path] | None, typer.Option("--dev", help="Other users' data, to choose the adapter by.")]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="A name, a GGUF file, a Hugging Face folder.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The run's folder, new or to go on with.")]
QloraFlag = Annotated[bool, typer.Option("--qlora", help="Keep the base in 4 bits (NF4): base.precision=nf4.")]


@app.callback()
def _needs_packages() -> None:
    """Say at once what is missing."""
    missing = [name for name in _NEEDED if not find_spec(name)]
    if missing:
        raise MissingError(f"training needs {', '.join(missing)}", 'pip install "prlm-edge[train]"')


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", help="Show this one, every value spelled out.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """List the recipes, or show one with all of its keys, their values and what they mean."""
    from prlm_edge.train import config

    if name is None:
        found = [{"name": one, "about": config.about(one)} for one in config.named()]
        if json:
            _console.emit_json(found)
        else:
            _console.table([[one["name"], one["about"]] for one in found])
        return
    recipe = config.load(name)
    if json:
        _console.emit_json(recipe.model_dump(mode="json"))
    else:
        _console.out(config.explained(recipe))


@app.command()
def warmstart(
    out: OutOption,
    data: DataOption = None,
    dev: DevOption = None,
    recipe: RecipeOption = "edge-cpu",
    model: ModelOption = None,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="Go on from this adapter.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Users of each file.")] = None,
    qlora: QloraFlag = False,
    set_: SetOption = None,
    json: JsonFlag = False,
) -> None:
    """Learn from what users really wrote: an adapter over a frozen model, on a GPU or on a CPU.

    Stopped by Ctrl-C or killed, the same command goes on and ends in the same adapter.
    """
    from prlm_edge.train import base, memory
    from prlm_edge.train import warmstart as stage
    from prlm_edge.train.run_folder import TrainFolder

    wanted = _recipe(recipe, set_, data, dev, model, limit, qlora=qlora)
    folder_of_base = base.resolve(wanted.base.model)
    tokens = base.load_tokens(folder_of_base, wanted.data.max_tokens)
    examples = _read(wanted, tokens, dev=False)
    judged = _read(wanted, tokens, dev=True) if wanted.data.dev_files else None
    _console.note(f"to learn from: {examples.say()}")
    if judged:
        _console.note(f"to choose by: {judged.say()}")
    memory.check(folder_of_base, wanted, max(len(example.ids) for example in examples.examples))
    sha256 = examples.sha256 | (judged.sha256 if judged else {})
    folder = TrainFolder.open(out, "warmstart", wanted, sha256)
    cancel = Cancel()
    with cancel_on_interrupt(cancel), _console.progress("training", unit="steps", at_once=True) as update:
        whole = stage.train(
            folder,
            wanted,
            examples.examples,
            judged.examples if judged else (),
            start=adapter,
            cancel=cancel,
            progress=update,
        )
    _finish(folder, wanted, whole=whole, json=json)


@app.command()
def rejection(
    out: OutOption,
    adapter: Annotated[Path, typer.Option("--adapter", help="The warm start that draws, and is trained on.")],
    data: DataOption = None,
    recipe: RecipeOption = "edge-cpu",
    model: ModelOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Users of each file.")] = None,
    set_: SetOption = None,
    json: JsonFlag = False,
) -> None:
    """Learn from the model's own best answers: draw several with reasoning, keep the good and true, fine-tune on them.

    Give the adapter that comes out to the next round. Stopped or killed, the same command goes on.
    """
    from prlm_edge.train import base, prompts, rollout
    from prlm_edge.train import rejection as stage
    from prlm_edge.train import warmstart as tuning
    from prlm_edge.train.run_folder import TrainFolder

    wanted = _recipe(recipe, ["data.reasoning=true", *(set_ or [])], data, None, model, limit, qlora=False)
    source = base.resolve(wanted.base.model)
    tokens = base.load_tokens(source, wanted.data.max_tokens)
    with _console.progress("reading the data", unit="rows") as update:
        asked, sha256 = prompts.read(wanted.data.files, wanted, tokens, limit=wanted.data.limit, progress=update)
    folder = TrainFolder.open(out, "rejection", wanted, sha256)
    cancel = Cancel()
    with cancel_on_interrupt(cancel):
        engine = rollout.open_engine(wanted, source, out / "engine", tokens)
        try:
            engine.load_folder(adapter)
            with _console.progress("drawing", unit="prompts", at_once=True) as update:
                whole = stage.sample(
                    out / "draws.jsonl",
                    asked,
                    lambda some, salt: [one.rollout for one in engine.draw(some, salt, cancel)],
                    wanted.rejection.samples,
                    cancel=cancel,
                    progress=update,
                )
        finally:
            engine.close()
        found = stage.examples(asked, stage.read(out / "draws.jsonl"), tokens, wanted.rejection) if whole else []
        if whole:
            _console.note(f"{len(found)} of {len(asked)} prompts have an answer to learn from")
            if not found:
                raise UsageError("nothing to learn from", "lower rejection.min_score, or warm-start longer")
            with _console.progress("training", unit="steps", at_once=True) as update:
                whole = tuning.train(folder, wanted, found, (), start=adapter, cancel=cancel, progress=update)
    _finish(folder, wanted, whole=whole, json=json)


@app.command()
def grpo(
    out: OutOption,
    data: DataOption = None,
    dev: DevOption = None,
    recipe: RecipeOption = "edge-cpu",
    model: ModelOption = None,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="The warm start to begin with.")] = None,
    reward_model: Annotated[Path | None, typer.Option("--reward-model", help="An exported reward model.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Users of each file.")] = None,
    set_: SetOption = None,
    json: JsonFlag = False,
) -> None:
    """Learn from rewards: answers are drawn, judged and learned from, group by group (GRPO).

    Stopped by Ctrl-C or killed, the same command goes on. A run that learns nothing, or games its reward, stops and
    says what to change; the adapter of the best dev point is kept.
    """
    from prlm_edge.train import base, prompts
    from prlm_edge.train import grpo as stage
    from prlm_edge.train.live import make_view
    from prlm_edge.train.run_folder import TrainFolder

    wanted = _recipe(recipe, set_, data, dev, model, limit, qlora=False, reward_model=reward_model)
    tokens = base.load_tokens(base.resolve(wanted.base.model), wanted.data.max_tokens)
    with _console.progress("reading the data", unit="rows") as update:
        limits = wanted.data.limit, wanted.data.dev_limit
        asked, sha256 = prompts.read(wanted.data.files, wanted, tokens, limit=limits[0], progress=update)
        judged, dev_sha256 = prompts.read(wanted.data.dev_files, wanted, tokens, limit=limits[1], progress=update)
    _console.note(f"{len(asked)} prompts to draw from, {len(judged)} to choose by")
    scorer = None
    if wanted.grpo.reward_model:
        from prlm_edge.rerank.reward import RewardScorer

        scorer = RewardScorer(Path(wanted.grpo.reward_model))
    folder = TrainFolder.open(out, "grpo", wanted, {**sha256, **dev_sha256})
    cancel = Cancel()
    with cancel_on_interrupt(cancel):
        outcome = stage.train(
            folder, wanted, asked, judged, start=adapter, scorer=scorer, cancel=cancel, watcher=make_view()
        )
    if outcome.verdict.stop:
        _console.note(f"stopped for cause: {outcome.verdict.reason}\n{outcome.verdict.advice}")
        raise typer.Exit(1)
    _finish(folder, wanted, whole=outcome.whole, json=json)


def _finish(folder: TrainFolder, recipe: Recipe, *, whole: bool, json: bool) -> None:
    """Say where the adapter is, or how to go on."""
    if not whole:
        _console.note(f"stopped; the same command goes on: {shlex.join([PROG, *sys.argv[1:]])}")
        raise typer.Exit(EXIT_INTERRUPTED)
    if json:
        _console.emit_json({"adapter": str(folder.adapter), "fingerprint": recipe.fingerprint()})
    else:
        _console.out(str(folder.adapter))


def _recipe(
    name: str,
    overrides: list[str] | None,
    data: list[Path] | None,
    dev: list[Path] | None,
    model: str | None,
    limit: int | None,
    *,
    qlora: bool,
    reward_model: Path | None = None,
) -> Recipe:
    from prlm_edge.train import config

    given: dict[str, Any] = {
        "data.files": [str(path) for path in data] if data else None,
        "data.dev_files": [str(path) for path in dev] if dev else None,
        "base.model": model,
        "data.limit": limit,
        "base.precision": "nf4" if qlora else None,
        "grpo.reward_model": str(reward_model) if reward_model else None,
    }
    return config.load(name, overrides or (), given)


def _read(recipe: Recipe, tokens: Any, *, dev: bool) -> Examples:
    from prlm_edge.train.data import read

    with _console.progress("reading the dev data" if dev else "reading the data", unit="rows") as update:
        return read(
            recipe.data.dev_files if dev else recipe.data.files,
            tokens,
            recipe.data,
            seed=recipe.seed,
            loss_on="answer" if dev else recipe.warmstart.loss_on,
            limit=recipe.data.dev_limit if dev else recipe.data.limit,
            more_per_user=0 if dev else recipe.data.more_per_user,
            progress=update,
        )
