"""Scores a run: a line of metrics an answer, then means with intervals, speed and failure signatures.

Computed from answers.jsonl and the data set alone, so it can be done again at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from prlm_edge import tasks
from prlm_edge.errors import UsageError
from prlm_edge.evaluate.data import Dataset
from prlm_edge.evaluate.metrics import METRICS, score_answer, similarities
from prlm_edge.evaluate.records import Answer, Condition, Row
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.signatures import signatures
from prlm_edge.evaluate.stats import summarize
from prlm_edge.storage import write_json
from prlm_edge.style import Style, style_of
from prlm_edge.types import Item

#: {condition: {metric: {"mean", "low", "high", "n_users", "n_rows"}}}
Estimates: TypeAlias = dict[str, dict[str, dict[str, Any]]]
_USAGE = ("prompt_tokens", "reasoning_tokens", "answer_tokens")


def score_run(
    run: RunFolder, data: Dataset, *, seed: int = 0, progress: Callable[[int, int], None] = lambda done, total: None
) -> Mapping[str, Any]:
    """Write the run's scores.jsonl and summary.json; returns the summary.

    Args:
        run: The run, whole or not.
        data: What it answered.
        seed: Of the bootstrap.
        progress: Called with (answers scored, answers in all).

    Raises:
        DataError: A line of the run is damaged.
    """
    rows = {row.id: row for row in data.rows}
    asked = [Condition(**one) for one in run.header["asked"]["conditions"]]
    owners = {one.name: one.profile for one in asked}
    answers = [answer for answer in run.answers() if answer.row in rows and answer.condition in owners]
    past = {row.id: _past(row) for row in data.rows}
    styles: dict[str, Style] = {}
    near = similarities([(answer.answer, answer.target) for answer in answers])
    scores = []
    for done, (answer, similarity) in enumerate(zip(answers, near, strict=True), 1):
        style = styles.get(answer.row) or styles.setdefault(answer.row, style_of(past[answer.row]))
        row = rows[answer.row]
        shown = _shown(answer, data.profile_for(row, owners[answer.condition]) or ())
        metrics = {**score_answer(answer, style, past[row.id], row.query, shown), "similarity": similarity}
        usage = {name: getattr(answer, name) for name in _USAGE}
        who = {"condition": answer.condition, "row": row.id, "user": row.user, "domain": row.domain}
        scores.append({**who, **metrics, **usage})
        progress(done, len(answers))
    run.write_scores(scores)
    by_condition: dict[str, list[tuple[Answer, Mapping[str, Any]]]] = {}
    for answer, score in zip(answers, scores, strict=True):
        by_condition.setdefault(answer.condition, []).append((answer, score))
    estimates = _estimates(scores, seed)
    summary = {
        "seed": seed,
        "conditions": {one.name: estimates[one.name] for one in asked if one.name in estimates},
        "users_per_minute": _speeds(run),
        "signatures": [asdict(found) for one in asked for found in signatures(one, by_condition.get(one.name, []))],
    }
    write_json(run.path / "summary.json", summary)
    return summary


def by_domain(run: RunFolder, seen: Container[str]) -> dict[str, Estimates]:
    """Estimates as those of all users, apart for users of domains that are `seen` and for those of other domains.

    Raises:
        UsageError: The run isn't scored, or no user has a domain.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for score in run.scores():
        if domain := score["domain"]:
            groups.setdefault("seen domains" if domain in seen else "unseen domains", []).append(score)
    if not groups:
        again = f"`prlm-edge eval score {run.path}` scores again"
        raise UsageError(f"{run.path}: no scored answer is of a user with a domain", again)
    return {name: _estimates(scores, run.header["seed"]) for name, scores in sorted(groups.items())}


def most_users(estimates: Estimates) -> int:
    """Users of the condition and metric that has most of them."""
    return max((int(one["n_users"]) for metrics in estimates.values() for one in metrics.values()), default=0)


def _estimates(scores: Sequence[Mapping[str, Any]], seed: int) -> Estimates:
    found = summarize(scores, [*METRICS, *_USAGE], seed)
    return {name: {metric: asdict(one) for metric, one in metrics.items()} for name, metrics in found.items()}


def _past(row: Row) -> list[str]:
    task = tasks.get_task(row.task)
    return [task.answer_of(item) for item in task.examples(row.profile)]


def _shown(answer: Answer, profile: Sequence[Item]) -> list[str]:
    """The whole texts of the past items that the answer's prompt showed."""
    used = {shown.id for shown in answer.used}
    return [item.searchable for item in profile if item.id in used]


def _speeds(run: RunFolder) -> dict[str, float]:
    """Rows answered a minute, by condition. Conditions that share their draws share the time."""
    rows: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for names, n_rows, taken in run.timings():
        for name in names:
            rows[name] = rows.get(name, 0) + n_rows
            seconds[name] = seconds.get(name, 0) + taken
    return {name: round(60 * rows[name] / seconds[name], 2) for name in rows if seconds[name]}
