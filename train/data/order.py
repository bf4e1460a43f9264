"""The order in which examples are learned from, fixed before training: a run can continue from any step.

Transformers' own sampler by length draws each epoch's order from the state of the random numbers at that moment, which
is not saved: a run that was killed in its second epoch would end differently from one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from prlm_edge.errors import UsageError

_ALIKE = 16  # batches among which things of like length are looked for


def n_steps(n: int, epochs: float, batch: int) -> int:
    """Steps of `epochs` passes over `n` things; one at least."""
    return max(1, round(epochs * n / batch))


def lay_out(ids: Sequence[str], lengths: Sequence[int], steps: int, batch: int, seed: int) -> list[int]:
    """Places of the things of all steps, one step's `batch` after the other; depends on their ids and the seed alone.

    An epoch is shuffled, then neighbours of like length are put into one batch, so that little is padded.

    Raises:
        UsageError: There are none.
    """
    if not ids:
        raise UsageError("no examples to learn from", "check the data")
    order: list[int] = []
    epoch = 0
    while len(order) < steps * batch:
        order += _epoch(ids, lengths, batch, f"{seed}\0{epoch}")
        epoch += 1
    return order[: steps * batch]


def _epoch(ids: Sequence[str], lengths: Sequence[int], batch: int, salt: str) -> list[int]:
    drawn = [blake2b(f"{salt}\0{one}".encode(), digest_size=8).digest() for one in ids]
    mixed = sorted(range(len(ids)), key=lambda place: drawn[place])
    found: list[list[int]] = []
    for start in range(0, len(mixed), batch * _ALIKE):
        some = sorted(mixed[start : start + batch * _ALIKE], key=lambda place: (lengths[place], drawn[place]))
        batches = [some[i : i + batch] for i in range(0, len(some), batch)]
        found += sorted(batches, key=lambda these: (len(these) < batch, drawn[these[0]]))
    return [place for these in found for place in these]
