"""Weights for `select blend`: ridge regression of what candidates are worth on what is known of them.

    OUT/answers/N-train/   what the model wrote for training users, several answers each
    OUT/blend.json         the weights, and how well they choose

Candidates of one request compete among themselves alone, so all is taken less the request's mean. The penalty is the
one that chooses best in cross-validation by users; the figures are those of users left out too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prlm_edge import tasks
from prlm_edge.errors import UsageError
from prlm_edge.evaluate.data import Dataset
from prlm_edge.evaluate.records import Answer, Row
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.stats import estimate
from prlm_edge.rerank.blend import FEATURES, FORMAT, evidence
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_l
from prlm_edge.storage import atomic_write
from prlm_edge.train.config import Recipe
from prlm_edge.train.data.answers import Bars, answered, condition
from prlm_edge.train.data.rows import keep_sha256
from prlm_edge.types import Cancel, Candidate, Scoring
from prlm_edge.writer import make_pool

FILE = "blend.json"
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # in candidates
_FOLDS = 5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The candidates of one request.

    Attributes:
        user: Whose request it is.
        known: Their evidence, shape (candidates, features).
        worth: Mean of ROUGE-1 and ROUGE-L with what the user wrote, shape (candidates,).
        first: Which one would have been written alone.
    """

    user: str
    known: Array
    worth: Array
    first: int

    @classmethod
    def of(cls, user: str, candidates: Sequence[Candidate], context: Scoring, target: str) -> Group:
        """A group from the candidates drawn for one request."""
        wanted = Counted(target)
        rows = [[one[name] for name in FEATURES] for one in evidence(candidates, context)]
        said = [Counted(one.answer) for one in candidates]
        worth = [(rouge_1(one, wanted) + rouge_l(one, wanted)) / 2 for one in said]
        first = min(range(len(candidates)), key=lambda i: candidates[i].seed)
        return cls(user, np.array(rows, np.float64), np.array(worth, np.float64), first)


def run(
    out: Path, recipe: Recipe, *, adapter: Path | None, cancel: Cancel, bars: Bars, say: Callable[[str], None]
) -> Path | None:
    """Draw, learn and write `FILE`; returns where it lies, None where it was stopped.

    Args:
        out: The stage's folder.
        recipe: Resolved.
        adapter: GGUF file of the adapter that answers.
        cancel: Ends after what is under way; the same call goes on.
        bars: Shows progress.
        say: Told in a line what there is to learn from, and what was learned.

    Raises:
        UsageError: No data, nothing to choose between, or the folder holds another run.
        PrlmError: The disk is full.
    """
    if not recipe.data.files:
        raise UsageError("no data to train on", "name a data set: --data train.jsonl.gz")
    asked = condition("own", recipe, adapter, best_of=recipe.blend.candidates)
    runs = answered(
        out / "answers",
        "train",
        recipe.data.files,
        (asked,),
        users=recipe.blend.users,
        recipe=recipe,
        command="prlm-edge train blend",
        cancel=cancel,
        bars=bars,
    )
    if runs is None:
        return None
    groups = [group for found, data in runs for group in read_groups(found, data)]
    say(f"to learn from: {len(groups)} requests, {sum(len(group.worth) for group in groups)} candidates")
    weights, figures = learn(groups, recipe.seed)
    about: dict[str, Any] = {"recipe": recipe.blend.model_dump(), "seed": recipe.seed, "requests": len(groups)}
    about["data"] = {}
    for _, data in runs:
        keep_sha256(about["data"], data)
    with atomic_write(out / FILE) as stream:
        found = {"format": FORMAT, "weights": weights, "figures": figures, "about": about}
        stream.write(json.dumps(found, indent=1).encode() + b"\n")
    return out / FILE


def read_groups(run_: RunFolder, data: Dataset) -> Iterator[Group]:
    """The requests of a run whose candidates differ."""
    rows = {row.id: row for row in data.rows}
    for answer in run_.answers():
        row = rows[answer.row]
        candidates = [
            Candidate(str(one["answer"]), seed=int(one["seed"]), logprob=one["logprob"])
            for one in answer.candidates
            if one["answer"]
        ]
        if len({one.answer for one in candidates}) > 1:
            yield Group.of(row.user, candidates, _context(row, answer), row.target)


def learn(groups: Sequence[Group], seed: int) -> tuple[dict[str, float], dict[str, Any]]:
    """The weights by feature, and figures: what choosing is worth, by users that were not learned from.

    Raises:
        UsageError: Fewer than `_FOLDS` users.
    """
    folds = _folds(groups, seed)
    chosen = {penalty: _left_out(groups, folds, penalty) for penalty in _PENALTIES}
    penalty = max(_PENALTIES, key=lambda one: float(chosen[one].mean()))
    one = np.array([group.worth[group.first] for group in groups])
    gain = estimate([(group.user, float(x)) for group, x in zip(groups, chosen[penalty] - one, strict=True)], seed)
    assert gain is not None  # there are users
    figures = {
        "one answer": float(one.mean()),
        "random": float(np.mean([group.worth.mean() for group in groups])),
        "agreement": float(np.mean([group.worth[int(group.known[:, 0].argmax())] for group in groups])),
        "blend": float(chosen[penalty].mean()),
        "best": float(np.mean([group.worth.max() for group in groups])),
        "gain": asdict(gain),
        "penalty": penalty,
    }
    weights = fit(groups, penalty)
    return dict(zip(FEATURES, map(float, weights), strict=True)), figures


def fit(groups: Sequence[Group], penalty: float) -> Array:
    """Ridge regression within requests, of features of spread one; weights of the features as they are."""
    x = np.concatenate([group.known - group.known.mean(0) for group in groups])
    y = np.concatenate([group.worth - group.worth.mean() for group in groups])
    spread = x.std(0)
    spread[spread == 0] = np.inf  # what never differs has no weight
    z = x / spread
    found: Array = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ y) / spread
    return found


def _left_out(groups: Sequence[Group], folds: NDArray[np.int64], penalty: float) -> Array:
    """The worth of the answer chosen by weights that were learned from the other folds."""
    found = np.empty(len(groups))
    for fold in range(_FOLDS):
        weights = fit([group for group, of in zip(groups, folds, strict=True) if of != fold], penalty)
        for i in np.flatnonzero(folds == fold).tolist():
            found[i] = groups[i].worth[int((groups[i].known @ weights).argmax())]
    return found


def _folds(groups: Sequence[Group], seed: int) -> NDArray[np.int64]:
    users = sorted({group.user for group in groups})
    if len(users) < _FOLDS:
        raise UsageError(
            f"answers that differ of {len(users)} users: too few to learn from", "raise blend.users, or give more data"
        )
    order = np.random.default_rng(seed).permutation(len(users))
    of = {user: int(place) % _FOLDS for user, place in zip(users, order, strict=True)}
    return np.array([of[group.user] for group in groups])


def _context(row: Row, answer: Answer) -> Scoring:
    """The context that the scorer had in use; a run's lines keep what the user wrote for the items shown."""
    style = make_pool(row.profile, tasks.get_task(row.task)).style
    return Scoring(row.query, row.task, style, past=tuple(shown.title for shown in answer.used))
