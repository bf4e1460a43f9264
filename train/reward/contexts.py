"""What the reward model judges a text with: a user's past for a request, or another user's past in its place.

The past is found as the runtime finds it (BM25, the task's own items) and handed on as the scorer gets it
(`types.Scoring`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b

from prlm_edge import tasks
from prlm_edge.evaluate.records import Row
from prlm_edge.retrieve import make_retriever
from prlm_edge.train.reward.broken import plain
from prlm_edge.types import Item, Retriever, Scoring
from prlm_edge.writer import Pool, make_pool

_POOLS_KEPT = 64  # users; a retriever holds its items' words
_NEAREST = 60  # items looked through for one that is somebody else's


class Contexts:
    """Contexts of the rows of one task.

    Args:
        rows: All of one task.
        k: Past texts of a context.
        seed: Of the order of strangers.
    """

    def __init__(self, rows: Sequence[Row], k: int, seed: int) -> None:
        self._k, self._seed = k, seed
        self._task = tasks.get_task(rows[0].task)
        self._pools: dict[str, tuple[Pool, Retriever]] = {}
        self._first: dict[str, Row] = {}
        for row in rows:
            self._first.setdefault(row.user, row)
        self._answers = {user: self._own_answers(row) for user, row in self._first.items()}
        self._domains: dict[str, dict[str, None]] = {}  # users in order; some write in several domains
        for row in rows:
            self._domains.setdefault(row.domain, {})[row.user] = None

    def own(self, row: Row) -> Scoring:
        """The row's own context."""
        return self.of(row, row)

    def of(self, owner: Row, row: Row) -> Scoring:
        """The context of `row`'s request as if `owner`'s user had made it."""
        pool, retriever = self._pool(owner)
        hits = tuple(retriever.search(row.query, self._k)) if pool.items else ()
        past = tuple(self._task.answer_of(hit.item) for hit in hits)
        return Scoring(row.query, row.task, pool.style, hits, past)

    def strangers(self, row: Row) -> Iterator[Row]:
        """Other users, of other domains where there are domains, in an order of the row's own."""
        near = self._domains[row.domain] if row.domain else {}
        users = [user for user in self._first if user not in near]
        yield from self._unlike(row, self._shuffled(users, row))

    def near(self, row: Row) -> Iterator[Row]:
        """Other users of the same domain, or, where there are no domains, those who wrote on the nearest topics."""
        if row.domain:
            users = self._shuffled(list(self._domains[row.domain]), row)
        else:
            users = list(dict.fromkeys(owner for owner, _ in self._nearest(row)))
        yield from self._unlike(row, users)

    def neighbours(self, row: Row) -> Iterator[str]:
        """Other users' texts for the most similar requests, nearest first; none that the user wrote too."""
        mine = self._answers[row.user] | {plain(row.target)}
        for _, item in self._nearest(row):
            text = self._task.answer_of(item)
            if plain(text) not in mine:
                mine = mine | {plain(text)}
                yield text

    def _nearest(self, row: Row) -> Iterator[tuple[str, Item]]:
        items, owners, retriever = self._everything
        for hit in retriever.search(row.query, _NEAREST):
            owner = owners[int(hit.item.id)]
            if owner != row.user and hit.score > 0:
                yield owner, items[int(hit.item.id)]

    @cached_property
    def _everything(self) -> tuple[list[Item], list[str], Retriever]:
        """All users' items, the user of each, and a retriever over them whose ids are places in that list."""
        items, owners = [], []
        for user, row in self._first.items():
            for item in self._task.examples(row.profile):
                items.append(item)
                owners.append(user)
        numbered = [Item(str(i), item.text, item.title, item.date) for i, item in enumerate(items)]
        return items, owners, make_retriever("bm25", numbered, cache=False)

    def _unlike(self, row: Row, users: Sequence[str]) -> Iterator[Row]:
        """Those of `users` who share no text with the row's user: co-authors don't count as strangers."""
        mine = self._answers[row.user] | {plain(row.target)}
        for user in users:
            theirs = self._answers[user]
            if user != row.user and theirs and mine.isdisjoint(theirs):
                yield self._first[user]

    def _shuffled(self, users: Sequence[str], row: Row) -> list[str]:
        def place(user: str) -> bytes:
            return blake2b(f"{self._seed}\0{row.id}\0{user}".encode("utf-8", "surrogatepass"), digest_size=8).digest()

        return sorted(users, key=place)

    def _own_answers(self, row: Row) -> frozenset[str]:
        return frozenset(plain(self._task.answer_of(item)) for item in self._task.examples(row.profile))

    def _pool(self, row: Row) -> tuple[Pool, Retriever]:
        """Kept by row: rows of one user may have longer or shorter profiles."""
        if row.id not in self._pools:
            pool = make_pool(row.profile, self._task)
            self._pools[row.id] = pool, make_retriever("bm25", pool.items, cache=False)
            while len(self._pools) > _POOLS_KEPT:
                self._pools.pop(next(iter(self._pools)))
        return self._pools[row.id]
