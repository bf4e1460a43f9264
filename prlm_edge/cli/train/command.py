"""`prlm-edge train`: teach a small model how people write."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.options import JsonFlag, adds, new_app
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import MissingError, UsageError
from prlm_edge.models.adapters import OURS, ours_for

if TYPE_CHECKING:
    from prlm_edge.train.config import Recipe

app = new_app(help=VERBS["train"], invoke_without_command=True)
_NEEDED = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "gguf")

OUT = typer.Option("--out", "-o", metavar="RUN", help="The run's folder, new or to go on with.")
OutOption = Annotated[Path, OUT]
MinutesOption = Annotated[
    float | None,
    typer.Option("--minutes", min=0, help="Stop after so long, with a checkpoint: the same command goes on."),
]
PrepareFlag = Annotated[
    bool,
    typer.Option(
        "--prepare", help="Only tokenize the data into RUN/prepared: the same command reads it, on any machine."
    ),
]


@dataclass(frozen=True)
class _Asked:
    """What a stage does: its recipe with changes, and the adapter that it begins with."""

    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data", "-d", help="A data set; several make a mixture. Or the folder of those that the recipe names."
        ),
    ] = None
    dev: Annotated[list[Path] | None, typer.Option("--dev", help="Other users' data, to choose the adapter by.")] = None
    recipe: Annotated[str, typer.Option("--recipe", metavar="NAME|FILE", help="`train recipes` lists ours.")] = (
        "edge-cpu"
    )
    model: Annotated[str | None, typer.Option("--model", "-m", help="A name, a GGUF file, a Hugging Face folder.")] = (
        None
    )
    reward_model: Annotated[Path | None, typer.Option("--reward-model", help="An exported reward model's folder.")] = (
        None
    )
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--adapter",
            metavar="DIR|FILE|ours",
            help="Begin with this adapter: RUN/adapter, a GGUF file, or the one that comes with prlm-edge.",
        ),
    ] = None
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Users of each file, drawn by the seed.")] = None
    qlora: Annotated[bool, typer.Option("--qlora", help="Keep the base in 4 bits (NF4): base.precision=nf4.")] = False
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as warmstart.lr=1e-4.")] = (
        None
    )

    def load(self, *before: str) -> Recipe:
        """The recipe with what the options change in it, after the changes `before`.

        Raises:
            UsageError: A file is missing, which is said before PyTorch is loaded.
        """
        from prlm_edge.train import config

        root = self.data[0] if self.data and len(self.data) == 1 and self.data[0].is_dir() else None
        given: dict[str, Any] = {
            "data.files": [str(path) for path in self.data] if self.data and not root else None,
            "data.dev_files": [str(path) for path in self.dev] if self.dev else None,
            "base.model": self.model,
            "data.limit": self.limit,
            "base.precision": "nf4" if self.qlora else None,
            "grpo.reward_model": str(self.reward_model) if self.reward_model else None,
        }
        recipe = config.load(self.recipe, [*before, *(self.set_ or ())], given, root)
        if not recipe.data.files:
            raise UsageError("no data to train on", "name a data set: --data train.jsonl.gz")
        others = recipe.data.reasonings or ".", self.begin_with(recipe) or "."
        for path in (*(file.path for file in (*recipe.data.files, *recipe.data.dev_files)), *others):
            if not Path(path).is_file() and not Path(path).is_dir():
                raise UsageError(
                    f"{path}: no such file", "check the path; --data FOLDER says where a recipe's data lie"
                )
        return recipe

    def begin_with(self, recipe: Recipe) -> Path | None:
        """The adapter's folder or file.

        Raises:
            UsageError: "ours", and none comes with prlm-edge for the recipe's model.
        """
        if self.adapter is None or str(self.adapter) != OURS:
            return self.adapter
        if (found := ours_for(recipe.base.model)) is None:
            hint = "name another: --adapter RUN/adapter; `prlm-edge model list` shows which models have a voice"
            raise UsageError(f"no adapter comes with prlm-edge for {recipe.base.model}", hint)
        return found


@app.callback(
    help="""Teach a small model how people write: the whole recipe in order, or one of its stages.

Stopped by Ctrl-C or killed, the same command goes on and ends in the same adapter. With --qlora and nothing else said,
the base is kept in 4 bits.

