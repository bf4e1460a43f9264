"""Named ways in which a condition fails, each with the figure that shows it and what to do about it.

retrieval irrelevant   what the search found fits little better than what it did not take
generic reasoning      the same reasoning for many users
copied answer          the answer is a past title, word for word
echo                   the answer is the request again
invention              the answer names what neither the request nor the shown items do
carried name           the answer names what the shown items do, and the request does not
cut-off answer         the answer runs into its budget of tokens
ignored request        the answer has no content word of the request, though the user's own has
truncated reasoning    the reasoning runs into its budget, and takes the answer's room
empty answer           nothing was written
loop                   the answer repeats itself
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prlm_edge.evaluate.conditions import settings_of
from prlm_edge.evaluate.records import Answer, Condition
from prlm_edge.style import content_words

_RANKING = ("bm25", "dense")
_MIN_MARGIN = 0.15  # of the best score: with less between the best and the last hit, the ranking says little
_MIN_REPEATS = 3  # users with the same reasoning, numbers and quoted words aside
_LOOP_WORDS, _LOOP_SHARE = 3, 0.25  # seq-rep-3 (arXiv 1908.04319) beyond which a text loops; long names recur too
_N_EXAMPLES = 3
_DETAIL = re.compile(r"'[^']*'|\d+")


@dataclass(frozen=True)
class Signature:
    """One failure that a condition shows.

    Attributes:
        condition: Its name.
        name: As the module lists them.
        share: Of the answers that can show it.
        n: How many answers show it.
        limit: The share from which it is reported.
        advice: What to do.
        examples: Rows that show it.
    """

    condition: str
    name: str
    share: float
    n: int
    limit: float
    advice: str
    examples: tuple[str, ...]


def signatures(condition: Condition, scored: Sequence[tuple[Answer, Mapping[str, Any]]]) -> list[Signature]:
    """What is wrong with a condition's answers, the most frequent first; [] where nothing stands out.

    Args:
        condition: The condition.
        scored: Its answers, each with its metrics by name.
    """
    answers = [answer for answer, _ in scored]
    scores = {answer.row: score for answer, score in scored}
    ranked = not condition.baseline and settings_of(condition, "").retriever in _RANKING
    drowned = any(answer.used for answer in answers)
    advice = "lower k or item_words: the examples drown the request" if drowned else "show past items, or train"
    repeated = _repeated(answers)

    def said(metric: str) -> Callable[[Answer], bool | None]:
        return lambda answer: bool(scores[answer.row][metric]) if answer.answer.strip() else None

    def invents(answer: Answer) -> bool | None:
        """None where the user's own text has such a name too."""
        return None if scores[answer.row]["target_invention"] else said("invention")(answer)

    checks: list[tuple[str, float, str, Callable[[Answer], bool | None]]] = [
        ("empty answer", 0.02, "raise answer_tokens, or reasoning off", lambda a: not a.answer.strip()),
        ("truncated reasoning", 0.2, "raise reasoning_tokens, or reasoning off", _truncated),
        ("generic reasoning", 0.3, "reasoning says nothing here: reasoning off, or train it", repeated),
        ("copied answer", 0.1, "lower k, or train: the model repeats its examples", said("copied")),
        ("echo", 0.1, "train on requests of a few words: the model only repeats them", said("echo")),
        ("invention", 0.1, "a larger model, or train: it makes up names and numbers", invents),
        ("carried name", 0.1, "train: names of past items get into answers about something else", said("carried")),
        ("cut-off answer", 0.05, "raise answer_tokens, or train: answers don't end", said("cut_off")),
        ("ignored request", 0.3, advice, _ignored),
        ("retrieval irrelevant", 0.5, "another retriever, or more past items", _irrelevant if ranked else _untold),
        ("loop", 0.05, "raise repeat_penalty", lambda a: _loops(a.answer)),
    ]
    found = []
    for name, limit, advice, check in checks:
        judged = [(answer, shown) for answer in answers if (shown := check(answer)) is not None]
        rows = [answer.row for answer, shown in judged if shown]
        if rows and len(rows) / len(judged) >= limit:
            share = len(rows) / len(judged)
            found.append(Signature(condition.name, name, share, len(rows), limit, advice, tuple(rows[:_N_EXAMPLES])))
    return sorted(found, key=lambda one: -one.share)


def _truncated(answer: Answer) -> bool | None:
    return answer.reasoning_truncated if answer.reasoning else None


def _repeated(answers: Sequence[Answer]) -> Callable[[Answer], bool | None]:
    def gist(answer: Answer) -> str:
        return _DETAIL.sub("*", " ".join(answer.reasoning.lower().split()))

    users: dict[str, set[str]] = {}
    for answer in answers:
        users.setdefault(gist(answer), set()).add(answer.user)
    return lambda answer: len(users[gist(answer)]) >= _MIN_REPEATS if answer.reasoning else None


def _ignored(answer: Answer) -> bool | None:
    """None where the user's own text shares no content word with the request."""
    request = set(content_words(answer.query))
    if request.isdisjoint(content_words(answer.target)) or not answer.answer.strip():
        return None
    return request.isdisjoint(content_words(answer.answer))


def _irrelevant(answer: Answer) -> bool | None:
    """None where the search found fewer than two items."""
    scores = answer.retrieved
    if len(scores) < 2:
        return None
    return scores[0] <= 0 or (scores[0] - scores[-1]) / scores[0] < _MIN_MARGIN


def _untold(_answer: Answer) -> None:
    """For retrievers whose scores (ranks, dates, random numbers) don't say how well an item fits."""


def _loops(text: str) -> bool:
    run = text.lower().split()
    grams = [tuple(run[i : i + _LOOP_WORDS]) for i in range(len(run) - _LOOP_WORDS + 1)]
    return bool(grams) and 1 - len(set(grams)) / len(grams) > _LOOP_SHARE
