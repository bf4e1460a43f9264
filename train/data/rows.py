"""Rows of data sets as the runtime's own plans: what training shows is what `generate` would show.

Rows from which nothing can be learned are named with the reason, and counted by those who read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.evaluate.data import Dataset, load
from prlm_edge.evaluate.records import Row
from prlm_edge.prompt import ANSWER_CLOSE, Plan, prompt_budget
from prlm_edge.settings import Settings
from prlm_edge.tasks import Task, get_task
from prlm_edge.train.config import DataConfig, DataFile
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.writer import Asker, as_text

UNREADABLE = "no query, no target, or an item that can't be read"


@dataclass
class DataRows:
    """The rows of several files, the file of each, what was left out by reason, and the files' SHA-256 by name."""

    rows: list[Row] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    sha256: dict[str, str] = field(default_factory=dict)


def read_rows(files: Sequence[DataFile], config: DataConfig, *, limit: int | None, seed: int) -> DataRows:
    """The rows of all `files`; arguments and errors as those of `read_file`."""
    found = DataRows()
    for file in files:
        data = read_file(file, config, limit=limit, seed=seed)
        keep_sha256(found.sha256, data)
        if data.skipped:
            found.skipped[UNREADABLE] += data.skipped
        found.rows += data.rows
        found.files += [file] * len(data.rows)
    return found


def read_file(
    file: DataFile, config: DataConfig, *, limit: int | None, seed: int, per_user: int | None = None
) -> Dataset:
    """One file of a mixture; what it does not say itself is as `config` says.

    Args:
        file: Which rows of which file.
        config: What its rows are asked with.
        limit: Users of it at most.
        seed: Of the draw of users.
        per_user: Rows of each user at most.

    Raises:
        UsageError: No such file, no such data.
    """
    asks = config.ask if file.ask is None else file.ask
    limits = [min((n for n in some if n), default=None) for some in ((limit, file.limit), (per_user, file.per_user))]
    data = load(Path(file.path), limit=limits[0], per_user=limits[1], seed=seed, asks=asks)
    if file.ask and len(file.ask) == 1:  # the mixture may ask these rows again with another of their forms
        data = replace(data, rows=tuple(replace(row, id=f"{row.id}/{row.ask}") for row in data.rows))
    return data


def own_ids(rows: Sequence[Row]) -> list[str]:
    """An id of its own for each row, by which what is drawn for it is found.

    Several files, or one file asked in several ways, may give rows one id: then a number follows it.
    """
    taken, found = Counter[str](), list[str]()
    for row in rows:
        taken[row.id] += 1
        found.append(row.id if taken[row.id] == 1 else f"{row.id} ({taken[row.id]})")
    return found


def keep_sha256(kept: dict[str, str], data: Dataset) -> None:
    """Note a file's hash by its name, numbered where another has that name: mixtures are made of many train.jsonl."""
    key, number = data.name, 1
    while key in kept:
        number += 1
        key = f"{data.name} ({number})"
    kept[key] = data.sha256


def say_skipped(skipped: Counter[str]) -> str:
    """What was left out, for people; "" for nothing."""
    return "; ".join(f"{n} left out: {why}" for why, n in skipped.most_common())


def settings_of(config: DataConfig, seed: int) -> Settings:
    """The runtime's settings that prompts are made with, except what differs by row (`settings_for`)."""
    return Settings(**shown(config), reasoning="off", seed=seed)


def shown(config: DataConfig) -> dict[str, Any]:
    """The settings that say which past items prompts show, and how."""
    return {key: getattr(config, key) for key in ("retriever", "k", "item_words", "item_order", "layout")}


def settings_for(row: Row, settings: Settings, config: DataConfig) -> Settings:
    """Those of one row's prompt: its task, and whether it reasons (of "mixed" data half do, by their ids)."""
    odd = blake2b(row.id.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] % 2 == 1
    reasons = odd if config.reasoning == "mixed" else config.reasoning
    return replace(settings, task=row.task, reasoning="hide" if reasons else "off")


class Planner:
    """Makes plans of rows; rows of one user should follow each other.

    Args:
        tokens: The base's tokenizer.
        config: How prompts are made.
        settings: The same as the runtime's settings; see `settings_of`.
    """

    def __init__(self, tokens: Tokens, config: DataConfig, settings: Settings) -> None:
        self._tokens, self._config, self._settings = tokens, config, settings
        self._asker = Asker()
        self._n_ending = len(tokens.encode_text(ANSWER_CLOSE + tokens.end_of_turn, trusted=True))

    def plan(self, row: Row) -> Plan | str:
        """What the model is asked for a row, or why nothing can be learned from it.

        Raises:
            ConfigError: The budgets leave no room for any prompt.
        """
        task = get_task(row.task)
        if reason := self._why_not(row, task):
            return reason
        settings = settings_for(row, self._settings, self._config)
        try:
            plan = self._asker.plan(row.query, row.profile, settings, self._tokens.prompts, self._tokens.info)
        except UsageError as error:  # its hint names options of `generate`
            hint = "raise data.max_tokens, or lower grpo.reasoning_tokens"
            raise ConfigError(f"task {task.name}: {error.message}", hint) from None
        query = next((drop for drop in plan.prompt.dropped if drop.what == "query"), None)
        budget = prompt_budget(self._tokens.info.n_ctx_max, plan.reasoning_tokens, plan.answer_tokens)
        if plan.prompt.tokens > budget or (query is not None and not query.kept):  # one cut short is one as in use
            return "no room for the request in data.max_tokens"
        return plan

    def _why_not(self, row: Row, task: Task) -> str:
        if not as_text(row.query):
            return UNREADABLE
        if not self._asker.pool(row.profile, task).items:
            return "no past writing"
        if not any(char.isprintable() and not char.isspace() for char in row.target):
            return "an answer of which nothing can be seen"
        too_long = self._tokens.count(one_line(row.target, task)) + self._n_ending > task.answer_tokens
        return "an answer longer than its budget" if too_long else ""


def one_line(text: str, task: Task) -> str:
    """An answer as the task writes it: on one line unless it may have several."""
    return text.strip() if task.multiline else " ".join(text.split())
