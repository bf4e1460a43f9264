"""Rows of data sets as token ids to learn: the runtime's own retrieval, prompt and forced format.

With `loss_on: all` the past items' answers are learned from too: they are the same user's answers to the same kind of
request, one item fewer in front of each, at no further cost. What can't be learned from is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.evaluate.records import QueryForm, Row
from prlm_edge.prompt import ANSWER_CLOSE, THINK_CLOSE
from prlm_edge.style import example_line
from prlm_edge.tasks import get_task
from prlm_edge.train.config import DataConfig, DataFile
from prlm_edge.train.data.order import lay_out, n_steps
from prlm_edge.train.data.rows import Planner, one_line, own_ids, read_rows, say_skipped, settings_of
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.types import Scoring, Shape, TokenizedPrompt

_SHAPES: Mapping[QueryForm, Shape] = {"short": "topic", "text": "text", "diff": "change"}


@dataclass(frozen=True)
class Example:
    """One request with what is to be learned from it.

    Attributes:
        row: The data row's id; examples made of past items add "/-1" and so on.
        ids: Token ids of prompt and completion.
        own: As long as `ids`: whether the model is to write the token. Only these count in the loss.
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
    tasks: set[str] = field(default_factory=set)

    @property
    def n_tokens(self) -> int:
        """Tokens in all."""
        return sum(len(example.ids) for example in self.examples)

    def say(self) -> str:
        """One line for people."""
        left_out = say_skipped(self.skipped)
        return f"{len(self.examples)} examples, {self.n_tokens} tokens" + (f" ({left_out})" if left_out else "")


def read(
    files: Sequence[DataFile],
    tokens: Tokens,
    config: DataConfig,
    *,
    seed: int,
    loss_on: str,
    limit: int | None,
    more_per_user: int = 0,
    reasonings: Mapping[tuple[str, str], str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Examples:
    """Examples of all `files`.

    Args:
        files: Data sets, each with what it says itself of its rows.
        tokens: The base's tokenizer.
        config: How prompts are made.
        seed: Of the draw of users.
        loss_on: "answer", or "all" for the past items' answers too.
        limit: Users of each file at most.
        more_per_user: Further examples of each row, of the newest past items, where its file says nothing.
        reasonings: By row (`own_ids`) and target what is learned in place of the built lines (`train.reasons.best`).
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
    data = read_rows(files, config, limit=limit, seed=seed)
    found = Examples(skipped=data.skipped, sha256=data.sha256)
    maker = _Maker(tokens, Planner(tokens, config, settings_of(config, seed)), loss_on)
    known = reasonings or {}
    for done, (row, file, own_id) in enumerate(zip(data.rows, data.files, own_ids(data.rows), strict=True), 1):
        more = more_per_user if file.more_per_user is None else file.more_per_user
        shapes = config.more_shapes if file.more_shapes is None else file.more_shapes
        for one in (row, *_earlier(row, more, shapes)):
            example = maker.make(one, known.get((own_id, row.target)) if one is row else None)
            if isinstance(example, str):
                found.skipped[example] += 1
            else:
                found.examples.append(example)
                found.tasks.add(one.task)
        progress(done, len(data.rows))
    if not found.examples:
        raise UsageError(f"nothing to learn from: {found.say()}", "raise data.max_tokens, or check the data")
    return found


def in_order(examples: Sequence[Example], epochs: float, batch: int, seed: int) -> list[Example]:
    """The examples of all steps, one step's `batch` after the other; see `order.lay_out`.

    Raises:
        UsageError: There are none.
    """
    ids, lengths = [one.row for one in examples], [len(one.ids) for one in examples]
    steps = n_steps(len(examples), epochs, batch)
    return [examples[place] for place in lay_out(ids, lengths, steps, batch, seed)]


class _Maker:
    """Makes examples of rows."""

    def __init__(self, tokens: Tokens, planner: Planner, loss_on: str) -> None:
        self._tokens, self._planner, self._loss_on = tokens, planner, loss_on
        self._close = tuple(tokens.encode_text(THINK_CLOSE, trusted=True))
        self._ending = tuple(tokens.encode_text(ANSWER_CLOSE + tokens.end_of_turn, trusted=True))

    def make(self, row: Row, reasoning: str | None = None) -> Example | str:
        """The example, with `reasoning` in place of the built line, or why there is none."""
        plan = self._planner.plan(row)
        if isinstance(plan, str):
            return plan
        answer, prompt = one_line(row.target, plan.task), plan.prompt.tokenized
        assert prompt is not None  # made with our own tokenizer
        line = (reasoning or built_line(plan.scoring, answer)) if plan.reasoning_tokens else None
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


def built_line(of: Scoring, answer: str) -> str:
    """A true reasoning line for what the user really wrote, in the words of the examples before it."""
    task = get_task(of.task)
    asked = [task.input_of(hit.item, of.shape) for hit in of.used]
    earlier = [(number, f"{text} {past}") for number, (text, past) in enumerate(zip(asked, of.past, strict=True), 1)]
    return example_line(len(earlier) + 1, answer, of.query, earlier, of.style, of.shape)


def _earlier(row: Row, n: int, shapes: Sequence[Shape]) -> Iterator[Row]:
    """Rows made of the `n` newest past items that have a text, each with what is older as its profile.

    They are asked for in `shapes` by turns, or in that of the row.
    """
    shapes = shapes or (_SHAPES[row.ask],)
    task = get_task(row.task)
    made = 0
    for place in range(len(row.profile) - 1, 0, -1):
        item = row.profile[place]
        text = item.text if task.learns_from == "title" else item.title
        if made == n:
            return
        if text.strip() and task.answer_of(item):
            asked, older = task.input_of(item, shapes[made % len(shapes)]), row.profile[:place]
            made += 1
            yield replace(row, id=f"{row.id}/-{made}", query=asked, target=task.answer_of(item), profile=older)
