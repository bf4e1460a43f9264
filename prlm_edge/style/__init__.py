"""A user's habits: observed in each past text, counted to steady facts, said in reasoning lines, checked in new texts.

observe.py (one text) -> counts.py (many) -> facts.py (what is steady) -> lines.py (what is said of it); phrases.py says
what a text is about, change.py what a change to files says of itself
"""

from prlm_edge.style.change import CHANGE
from prlm_edge.style.counts import STYLE_VERSION, Counts, n_with_any, style_of
from prlm_edge.style.facts import IMPLIES, TRAITS, Fact, Style, listed, plural
from prlm_edge.style.lines import (
    Claim,
    check_line,
    example_line,
    gives_away,
    judge_line,
    line_claims,
    style_line,
)
from prlm_edge.style.observe import FUNCTION_WORDS, carries_meaning, content_words, observe
from prlm_edge.style.phrases import key_phrases

__all__ = [
    "CHANGE",
    "FUNCTION_WORDS",
    "IMPLIES",
    "STYLE_VERSION",
    "TRAITS",
    "Claim",
    "Counts",
    "Fact",
    "Style",
    "carries_meaning",
    "check_line",
    "content_words",
    "example_line",
    "gives_away",
    "judge_line",
    "key_phrases",
    "line_claims",
    "listed",
    "n_with_any",
    "observe",
    "plural",
    "style_line",
    "style_of",
]
