"""What a person would say of an answer: that it is none, or like another one, or true to their habits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from prlm_edge.rerank.overlap import Counted, rouge_1, words
from prlm_edge.style import FUNCTION_WORDS, Fact, carries_meaning, observe
from prlm_edge.types import Candidate, Scoring

ECHO = "says the request again"
COPY = "is one of the past texts shown, again"
TOLD = ("commit", "note")  # tasks whose request says what was done: that again, in the user's own style, is right
ALIKE = 0.85  # ROUGE-1 of the words that carry meaning: 3 of 4 are shared, or all but one of 7
_TURNING = {"after", "against", "before", "cannot", "no", "nor", "not", "off", "out", "over", "under", "without"}
_SMALL = FUNCTION_WORDS - _TURNING
_SHORT = 30  # words: a longer request is a text, of which a title may well be made of words of it alone
_FEW = 8  # words that mean something: an answer with less than two thirds of those of a longer request condenses it
_FILLER = {"post", "blog", "article", "talk", "title", "note", "s", "t", "re", "ll", "ve"}
_ENDING = re.compile(r"(?<=\w\w)(\w)\1?(?:ing|ed|es|s|e)$")  # "plans", "planned" and "planning" are one word


def echo(answer: str, request: str) -> bool:
    """Whether the answer is the request again.

    It is where both are equal but for case, punctuation, endings, function words and filler ("my post about ..."), and
    where the request has at most 30 words and the answer has none that the request lacks; of a request of more than
    eight words that mean something it must have two thirds of them.
    """
    ours, asked = _told(answer), _told(request)
    if not ours:
        return False
    few = len(asked) <= _FEW or 3 * len(ours) >= 2 * len(asked)
    return ours == asked or (few and len(request.split()) <= _SHORT and ours <= asked)


def is_copy(text: str, past: Iterable[str]) -> bool:
    """Whether `text` is one of the past texts again, but for case, punctuation and small words."""
    ours = _content(words(text))
    return bool(ours) and any(_content(words(one)) == ours for one in past)


def flaw(answer: str, context: Scoring) -> str:
    """Why `answer` is no answer, in a clause; "" where it is one.

    A topic that is said again is none, except for `TOLD`; neither is, but for small words, what the user wrote for a
    past item shown.
    """
    if is_copy(answer, context.past):
        return COPY
    return ECHO if context.shape == "topic" and context.task not in TOLD and echo(answer, context.query) else ""


def different(candidates: Iterable[Candidate], n: int) -> tuple[Candidate, ...]:
    """The first `n` that are not like one before; empty ones are left out.

    Alike are those that differ in case, punctuation and small words alone, or in little more.
    """
    found: list[Candidate] = []
    seen: list[Counted] = []
    for one in candidates:
        content = Counted(" ".join(_content(words(one.answer))) or one.answer.casefold())
        if one.answer and not any(rouge_1(content, other) >= ALIKE or content.text == other.text for other in seen):
            found.append(one)
            seen.append(content)
        if len(found) == n:
            break
    return tuple(found)


def reasons(answer: str, context: Scoring) -> tuple[str, ...]:
    """What speaks for and against an answer, in clauses for people: the habits that it keeps and breaks, its flaw.

    Example: ("keeps: lower case, a colon", "breaks: about 6 words (it has 11)").
    """
    if not answer:
        return ("is empty",)
    kept, broken = context.style.judge(answer)
    clauses = [fact.phrase for fact in kept], [broken_clause(fact, answer) for fact in broken]
    said = [f"{verb}: {', '.join(some)}" for verb, some in zip(("keeps", "breaks"), clauses, strict=True) if some]
    return (*filter(None, [flaw(answer, context)]), *said)


def broken_clause(fact: Fact, text: str) -> str:
    """How a habit is said that `text` breaks, such as "about 6 words (it has 11)"."""
    return fact.phrase + (f" (it has {observe(text).words})" if fact.name == "words" else "")


def _content(all_words: Sequence[str]) -> list[str]:
    """The words that carry meaning; all where none does."""
    return [word for word in all_words if word not in _SMALL] or list(all_words)


def _told(text: str) -> set[str]:
    """The text's words that say something, without their endings."""
    return {_ENDING.sub(r"\1", w) for w in words(text) if w not in _FILLER and (w.isdigit() or carries_meaning(w))}
