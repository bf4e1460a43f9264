"""What a person would say of an answer: that it is none, or like another one, or true to their habits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prlm_edge.rerank.overlap import Counted, rouge_1, words
from prlm_edge.style import FUNCTION_WORDS, observe
from prlm_edge.types import Candidate, Scoring

ECHO = "says the request again"
COPY = "is one of the past texts shown, word for word"
ALIKE = (
    0.85  # ROUGE-1 of the words that carry meaning: "the book sale: i bought it", "a library book sale: i bought it"
)
# Small words that turn a meaning round.
_TURNING = {
    "after",
    "against",
    "before",
    "cannot",
    "down",
    "no",
    "nor",
    "not",
    "off",
    "out",
    "over",
    "under",
    "up",
    "without",
}
_SMALL = FUNCTION_WORDS - _TURNING
# What a topic is for: "my post on winter sourdough" says no more than "winter sourdough".
_WRITING = {"article", "blog", "entry", "essay", "paper", "piece", "post", "subject", "talk", "text", "title"}


def flaw(answer: str, context: Scoring) -> str:
    """Why `answer` is no answer, in a clause; "" where it is one.

    A topic's own words again are none, whatever their case, order, punctuation and small words; neither is, word for
    word, what the user wrote for a past item that was shown.
    """
    ours = words(answer)
    if ours and any(words(past) == ours for past in context.past):
        return COPY
    if context.shape == "topic" and _said(ours) == _said(words(context.query)):
        return ECHO
    return ""


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
    seen, kept, broken = observe(answer), [], []
    for fact in context.style.facts:
        if fact.seen_in(seen, answer):
            kept.append(fact.phrase)
        else:
            broken.append(fact.phrase + (f" (it has {seen.words})" if fact.name == "words" else ""))
    said = [f"{verb}: {', '.join(some)}" for verb, some in (("keeps", kept), ("breaks", broken)) if some]
    return (*filter(None, [flaw(answer, context)]), *said)


def _content(all_words: Sequence[str]) -> list[str]:
    """The words that carry meaning; all where none does."""
    return [word for word in all_words if word not in _SMALL] or list(all_words)


def _said(all_words: Sequence[str]) -> frozenset[str]:
    """What a topic, or an answer to it, is about."""
    return frozenset(_content([word for word in all_words if word not in _WRITING]))
