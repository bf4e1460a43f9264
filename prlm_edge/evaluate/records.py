"""What an evaluation is made of: rows of a data set, conditions to answer them under, answers, scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from prlm_edge.storage import NUMBER, fits
from prlm_edge.types import Item

#: Whose past items a condition shows: the user's own, those of another user (of another domain where there are
#: domains), those of another user of the same domain, or none at all.
Owner = Literal["own", "other", "neighbour", "none"]
#: What of a row is asked with: a few words, a text, or a diff as git prints it.
QueryForm = Literal["short", "text", "diff"]


@dataclass(frozen=True)
class Row:
    """One request of a data set, with the answer that the user really wrote.

    Attributes:
        id: Unique within the data set.
        user: Whose it is; a user may have several rows, and is what confidence intervals count.
        task: Name of the task (`prlm_edge.tasks`) that it is answered with.
        query: What was asked.
        target: What the user wrote.
        profile: The user's past items, oldest first; all older than the query.
        date: ISO 8601, "" when unknown.
        domain: Such as the repository; "" when unknown.
        ask: What of the row `query` is.
    """

    id: str
    user: str
    task: str
    query: str
    target: str
    profile: tuple[Item, ...] = ()
    date: str = ""
    domain: str = ""
    ask: QueryForm = "text"


@dataclass(frozen=True)
class Condition:
    """One way of answering: settings of the Writer, whose profile it gets, or a trivial baseline instead of a model.

    Attributes:
        name: Short and unique within a run; a file name and a table's row.
        settings: Over the user's own, by the names of `prlm_edge.settings`.
        profile: See `Owner`.
        baseline: Name of a trivial baseline (`baselines.py`); "" runs the model.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    profile: Owner = "own"
    baseline: str = ""


@dataclass(frozen=True)
class Shown:
    """A past item that a prompt showed; its place in `Answer.used` is its number in the reasoning, less one."""

    id: str
    title: str
    score: float


_TYPES: Mapping[str, Any] = {"str": str, "bool": bool, "int": int, "float": (int, float)}  # by annotation


@dataclass(frozen=True)
class Answer:
    """One line of a run's answers.jsonl: all of it that the model said, and what it was asked.

    Attributes:
        condition: Name of the condition.
        row: Id of the row.
        user: Its user.
        query: As in `Row`, at most 2,000 characters of it.
        target: As in `Row`.
        answer: What was written; of best-of-n the chosen one.
        reasoning: What led to it.
        used: The items that the prompt showed, in prompt order.
        retrieved: Scores of the items that the search found, best first.
        finish_reason: "stop", "length" or "cancelled"; "" for baselines.
        reasoning_truncated: Whether the reasoning ran into its budget.
        prompt_tokens: Tokens of the prompt.
        reasoning_tokens: Drawn, of all candidates together.
        answer_tokens: Drawn, of all candidates together.
        seconds: From the prompt's first token to the last candidate's end; several rows share the machine meanwhile.
        candidates: Where several were drawn, each {"answer", "reasoning", "seed", "logprob", "score"}, best first.
    """

    condition: str
    row: str
    user: str
    query: str
    target: str
    answer: str
    reasoning: str = ""
    used: tuple[Shown, ...] = ()
    retrieved: tuple[float, ...] = ()
    finish_reason: str = ""
    reasoning_truncated: bool = False
    prompt_tokens: int = 0
    reasoning_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    candidates: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """From a JSON object; unknown keys are left out.

        Raises:
            TypeError, ValueError: A key is missing, or holds something of another type.
        """
        known = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        for f in fields(cls):
            if f.name in known and not isinstance(known[f.name], _TYPES.get(str(f.type), object)):
                raise TypeError(f"{f.name} is {known[f.name]!r}")
        if not fits(record.get("used", []), [{"id": str, "title": str, "score": NUMBER}]):
            raise TypeError("odd items")
        known["used"] = tuple(Shown(**shown) for shown in record.get("used", ()))
        known["retrieved"] = tuple(map(float, record.get("retrieved", ())))
        known["candidates"] = tuple(map(dict, record.get("candidates", ())))
        return cls(**known)
