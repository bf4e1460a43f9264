"""Rows of data sets as token ids to learn: the runtime's own retrieval, prompt and forced format.

With `loss_on: all` the past items' answers are learned from too: they are the same user's answers to the same kind of
request, one item fewer in front of each, at no further cost. What can't be learned from is left out and counted.
Not here: reading files (`prlm_edge.evaluate.data`), batches (`batches.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from prlm_edge import tasks
from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.evaluate.data import Dataset, load
from prlm_edge.evaluate.records import Row
from prlm_edge.prompt import ANSWER_CLOSE, THINK_CLOSE, Plan, make_plan, prompt_budget
from prlm_edge.rerank import make_scorer
from prlm_edge.retrieve import make_retriever
from prlm_edge.settings import Settings
from prlm_edge.style import example_line
from prlm_edge.tasks import Task
from prlm_edge.train.config import DataConfig
from prlm_edge.train.data.order import lay_out, n_steps
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.types import TokenizedPrompt
from prlm_edge.writer import Pool, make_pool

UNREADABLE = "no query, no target, or an item that can't be read"


@dataclass(frozen=True)
class Example:
    """One request with what is to be learned from it.

    Attributes:
        row: The data row's id; "/-1" and so on behind it for further examples made of past items.
        ids: Token ids of prompt and completion.
        own: For each whether the model is to write it (the loss counts these alone); as long as `ids`.
        n_prompt: How many of them are the prompt.
    """

    row: str
    ids: tuple[int, ...]
    own: tuple[bool, ...]
    n_prompt: int


@dataclass
class Examples:
    """Examples of several files, and what was left out, by reason."""

    examples: list[Example] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def n_tokens(self) -> int:
        """Tokens in all."""
        return sum(len(example.ids) for example in self.examples)

    def say(self) -> str:
        """One line for people."""
        left_out = say_skipped(self.skipped)
        return f"{len(self.examples)} examples, {self.n_tokens} tokens" + (f" ({left_out})" if left_out else "")


def say_skipped(skipped: Counter[str]) -> str:
    """What was left out, for people; "" for nothing."""
    return "; ".join(f"{n} left out: {why}" for why, n in skipped.most_common())


def settings_of(config: DataConfig, seed: int) -> Settings:
    """The runtime's settings that prompts are made with, but for what differs by row (`settings_for`)."""
    return Settings(
        retriever=config.retriever,
        k=config.k,
        item_words=config.item_words,
        item_order=config.item_order,
        layout=config.layout,
        reasoning="off",
        seed=seed,
    )


def settings_for(row: Row, settings: Settings, config: DataConfig) -> Settings:
    """Those of one row's prompt: its task, and whether it reasons (of "mixed" data half do, by their ids)."""
    odd = blake2b(row.id.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] % 2 == 1
    reasons = odd if config.reasoning == "mixed" else config.reasoning
    return replace(settings, task=row.task, reasoning="hide" if reasons else "off")


