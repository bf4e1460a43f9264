"""Training in several processes, as `accelerate launch` starts them: who writes, and what all must agree on.

Each learns from its share of every step's examples, and the gradients are averaged. The first process alone writes
files and speaks. Whatever decides how a run goes on (a stop, a rule, a dev score) must be the same in all of them: one
that waits for another's gradients waits for ever. Where one fails, the launcher ends the others.

In a single process all of this does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

_T = TypeVar("_T")
_PATIENCE = timedelta(hours=2)  # the others wait while the first one prepares the data


def rank() -> int:
    """Which of the processes this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def wait() -> None:
    """Go on when all have come here."""
    gathered([None])


def gathered(some: Sequence[_T]) -> list[_T]:
    """What each process has, in their order; all must call this."""
    if count() == 1:
        return list(some)
    if not distributed.is_initialized():
        PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    found: list[Any] = [None] * count()
    distributed.all_gather_object(found, list(some))
    return [one for part in found for one in part]


@contextlib.contextmanager
def first_one_first() -> Iterator[None]:
    """The first process does what is in the block before the others do."""
    if not first():
        wait()
    yield
    if first():
        wait()


def inside(model: Any, compute: Callable[[Any], Any]) -> Any:
    """`compute(model)`, by way of the wrapper that averages gradients, where there is one.

    It prepares for a backward pass in its own forward pass alone, so `compute` must run as the model's.
    """
    if not isinstance(model, DistributedDataParallel):
        return compute(model)
    own = model.module.forward

    def forward() -> Any:
        model.module.forward = own
        return compute(model.module)

    model.module.forward = forward
    return model()
