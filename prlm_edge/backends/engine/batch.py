"""Decodes many requests at a time (continuous batching): whoever ends makes room for the next, one call a step for all.

A prompt is evaluated alone, as a single stream would, in calls of the same sizes; its state then moves to the batch.
Equal prompts (best-of-n) are evaluated once and share their cells. So each answer is, token for token, the one that
the request would get alone; see `llama_cells.py` for the one exception.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator

from prlm_edge.backends.engine.context import Context
from prlm_edge.backends.engine.decoding import Decoding
from prlm_edge.backends.engine.raw import Cancelled, Cells
from prlm_edge.types import Cancel, Completion, Event, Usage

MAX_SLOTS = 16  # sequences a step; 8 to 16 adds a quarter of speed
FEW_CELLS = 6144  # up to which more pay: 32 sequences of 4 prompts gain a fifth over 16, those of 32 lose a tenth
_SLACK = 1.5  # cells for what is forgotten, so that sequences are moved seldom
_GRAIN = 256  # cells

Prepare = Callable[[int], Decoding]
Evaluate = Callable[[Decoding], tuple[Context, Iterator[Event]]]


class Batch:
    """Runs the requests 0 to `n_requests` - 1.

    Args:
        n_requests: How many.
        prepare: Makes the Decoding of a request.
        evaluate: Evaluates a Decoding's prompt in the prompt context: gives that context, and the events meanwhile.
        make_cells: Makes the batch's context for (cells, slots).
        room: Cells that a Decoding may need behind its prompt.
        max_cells: What `make_cells` should not be asked to exceed, unless for a single Decoding.
        many_slots: Sequences a step where they fit into `FEW_CELLS`, such as groups that share their prompts.
    """

    def __init__(
        self,
        n_requests: int,
        prepare: Prepare,
        evaluate: Evaluate,
        make_cells: Callable[[int, int], Cells],
        room: Callable[[Decoding], int],
        max_cells: int,
        many_slots: int = 0,
    ) -> None:
        self._waiting = collections.deque(range(n_requests))
        self._prepare, self._evaluate, self._make_cells, self._room = prepare, evaluate, make_cells, room
        self._max_cells, self._many_slots = max_cells, max(many_slots, MAX_SLOTS)
        self._ready: dict[int, Decoding] = {}  # made, not yet admitted
        self._active: dict[int, tuple[int, Decoding]] = {}  # by slot: the request's place
        self._cells: Cells | None = None
        self._left: dict[int, int] = {}  # by slot: cells that it may still need

    def run(self, cancel: Cancel) -> Iterator[tuple[int, Event]]:
        """Yield (place, event) pairs; every request ends with its "done"."""
        try:
            while self._waiting or self._active:
                if cancel.cancelled:
                    raise Cancelled
                while self._waiting and self._fits():
                    yield from self._admit()
                if self._active:
                    yield from self._step()
        except Cancelled:
            for place, sequence in self._active.values():
                yield place, sequence.done(cancelled=True)
            for place in self._waiting:
                yield place, Event("done", completion=Completion("cancelled", Usage()))
        finally:
            self.close()

    def close(self) -> None:
        """Free what the batch holds. Idempotent."""
        for _, sequence in self._active.values():
            sequence.close()
        for sequence in self._ready.values():
            sequence.close()
        if self._cells:
            self._cells.close()
            self._cells = None

    def _sequence(self, place: int) -> Decoding:
        if place not in self._ready:
            self._ready[place] = self._prepare(place)
        return self._ready[place]

    def _fits(self) -> bool:
        """Whether the first that waits can be admitted now; makes room if that takes no more than moving cells."""
        sequence = self._sequence(self._waiting[0])
        if self._cells is None or not self._active:
            self._make_room(sequence)
            return True
        cells = self._cells
        if len(self._active) == len(cells.lengths):
            return False
        need = self._room(sequence) + (0 if self._twin(sequence) is not None else len(sequence.prompt.tokens))
        promised = sum(self._left.values())
        if need + promised <= cells.free:
            return True
        if sum(cells.lengths) + promised + need > cells.n_cells:
            return False  # even moved together they leave too little: wait for some to end
        cells.compact()
        return True

    def _make_room(self, first: Decoding) -> None:
        """Before the first, and whenever all have ended: an empty context that holds `first` and, if it can, more."""
        if self._cells is not None and self._cells.n_cells >= len(first.prompt.tokens) + self._room(first):
            self._cells.clear()
            return
        if self._cells is not None:
            self._cells.close()
            self._cells = None
        prompts: set[bytes] = set()
        n_slots = need = 0
        for place in itertools.islice(self._waiting, self._many_slots):
            sequence = self._sequence(place)
            digest, n_prompt = sequence.prompt.digests[-1], len(sequence.prompt.tokens)
            more = self._room(sequence) + (0 if digest in prompts else n_prompt)
            if n_slots and (need + more) * _SLACK > self._max_cells:
                break
            if n_slots >= MAX_SLOTS and need + more > FEW_CELLS:
                break
            prompts.add(digest)
            n_slots, need = n_slots + 1, need + more
        slack = _SLACK if len(self._waiting) > n_slots else 1.0
        self._cells = self._make_cells(-(-int(need * slack) // _GRAIN) * _GRAIN, n_slots)

    def _twin(self, sequence: Decoding) -> int | None:
        """The slot of an active sequence of the same prompt."""
        digest = sequence.prompt.digests[-1]
        return next((slot for slot, (_, s) in self._active.items() if s.prompt.digests[-1] == digest), None)

    def _admit(self) -> Iterator[tuple[int, Event]]:
        place = self._waiting[0]
        sequence, cells = self._sequence(place), self._cells
        assert cells is not None
        context, events = self._evaluate(sequence)
        for event in events:
            yield place, event
        self._waiting.popleft()
        del self._ready[place]
        slot, twin = cells.lengths.index(0), self._twin(sequence)
        self._active[slot] = place, sequence
        if twin is None:
            cells.place(slot, context.raw.save(), sequence.n_tokens)
        else:
            cells.share(twin, slot, sequence.n_tokens)
        self._left[slot] = self._room(sequence)
        for event in sequence.draw(context.raw):
            yield place, event
        yield from self._settle(slot)

    def _step(self) -> Iterator[tuple[int, Event]]:
        cells = self._cells
        assert cells is not None
        slots = list(self._active)
        rows = cells.decode([(slot, self._active[slot][1].pending) for slot in slots])
        for slot, row in zip(slots, rows, strict=True):
            place, sequence = self._active[slot]
            sequence.n_tokens += len(sequence.pending)
            self._left[slot] -= len(sequence.pending)
            for event in sequence.draw(cells.raw, row):
                yield place, event
            yield from self._settle(slot)

    def _settle(self, slot: int) -> Iterator[tuple[int, Event]]:
        """Forget what a sequence no longer wants; see it off when it has finished."""
        place, sequence = self._active[slot]
        assert self._cells is not None
        if not sequence.finished:
            self._cells.bury(slot, sequence.n_kept)
            sequence.n_tokens = sequence.n_kept
            return
        self._cells.bury(slot)
        del self._active[slot], self._left[slot]
        sequence.close()
        yield place, sequence.done()
