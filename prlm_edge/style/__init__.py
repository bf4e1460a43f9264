"""A user's habits: what can be counted in past texts, said as facts, and judged in new ones."""

from prlm_edge.style.counts import STYLE_VERSION, TRAITS, Counts, Fact, Style, n_with_any, plural, style_of
from prlm_edge.style.facts import IMPLIES
from prlm_edge.style.lines import Claim, check_line, example_line, judge_line, line_claims, style_line
from prlm_edge.style.observe import content_words, observe

__all__ = [
    "IMPLIES",
    "STYLE_VERSION",
    "TRAITS",
    "Claim",
    "Counts",
    "Fact",
    "Style",
    "check_line",
    "content_words",
    "example_line",
    "judge_line",
    "line_claims",
    "n_with_any",
    "observe",
    "plural",
    "style_line",
    "style_of",
]
