"""What of a profile serves each task: the items with something to learn from, their style, retrievers over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prlm_edge.profile import Profile, crossed_out, learn
from prlm_edge.retrieve import make_retriever, tokenize
from prlm_edge.style import Style, carries_meaning, listed, style_of
from prlm_edge.tasks import Task
from prlm_edge.types import Hit, Item, Retriever

Past = Profile | Sequence[Item]  # a profile's file, or its items
# MiniLM's cosine of a topic with the nearest of its author's posts is above in 5 of 6, with other authors' in 1 of 4.
NEAR = 0.25


@dataclass
class Pool:
    """The items that a task can learn from, their style, and the retrievers built over them by name."""

    items: Sequence[Item]
    style: Style
    retrievers: dict[str, Retriever] = field(default_factory=dict)


def make_pool(past: Past, task: Task) -> Pool:
    """The pool of `task`; of a large profile what was counted is kept, and only the new is counted."""
    if isinstance(past, Profile):
        return Pool(*learn(past, task))
    chosen = task.examples(past)
    return Pool(chosen, style_of([task.answer_of(item) for item in chosen]))


class Pools:
    """The pools of one profile at a time, the one that was last asked for; not thread-safe.

    Attributes:
        progress: Called with (items done, items in all) while an index is built or items are embedded.
    """

    def __init__(self) -> None:
        self.progress: Callable[[int, int], None] | None = None
        self._past: Past | None = None
        self._seen: object = None  # what of the profile's file the pools were made of
        self._pools: dict[Task, Pool] = {}

    def of(self, past: Past, task: Task) -> Pool:
        """What `task` can learn from; made again where the profile has changed."""
        seen: object = None
        if isinstance(past, Profile):
            past.refresh()
            seen = past.version, crossed_out(past.path)
        if seen != self._seen or (past is not self._past and past != self._past):
            self._pools.clear()
        self._past, self._seen = past, seen
        if task not in self._pools:
            self._pools[task] = make_pool(past, task)
        return self._pools[task]

    def retriever(self, pool: Pool, name: str, seed: int) -> Retriever:
        """The retriever called `name` over a pool; kept, except the random one, which is made for its seed."""
        if name == "random":
            return make_retriever(name, pool.items, seed=seed)
        if name not in pool.retrievers:
            pool.retrievers[name] = make_retriever(name, pool.items, progress=self.progress)
        return pool.retrievers[name]


def profile_notes(past: Past, pool: Pool, task: Task) -> list[str]:
    """What the user should know of the profile before reading an answer."""
    notes = []
    if isinstance(past, Profile) and past.bad:
        noun = "line" if len(past.bad) == 1 else "lines"
        notes.append(f"{len(past.bad)} {noun} of the profile can't be read: `prlm-edge profile verify` names them")
    if pool.items and task.kinds and pool.items[0].kind not in task.kinds:
        notes.append(f"the profile has no {listed(task.kinds, 'or')}: items of other kinds are shown")
    if not pool.items:
        notes.append(f"the profile has no item with a {task.learns_from} to learn from, so this is nobody's voice yet")
    return notes


def search_notes(text: str, hits: Sequence[Hit], retriever: str) -> list[str]:
    """What the user should know of what was found for a request: that nothing of it is about the same.

    That is so where no hit shares a word that carries meaning, and none is near by its embedding.
    """
    if (
        not hits
        or retriever not in ("bm25", "dense", "hybrid")
        or any(hit.parts.get("dense", -1) >= NEAR for hit in hits)
    ):
        return []
    asked = {word for word in tokenize(text) if carries_meaning(word) and (len(word) > 1 or not word.isascii())}
    if any(not asked.isdisjoint(tokenize(hit.item.searchable)) for hit in hits):
        return []
    used = "most recent" if "recency_rank" in hits[0].parts else "nearest"
    return [f"nothing in the profile resembles the request: the {used} items were used"]
