"""Which of several requests are decoded together, and in which slots: each one that ends frees its slot for the next.

A prompt is evaluated alone, in calls of the same sizes as for a single request; its state then moves to the batch.
Equal prompts (best-of-n) are evaluated once and share their tokens. So each answer is, token for token, the one that
the request gets alone; `llama/slots.py` names the two exceptions. A single request is decoded in the context that
evaluated its prompt.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator

from prlm_edge.backends.engine.context import Context
from prlm_edge.backends.engine.decoding import Decoding
from prlm_edge.backends.engine.prompt_tokens import CHUNK
from prlm_edge.backends.engine.slots import Slots
from prlm_edge.errors import ModelError
from prlm_edge.types import Event

MAX_SLOTS = 16  # sequences a step; 8 to 16 adds a quarter of speed
FEW_CELLS = 6144  # up to which more pay: 32 sequences of 4 prompts gain a fifth over 16, those of 32 lose a tenth
_SLACK = 1.5  # cells for what is forgotten, so that sequences are moved seldom
_GRAIN = 256  # cells


class Batch:
    """The requests of one call of `stream_many`.

    Args:
        n_requests: How many.
        prepared: Their Decodings in order, made as they are asked for.
        make_slots: Makes free slots, given their number and their cells: of all together, or of each (`shares_cells`).
        max_cells: Cells of all slots together at most, unless a single sequence needs more.
        shares_cells: Whether slots share their cells; else each has its own, enough for the longest sequence.
        max_slots: Sequences a step; above `MAX_SLOTS` where they fit into `FEW_CELLS`, such as groups of one prompt.

    Attributes:
        running: Decodings by slot.
    """

    def __init__(
        self,
        n_requests: int,
        prepared: Iterator[Decoding],
        make_slots: Callable[[int, int], Slots],
        *,
        max_cells: int,
        shares_cells: bool,
        max_slots: int = MAX_SLOTS,
    ) -> None:
        self._n_requests, self._prepared, self._make_slots = n_requests, prepared, make_slots
        self._max_cells, self._shares_cells, self._max_slots = max_cells, shares_cells, max_slots
        self._n_begun = 0
        self._ready: collections.deque[Decoding] = collections.deque()  # prepared ones that wait
        self._slots: Slots | None = None
        self._context: Context | None = None  # where a single request is decoded
        self.running: dict[int, Decoding] = {}

    @property
    def waiting(self) -> range:
        """Places of the requests that have not begun."""
        return range(self._n_begun, self._n_requests)

    def begin(self) -> Decoding | None:
        """The next request, whose prompt is then to be evaluated; None where there is no room, or no further one."""
        if not self.waiting:
            return None
        first = self._ahead(1)[0]
        if self._n_requests > 1 and not self._has_room(first):
            return None
        self._n_begun += 1
        self.running[self._slots.lengths.index(0) if self._slots else 0] = self._ready.popleft()
        return first

    def enter(self, sequence: Decoding, context: Context) -> Iterable[tuple[int, Event]]:
        """Take over a request whose prompt `context` has evaluated, and draw its first token: (place, event) pairs."""
        slot = next(slot for slot, one in self.running.items() if one is sequence)
        n_tokens, twin = len(sequence.prompt.tokens), self._twin(sequence)
        if self._slots is None:
            self._context = context
        elif twin is not None:
            self._slots.share(twin, slot, n_tokens)
        elif not self._slots.restore(context.slots.save(), n_tokens, slot):
            raise ModelError("an evaluated prompt does not fit into its batch", "free memory and try again")
        return self._draw(slot, context.slots, -1)

    def step(self) -> Iterable[tuple[int, Event]]:
        """Evaluate what all bring in one call and draw a token of each: (place, event) pairs."""
        slots = self._context.slots if self._context else self._slots
        assert slots is not None
        more = []
        for slot, one in self.running.items():
            held = self._context.roll_back(one.n_kept) if self._context else slots.truncate(slot, one.n_kept)
            while len(one.tokens) - held > CHUNK:  # recurrent models forget all or nothing
                slots.append([(slot, one.tokens[held : held + CHUNK])])
                held += CHUNK
            more.append((slot, one.tokens[held:]))
            one.room -= len(one.tokens) - one.n_kept
        rows = slots.append(more)
        return [pair for (slot, _), row in zip(more, rows, strict=True) for pair in self._draw(slot, slots, row)]

    def close(self) -> None:
        """Free what the batch holds. Idempotent."""
        for sequence in (*self.running.values(), *self._ready):
            sequence.close()
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    def _draw(self, slot: int, slots: Slots, row: int) -> list[tuple[int, Event]]:
        sequence = self.running[slot]
        events = sequence.draw(slots, row)
        if sequence.finished:
            del self.running[slot]
            sequence.close()
            if self._slots is not None:
                self._slots.truncate(slot)
        return [(sequence.place, event) for event in events]

    def _ahead(self, n: int) -> collections.deque[Decoding]:
        """Requests that have not begun, at least `n` of them where there are as many."""
        self._ready.extend(itertools.islice(self._prepared, max(n - len(self._ready), 0)))
        return self._ready

    def _twin(self, sequence: Decoding) -> int | None:
        """The slot of another running sequence of the same prompt."""
        digest = sequence.prompt.digests[-1]
        same = (slot for slot, one in self.running.items() if one.prompt.digests[-1] == digest and one is not sequence)
        return next(same, None)

    def _has_room(self, sequence: Decoding) -> bool:
        n_all = len(sequence.prompt.tokens) + sequence.room
        if not self.running:
            self._open(n_all)
            return True
        assert self._slots is not None
        n_new = n_all if self._twin(sequence) is None else sequence.room
        promised = sum(one.room for one in self.running.values())
        return 0 in self._slots.lengths and self._slots.fits(n_new, n_all, promised)

    def _open(self, n_all: int) -> None:
        """Before the first sequence, and whenever all have ended: free slots for it and, if they fit, for others."""
        if self._slots is not None and self._slots.n_cells >= n_all:
            self._slots.clear()
            return
        if self._slots is not None:
            self._slots.close()
            self._slots = None
        prompts: set[bytes] = set()
        n_slots = need = longest = 0
        for sequence in self._ahead(self._max_slots):
            digest, n_prompt = sequence.prompt.digests[-1], len(sequence.prompt.tokens)
            more = need + sequence.room + (0 if digest in prompts else n_prompt)
            longer = max(longest, n_prompt + sequence.room)
            n_cells = more * _SLACK if self._shares_cells else longer * (n_slots + 1)
            if n_slots and (n_cells > self._max_cells or (n_slots >= MAX_SLOTS and more > FEW_CELLS)):
                break
            prompts.add(digest)
            n_slots, need, longest = n_slots + 1, more, longer
        slack = _SLACK if len(self.waiting) > n_slots else 1.0
        n_cells = need * slack if self._shares_cells else longest
        self._slots = self._make_slots(n_slots, -(-int(n_cells) // _GRAIN) * _GRAIN)
