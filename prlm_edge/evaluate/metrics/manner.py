"""How an answer is written: in the user's style, in its own words or copied, whole, and true to its reasoning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prlm_edge.evaluate.records import Answer
from prlm_edge.rerank.overlap import words
from prlm_edge.style import Style, check_line, line_claims
from prlm_edge.writer import as_text

_RUN = 4  # so many equal words in a row count as copied
_TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<|im_")


def style_match(text: str, style: Style) -> float | None:
    """Share of the user's steady facts that `text` keeps, weighted by how steady they are; None where none is."""
    return style.match(text) if style.facts else None


def copy_rate(text: str, sources: Iterable[str]) -> float | None:
    """Share of the text's words that are in a run of four that a source has too; None for fewer than four words."""
    run = words(text)
    if len(run) < _RUN:
        return None
    known = {gram for source in sources for gram in _runs(words(source))}
    copied = {i + j for i, gram in enumerate(_runs(run)) if gram in known for j in range(_RUN)}
    return len(copied) / len(run)


def format_ok(answer: Answer) -> bool:
    """Whether the answer ended by itself, is not empty, and holds none of the tags around it."""
    text = answer.answer
    ended = answer.finish_reason in ("stop", "")  # baselines have none
    return ended and bool(text.strip()) and not any(tag in text for tag in _TAGS)


def faithfulness(answer: Answer, style: Style, request: str) -> float | None:
    """Share of the reasoning's checkable claims that hold; None without any.

    Claims about the answer are checked against the answer, those about the user against the profile, and what is said
    of a change or a text against the whole request.
    """
    text = as_text(request) if answer.reasoning else ""
    true, claims = check_line(answer.reasoning, answer.answer, len(answer.used), style, text)
    return true / claims if claims else None


def grounded(answer: Answer, style: Style) -> float | None:
    """Share of the style claims that hold of the user's own past texts, whatever the answer does; None without any."""
    claims = [claim for claim in line_claims(answer.reasoning) if claim.kind in ("trait", "tag", "words")]
    if not claims:
        return None
    return sum(_usual(claim.value, style) for claim in claims) / len(claims)


def _usual(value: object, style: Style) -> bool:
    if isinstance(value, tuple):
        fact = style.fact("words")
        low, high = (fact.value[0], fact.value[2]) if fact else (1, 0)
        return isinstance(low, int) and isinstance(high, int) and low <= value[1] and value[0] <= high
    return any(value in (fact.key, fact.value) for fact in style.facts)


def _runs(run: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(run[i : i + _RUN]) for i in range(len(run) - _RUN + 1)]
