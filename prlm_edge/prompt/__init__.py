"""From a task, retrieved items and a request to the chat turns that a model reads, and the tags it answers in."""

from prlm_edge.prompt.plan import SHOWN, Plan, prompt_budget
from prlm_edge.prompt.rendering import Renderer
from prlm_edge.prompt.tags import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    TAGS,
    THINK_CLOSE,
    THINK_OPEN,
    TO_ANSWER,
    Splitter,
    StopMatcher,
    defuse_tags,
)

__all__ = [
    "ANSWER_CLOSE",
    "ANSWER_OPEN",
    "SHOWN",
    "TAGS",
    "THINK_CLOSE",
    "THINK_OPEN",
    "TO_ANSWER",
    "Plan",
    "Renderer",
    "Splitter",
    "StopMatcher",
    "defuse_tags",
    "prompt_budget",
]
