"""What of a profile serves one task: the items with something to learn from, their style, retrievers over them.

Not here: which of them a request gets (`retrieve/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prlm_edge import tasks
from prlm_edge.profile import Profile, learn
from prlm_edge.style import Style, style_of
from prlm_edge.types import Item, Retriever


@dataclass
class Pool:
    """The items that a task can learn from, their style, and the retrievers built over them."""

    items: list[Item]
    style: Style
    retrievers: dict[tuple[str, int], Retriever]


def make_pool(items: Sequence[Item] | Profile, task: tasks.Task) -> Pool:
    """The pool of `task` among items; of a large profile what was counted is kept, and only the new is counted."""
    if isinstance(items, Profile):
        return Pool(*learn(items, task), {})
    chosen = task.examples(items)
    return Pool(chosen, style_of([task.answer_of(item) for item in chosen]), {})


def profile_notes(profile: Profile, pool: Pool, task: tasks.Task) -> list[str]:
    """What the user should know of the profile before reading an answer."""
    notes = []
    if profile.bad:
        noun = "line" if len(profile.bad) == 1 else "lines"
        notes.append(f"{len(profile.bad)} {noun} of the profile can't be read: `prlm-edge profile verify` names them")
    if not pool.items:
        notes.append(f"the profile has no item with a {task.learns_from} to learn from, so this is nobody's voice yet")
    return notes
