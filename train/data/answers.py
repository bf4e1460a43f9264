"""Answers of users' models to learn a judge from: a run of `prlm-edge eval run` a data file, drawn once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from prlm_edge.evaluate.conditions import make
from prlm_edge.evaluate.data import Dataset
from prlm_edge.evaluate.provenance import header
from prlm_edge.evaluate.records import Condition, Owner
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.runner import answer_all
from prlm_edge.models.adapters import NONE
from prlm_edge.train.config import DataFile, Recipe
from prlm_edge.train.data.rows import read_file, shown
from prlm_edge.train.types import Progress
from prlm_edge.types import Cancel

#: Opens a progress bar: (what is done, unit) -> a context that gives the function to call with (done, total).
Bars = Callable[[str, str], AbstractContextManager[Progress]]


def condition(name: str, recipe: Recipe, adapter: Path | None, profile: Owner = "own", best_of: int = 1) -> Condition:
    """A way of answering with the recipe's model and its prompts.

    Args:
        name: Of the condition.
        recipe: Resolved.
        adapter: GGUF file of the adapter that answers; None: none, not even the one that comes with prlm-edge.
        profile: Whose past items are shown.
        best_of: Answers to draw.
    """
    shared = shown(recipe.data)
    shared |= {"model": recipe.base.model, "reasoning": "hide" if recipe.data.reasoning is True else "off"}
    shared |= {"adapter": str(adapter) if adapter else NONE, "profile": profile}
    # The ranking is not used here, and must not need the weights that are yet to be learned.
    return make(name, shared | ({"best_of": best_of, "select": "consensus"} if best_of > 1 else {}))


def answered(
    out: Path,
    part: str,
    files: Sequence[DataFile],
    conditions: Sequence[Condition],
    *,
    users: int | None,
    recipe: Recipe,
    command: str,
    cancel: Cancel,
    bars: Bars,
) -> list[tuple[RunFolder, Dataset]] | None:
    """One request of each of `users` users of each file, answered under `conditions`; None where it was stopped.

    What is there is not drawn again.

    Args:
        out: Holds a run OUT/N-PART a file.
        part: "train" or "dev".
        files: Data sets.
        conditions: How to answer.
        users: Of each file.
        recipe: Its seed is that of the draw of users and of the answers; and what is asked with.
        command: What the runs' headers say they were made by.
        cancel: Ends after what is under way.
        bars: Shows progress.
    """
    found = []
    for number, file in enumerate(files if conditions else (), 1):
        data = read_file(file, recipe.data, limit=users, per_user=1, seed=recipe.seed)
        run = RunFolder.create(
            out / f"{number}-{part}", header(data, conditions, recipe.seed, command) | {"source": {}}
        )
        with bars(f"generating answers ({part}, {data.name})", "answers") as update:
            if not answer_all(run, data, conditions, seed=recipe.seed, cancel=cancel, progress=update):
                return None
        found.append((run, data))
    return found
