"""The reward model's stage as a whole: answers generated, pairs, teacher, student, int8 export, how good it is.

    OUT/answers/N-train/    what the base (with the warm start's adapter) wrote, a run of `prlm-edge eval` a file
    OUT/teacher  OUT/student
    OUT/reward_model/       what devices load: model.onnx, tokenizer.json, reward.json with the figures on dev users

Every step keeps what it has done: stopped or killed, the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.records import Condition, Row
from prlm_edge.prompt import SHOWN
from prlm_edge.rerank.reward.encoder import Encoder
from prlm_edge.rerank.reward.scorer import RewardScorer
from prlm_edge.train.config import DataFile, Recipe
from prlm_edge.train.data.answers import Bars, answered, condition
from prlm_edge.train.data.rows import read_rows
from prlm_edge.train.reward import evaluate as reward_eval
from prlm_edge.train.reward import pairs as pairing
from prlm_edge.train.reward import to_onnx as reward_onnx
from prlm_edge.train.reward.batches import Tokenized
from prlm_edge.train.reward.model import train_student, train_teacher
from prlm_edge.train.reward.pairs import Pairs
from prlm_edge.train.types import Progress
from prlm_edge.types import Cancel

_N_PARITY = 400  # pairs by which the int8 model is compared


@dataclass(frozen=True)
class RewardRun:
    """The result of the stage.

    Attributes:
        folder: Of the exported model.
        figures: `evaluate.evaluate` of it on the dev users' pairs; empty without dev files.
    """

    folder: Path
    figures: dict[str, Any]


def run(
    out: Path,
    recipe: Recipe,
    base: Path,
    *,
    adapter: Path | None = None,
    cancel: Cancel,
    bars: Bars,
    say: Callable[[str], None],
) -> RewardRun | None:
    """Run the stage, or go on with it; None where it was cancelled.

    Args:
        out: The stage's folder.
        recipe: Resolved.
        base: The folder of what the teacher starts from (`base.fetch_base`).
        adapter: GGUF file of the adapter that answers are generated with.
        cancel: Ends after what is under way.
        bars: Shows progress.
        say: Told in a line what there is to learn from, and the like.

    Raises:
        UsageError: No data, or the folder holds another run.
        PrlmError: The disk is full, or the export differs from what was trained.
    """
    files, dev_files = recipe.data.files, recipe.data.dev_files
    if not files:
        raise UsageError("no data to train on", "name a data set: --data train.jsonl.gz")
    config = recipe.reward
    generated = []
    for part, some in (("train", files), ("dev", dev_files)):
        generated.append(_generate(out / "answers", part, some, recipe, adapter, cancel, bars))
        if cancel.cancelled:
            return None
    with bars("making pairs", "rows") as update:
        learned = _pairs(_rows(files, recipe.data.limit, recipe), generated[0], recipe, update)
        judged = _pairs(_rows(dev_files, recipe.data.dev_limit, recipe), generated[1], recipe, update)
    say(f"to learn from: {learned.say()}")
    if judged.pairs:
        say(f"to judge by: {judged.say()}")
    encoder = Encoder(base / "tokenizer.json", config.max_length)
    tokenized = Tokenized.of(learned.pairs, encoder)
    source = base
    for train in (train_teacher, train_student):
        name = train.__name__.removeprefix("train_")
        with bars(f"training the {name}", "steps") as update:
            trained = train(out / name, source, tokenized, config, seed=recipe.seed, cancel=cancel, progress=update)
        if trained is None:
            return None
        source = trained
    return _export(out, source, recipe, learned, judged, say)


def _export(
    out: Path, student: Path, recipe: Recipe, learned: Pairs, judged: Pairs, say: Callable[[str], None]
) -> RewardRun:
    folder, config = out / "reward_model", recipe.reward
    about = {"pairs": learned.say(), "recipe": config.model_dump(mode="json"), "seed": recipe.seed}
    sample = (judged.pairs or learned.pairs)[:: max(1, len(judged.pairs or learned.pairs) // _N_PARITY)]
    parity = reward_onnx.export(student, folder, sample, max_length=config.max_length, about=about)
    say(f"int8: correlation {parity.correlation:.4f}, pairs in the same order {parity.agreement:.3f}")
    if not judged.pairs:
        return RewardRun(folder, {})
    figures = judge(RewardScorer(folder), judged, recipe.seed)
    reward_onnx.add_to_card(folder, {"dev": figures, "dev_pairs": judged.say()})
    return RewardRun(folder, figures)


def judge(scorer: RewardScorer, pairs: Pairs, seed: int) -> dict[str, Any]:
    """The figures of `evaluate.evaluate` for the exported model."""
    asks = [(p.context, p.chosen) for p in pairs.pairs] + [(p.other, p.rejected) for p in pairs.pairs]
    scores = np.array(scorer.score_all(asks))
    n = len(pairs.pairs)
    return reward_eval.evaluate(pairs.pairs, scores[:n], scores[n:], seed)


def conditions(recipe: Recipe, adapter: Path | None) -> tuple[Condition, ...]:
    """The conditions to generate answers under for the recipe's kinds of pairs."""
    wanted = {need for kind in recipe.reward.kinds for need in pairing.NEEDS.get(kind, ())}
    several = {"own": recipe.reward.candidates}
    return tuple(
        condition(name, recipe, adapter, profile, several.get(name, 1))
        for name, profile in pairing.GENERATED.items()
        if name in wanted
    )


def _generate(
    out: Path,
    part: str,
    files: Sequence[DataFile],
    recipe: Recipe,
    adapter: Path | None,
    cancel: Cancel,
    bars: Bars,
) -> dict[str, dict[str, list[str]]]:
    """Answers of `reward.users` users a file, by kind of generation and row; {} where it was stopped."""
    asked = conditions(recipe, adapter)
    users = recipe.reward.users if part == "train" else recipe.data.dev_limit
    command = "prlm-edge train reward"
    runs = answered(out, part, files, asked, users=users, recipe=recipe, command=command, cancel=cancel, bars=bars)
    return pairing.generated_of(answer for run, _ in runs or () for answer in run.answers())


def _pairs(rows: Sequence[Row], generated: pairing.Generated, recipe: Recipe, progress: Progress) -> Pairs:
    if not rows:
        return Pairs()
    k = recipe.data.k or SHOWN["text"][0]
    return pairing.make_pairs(rows, recipe.reward, generated, k=k, seed=recipe.seed, progress=progress)


def _rows(files: Sequence[DataFile], limit: int | None, recipe: Recipe) -> list[Row]:
    return read_rows(files, recipe.data, limit=limit, seed=recipe.seed).rows