\b
prlm-edge train --qlora --data train.jsonl --dev dev.jsonl --out RUN
prlm-edge generate --adapter RUN/adapter.gguf --user me.jsonl "title for ..."
"""
)
@adds("asked", _Asked, without=("reward_model",))
def whole(
    context: typer.Context,
    asked: _Asked,
    out: Annotated[Path | None, OUT] = None,
    json: JsonFlag = False,
) -> None:
    """Run the whole recipe."""
    missing = [name for name in _NEEDED if not find_spec(name)]
    if missing:  # said at once, not after an hour
        raise MissingError(f"training needs {', '.join(missing)}", 'pip install "prlm-edge[train]"')
    console.hush_libraries()
    sources = map(context.get_parameter_source, context.params)
    given = any(source is not None and source.name == "COMMANDLINE" for source in sources)
    if context.invoked_subcommand:
        if given:
            raise UsageError(
                f"options of the whole recipe come before {context.invoked_subcommand}",
                f"write them after it: train {context.invoked_subcommand} --out RUN ...",
            )
        return
    if not given:
        console.out(context.get_help())
        return
    if out is None:
        raise UsageError("no folder for the run", "name one: --out RUN")
    from prlm_edge.cli.train import stages

    recipe = asked.load()
    _say(stages.recipe_in_order(recipe, out, asked.begin_with(recipe)), recipe, json=json)


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
            console.emit_json(found)
        else:
            console.table([[one["name"], one["about"]] for one in found])
        return
    recipe = config.load(name)
    if json:
        console.emit_json(recipe.model_dump(mode="json"))
    else:
        console.out(config.explained(recipe))


@app.command()
@adds("asked", _Asked, without=("dev", "reward_model"))
def reasons(
    out: OutOption,
    asked: _Asked,
    json: JsonFlag = False,
) -> None:
    """Write reasonings towards the true answers, which a warm start learns (--set data.reasonings=RUN/reasons.jsonl).

    A model (--set reasons.model=NAME) drafts several for each request, knowing the answer. Each is judged by how much
    likelier it makes that answer to the model that will be trained; the best is learned, or the line that is built from
    facts if none gains more. Stopped or killed, the same command goes on.
    """
    from prlm_edge.cli.train import stages

    recipe = asked.load()
    found = stages.reasons(recipe, out, asked.begin_with(recipe))
    if json:
        console.emit_json({"reasonings": str(found)})
    else:
        console.out(str(found))


@app.command()
@adds("asked", _Asked, without=("reward_model",))
def warmstart(
    out: OutOption,
    asked: _Asked,
    minutes: MinutesOption = None,
    prepare: PrepareFlag = False,
    json: JsonFlag = False,
) -> None:
    """Learn from what users really wrote: an adapter over a frozen model, on a GPU or on a CPU.

    Stopped by Ctrl-C or killed, the same command goes on and ends in the same adapter; adapter.gguf is meanwhile that
    of the last checkpoint. Several GPUs: accelerate launch -m prlm_edge train warmstart ...
    """
    from prlm_edge.cli.train import stages

    recipe = asked.load()
    _say(stages.warmstart(recipe, out, asked.begin_with(recipe), minutes, prepare=prepare), recipe, json=json)


@app.command()
@adds(
    "asked",
    _Asked,
    without=(
        "qlora",
        "reward_model",
    ),
)
def reward(
    out: OutOption,
    asked: _Asked,
    json: JsonFlag = False,
) -> None:
    """Train the reward model: how likely it is that this user wrote this answer. `--select reward` uses it.

    It learns to tell what users wrote from what the model writes without their past or under somebody else's, from
    other users' texts, from broken style, and one profile from another. Give --adapter, and the answers that it
    learns to reject are the warm-started model's. Figures are those of the dev users. Stopped or killed, the same
    command goes on.
    """
    from prlm_edge.cli.train import stages
    from prlm_edge.cli.train.show import show_reward

    recipe = asked.load()
    found = stages.reward(recipe, out, asked.begin_with(recipe))
    if json:
        console.emit_json({"reward_model": str(found.folder), "dev": found.figures})
        return
    if found.figures:
        show_reward(found.figures)
    console.out(str(found.folder))


@app.command()
@adds(
    "asked",
    _Asked,
    without=(
        "dev",
        "limit",
        "qlora",
        "reward_model",
    ),
)
def blend(
    out: OutOption,
    asked: _Asked,
    json: JsonFlag = False,
) -> None:
    """Learn how to choose among several answers: weights for `--select blend`, from candidates for training users.

    Several answers are drawn for each of them; what they have in common with what the user wrote is learned from what
    is known without it: agreement, the model's belief, style, words shared with the request and the past. Give
    --adapter, and the candidates are the trained model's. Stopped or killed, the same command goes on.
    """
    from prlm_edge.cli.train import stages
    from prlm_edge.cli.train.show import show_blend

    recipe = asked.load()
    found = stages.blend(recipe, out, asked.begin_with(recipe))
    if json:
        console.emit_json({"blend_weights": str(found)})
        return
    show_blend(found)
    console.out(str(found))


@app.command()
@adds(
    "asked",
    _Asked,
    without=(
        "dev",
        "qlora",
        "reward_model",
    ),
)
def rejection(
    out: OutOption,
    asked: _Asked,
    json: JsonFlag = False,
) -> None:
    """Learn from the model's own best answers: draw several with reasoning, keep the good and true, fine-tune on them.

    Give the adapter that comes out to the next round. Stopped or killed, the same command goes on.
    """
    from prlm_edge.cli.train import stages

    recipe = asked.load("data.reasoning=true")
    _say(stages.rejection(recipe, out, asked.begin_with(recipe)), recipe, json=json)


@app.command()
@adds("asked", _Asked)
def grpo(
    out: OutOption,
    asked: _Asked,
    minutes: MinutesOption = None,
    prepare: PrepareFlag = False,
    json: JsonFlag = False,
) -> None:
    """Learn from rewards: answers are drawn, judged and learned from, group by group (GRPO).

    Stopped by Ctrl-C or killed, the same command goes on. A run that learns nothing, or games its reward, stops and
    says what to change; the adapter of the best dev point is kept. Several GPUs: as with warmstart.
    """
    from prlm_edge.cli.train import stages

    recipe = asked.load()
    _say(stages.grpo(recipe, out, asked.begin_with(recipe), minutes, prepare=prepare), recipe, json=json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a stage.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="By default RUN/report.html.")] = None,
    samples: Annotated[bool, typer.Option(help="Also what was asked and written.")] = True,
) -> None:
    """Write a run's report: one HTML file with curves, recipe and samples, which needs no network."""
    from prlm_edge.train.run.report import write_report

    console.out(str(write_report(run, out, samples=samples)))


def _say(adapter: Path, recipe: Recipe, *, json: bool) -> None:
    """Say where the adapter is."""
    if not console.is_first():
        return
    if json:
        console.emit_json({"adapter": str(adapter), "fingerprint": recipe.fingerprint()})
    else:
        console.out(str(adapter))
