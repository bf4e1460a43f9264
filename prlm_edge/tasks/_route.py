"""Finds the task that a bare request means by how it begins: "a title for my post on winter sourdough" -> title.

Only the beginning counts, so a request that merely mentions a title is not taken for one. No model is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from prlm_edge.tasks._task import Task

FALLBACK = "write"
# Words that come before the thing asked for, repeated: "please give me a".
_POLITE = re.compile(
    r"(?:please|can you|could you|would you|write|give|suggest|propose|find|make|think of|come up with|i need|i'd like"
    r"|i want|me|us|a|an|the|one|another|some|few|\d+|two|three|four|five|ten|good|better|nice|catchy|short|new)"
    r"\b[\s,]*",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"[\s\"'“‘*#>-]*")
_AFTER = re.compile(r"\s*[:–—-]*\s*")
_THIS = re.compile(r"(?:this|these|the following|my)(?: \w+)?\s*:\s*(?=\S)", re.IGNORECASE)


def route(query: str, tasks: Mapping[str, Task]) -> tuple[Task, str]:
    """The task that `query` asks for by one of its triggers, and the rest of it; else `write` and the whole query.

    Example: "Please suggest a title for: winter sourdough" -> (title, "winter sourdough"). The longest trigger wins. A
    request that is only a trigger does not count.

    Raises:
        KeyError: `tasks` has no "write".
    """
    start = _BEFORE.match(query).end()  # type: ignore[union-attr]
    starts = [start]
    while (polite := _POLITE.match(query, start)) is not None:
        start = polite.end()
        starts.append(start)
    best: tuple[int, Task, str] | None = None
    for task in tasks.values():
        if task.name == FALLBACK:
            continue
        for trigger in task.triggers:
            rest = _rest(query, starts, trigger)
            if rest and (best is None or len(trigger) > best[0]):
                best = (len(trigger), task, rest)
    if best is None:
        return tasks[FALLBACK], query
    return best[1], best[2]


@lru_cache(1000)
def _pattern(trigger: str) -> re.Pattern[str]:
    return re.compile(r"\s+".join(map(re.escape, trigger.split())) + r"(?!\w)", re.IGNORECASE)


def _rest(query: str, starts: list[int], trigger: str) -> str:
    """What follows the trigger at one of the starts; "" where it isn't there or nothing follows."""
    pattern = _pattern(trigger)
    match = next(filter(None, (pattern.match(query, start) for start in starts)), None)
    if match is None:
        return ""
    rest = query[match.end() :]
    rest = rest[_AFTER.match(rest).end() :]  # type: ignore[union-attr]
    this = _THIS.match(rest)
    return (rest[this.end() :] if this else rest).strip()