def read(
    files: Sequence[str],
    tokens: Tokens,
    config: DataConfig,
    *,
    seed: int,
    loss_on: str,
    limit: int | None,
    more_per_user: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Examples:
    """Examples of all `files`.

    Args:
        files: Data sets as `prlm_edge.evaluate.data` reads them.
        tokens: The base's tokenizer.
        config: How prompts are made.
        seed: Of the draw of users.
        loss_on: "answer", or "all" for the past items' answers too.
        limit: Users of each file.
        more_per_user: Further examples of each user, of the newest past items.
        progress: Called with (rows done, rows).

    Raises:
        UsageError: No file, no such data, or nothing in it to learn from.
        ConfigError: `loss_on` asks for what the prompts do not hold, or no prompt fits into data.max_tokens.
    """
    if not files:
        raise UsageError("no data to train on", "name a data set: --data train.jsonl.gz")
    if loss_on == "all" and (config.layout != "turns" or config.retriever == "none"):
        raise ConfigError(
            "warmstart.loss_on=all needs past items as turns",
            "use loss_on=answer, or data.layout=turns and a retriever",
        )
    found = Examples()
    rows: list[Row] = []
    for file in files:
        data = load(Path(file), limit=limit, seed=seed)
        keep_sha256(found.sha256, data)
        if data.skipped:
            found.skipped[UNREADABLE] += data.skipped
        rows += data.rows
    maker = _Maker(tokens, config, seed, loss_on)
    for done, row in enumerate(rows, 1):
        for one in (row, *_earlier(row, more_per_user)):
            example = maker.make(one)
            if isinstance(example, str):
                found.skipped[example] += 1
            else:
                found.examples.append(example)
        progress(done, len(rows))
    if not found.examples:
        raise UsageError(f"nothing to learn from: {found.say()}", "raise data.max_tokens, or check the data")
    return found


def keep_sha256(kept: dict[str, str], data: Dataset) -> None:
    """Note a file's hash by its name, numbered where another has that name: mixtures are made of many train.jsonl."""
    key, number = data.name, 1
    while key in kept:
        number += 1
        key = f"{data.name} ({number})"
    kept[key] = data.sha256


def in_order(examples: Sequence[Example], epochs: float, batch: int, seed: int) -> list[Example]:
    """The examples of all steps, one step's `batch` after the other; see `order.lay_out`.

    Raises:
        UsageError: There are none.
    """
    ids, lengths = [one.row for one in examples], [len(one.ids) for one in examples]
    steps = n_steps(len(examples), epochs, batch)
    return [examples[place] for place in lay_out(ids, lengths, steps, batch, seed)]


def plan_of(row: Row, pool: Pool, tokens: Tokens, settings: Settings) -> Plan:
    """The runtime's plan for a row: what is retrieved and how it is shown.

    Raises:
        ConfigError: The budgets leave no room for any prompt.
    """
    task = tasks.get_task(row.task)
    key = (settings.retriever, settings.seed)
    if key not in pool.retrievers:
        pool.retrievers[key] = make_retriever(settings.retriever, pool.items, seed=settings.seed)
    hits = pool.retrievers[key].search(row.query, settings.k)
    try:
        return make_plan(tokens, task, row.query, settings, make_scorer(settings), hits, pool.style)  # type: ignore[arg-type] # of a backend it only counts
    except UsageError as error:  # its hint names options of `generate`
        hint = "raise data.max_tokens, or lower grpo.reasoning_tokens"
        raise ConfigError(f"task {task.name}: {error.message}", hint) from None


def reasoning_of(plan: Plan, row: Row) -> str:
    """A true reasoning line for what the user really wrote, in the words of the examples before it."""
    earlier = [
        (number, f"{plan.task.input_of(hit.item)} {plan.task.answer_of(hit.item)}")
        for number, hit in enumerate(plan.prompt.used, 1)
    ]
    return example_line(len(earlier) + 1, row.target, row.query, earlier, plan.scoring.style)


def why_not(row: Row, pool: Pool, task: Task, tokens: Tokens) -> str:
    """Why nothing can be learned from a row; "" where it can. Items without what the task learns from are no past."""
    if not pool.items:
        return "no past writing"
    if not any(char.isprintable() and not char.isspace() for char in row.target):
        return "an answer of which nothing can be seen"
    ending = tokens.encode_text(ANSWER_CLOSE + tokens.end_of_turn, trusted=True)
    too_long = tokens.count(_one_line(row.target, task)) + len(ending) > task.answer_tokens
    return "an answer longer than its budget" if too_long else ""


def no_room(plan: Plan, tokens: Tokens) -> str:
    """Why a plan's prompt is not what it should be; "" where it is: a request cut short is one as in use."""
    query = next((drop for drop in plan.prompt.dropped if drop.what == "query"), None)
    budget = prompt_budget(tokens.info.n_ctx_max, plan.reasoning_tokens, plan.answer_tokens)
    too_long = plan.prompt.tokens > budget or (query is not None and not query.kept)
    return "no room for the request in data.max_tokens" if too_long else ""


class Pools:
    """What tasks can learn from of each row's profile; rows of one user follow each other and share it."""

    def __init__(self) -> None:
        self._last: tuple[tuple[object, ...], str, Pool] | None = None

    def of(self, row: Row, task: Task) -> Pool:
        """The pool of a row."""
        if self._last is None or self._last[0] is not row.profile or self._last[1] != task.name:
            self._last = row.profile, task.name, make_pool(row.profile, task)
        return self._last[2]


class _Maker:
    """Makes examples of rows; rows of one user follow each other and share their pool."""

    def __init__(self, tokens: Tokens, config: DataConfig, seed: int, loss_on: str) -> None:
        self._tokens, self._config, self._loss_on = tokens, config, loss_on
        self._settings = settings_of(config, seed)
        self._close = tuple(tokens.encode_text(THINK_CLOSE, trusted=True))
        self._ending = tuple(tokens.encode_text(ANSWER_CLOSE + tokens.end_of_turn, trusted=True))
        self._pools = Pools()

    def make(self, row: Row) -> Example | str:
        """The example, or why there is none."""
        task = tasks.get_task(row.task)
        answer = _one_line(row.target, task)
        pool = self._pools.of(row, task)
        if reason := why_not(row, pool, task, self._tokens):
            return reason
        plan = plan_of(row, pool, self._tokens, settings_for(row, self._settings, self._config))
        if reason := no_room(plan, self._tokens):
            return reason
        reasons = plan.reasoning_tokens > 0
        line = reasoning_of(plan, replace(row, target=answer)) if reasons else None
        prompt = self._tokens.encode_turns(plan.prompt.turns, reasons=reasons)
        more, mine = self._tokens.completion(answer, line)
        return Example(row.id, (*prompt.tokens, *more), (*self._own(prompt), *mine), len(prompt.tokens))

    def _own(self, prompt: TokenizedPrompt) -> list[bool]:
        """Which of a prompt's tokens are learned: with `loss_on: all` past replies, each with the tag that ends it."""
        own = [False] * len(prompt.tokens)
        for start, end in prompt.replies if self._loss_on == "all" else ():
            closes = prompt.tokens[end : end + len(self._close)] == self._close
            end += len(self._close if closes else self._ending)
            own[start:end] = [True] * (end - start)
        return own


def _earlier(row: Row, n: int) -> Iterator[Row]:
    """Rows made of the `n` newest past items that have a text, each with what is older as its profile."""
    task = tasks.get_task(row.task)
    made = 0
    for place in range(len(row.profile) - 1, 0, -1):
        item = row.profile[place]
        text = item.text if task.learns_from == "title" else item.title
        if made == n:
            return
        if text.strip() and task.answer_of(item):
            made += 1
            older = row.profile[:place]
            yield replace(row, id=f"{row.id}/-{made}", query=text, target=task.answer_of(item), profile=older)


def _one_line(text: str, task: Task) -> str:
    return text.strip() if task.multiline else " ".join(text.split())
