"""Trivial baselines: answers that need no model. A model that does not beat them has learned nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import blake2b

from prlm_edge import tasks
from prlm_edge.errors import UsageError
from prlm_edge.evaluate.data import Dataset
from prlm_edge.evaluate.records import Row
from prlm_edge.rerank.overlap import Counted, rouge_1
from prlm_edge.retrieve import make_retriever
from prlm_edge.types import Item
from prlm_edge.writer import as_text

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_FILES = re.compile(r"\AChanged files:[^\n]*\n+(?=\S)")  # a commit's text begins after its list of files


def answer(name: str, row: Row, data: Dataset, seed: int = 0) -> str:
    """What the baseline `name` answers; "" where it has nothing to answer with.

    Raises:
        UsageError: No such baseline.
    """
    if name not in BASELINES:
        raise UsageError(f"no baseline is called {name!r}", f"there are: {', '.join(BASELINES)}")
    return BASELINES[name](row, data, seed)


def _first_sentence(row: Row, data: Dataset, seed: int) -> str:
    return " ".join(_SENTENCE_END.split(_FILES.sub("", as_text(row.query)), maxsplit=1)[0].split())


def _copy(row: Row, data: Dataset, seed: int) -> str:
    return " ".join(as_text(row.query).split())


def _random_own(row: Row, data: Dataset, seed: int) -> str:
    own = _answers(row.task, row.profile)
    draw = int.from_bytes(blake2b(f"{seed}\0{row.id}".encode(), digest_size=8).digest())
    return own[draw % len(own)] if own else ""


def _nearest_own(row: Row, data: Dataset, seed: int) -> str:
    return _nearest(row, row.profile)


def _nearest_other(row: Row, data: Dataset, seed: int) -> str:
    return _nearest(row, data.other(row) or ())


def _oracle_own(row: Row, data: Dataset, seed: int) -> str:
    target = Counted(row.target)
    return max(_answers(row.task, row.profile), key=lambda own: rouge_1(Counted(own), target), default="")


def _nearest(row: Row, items: Sequence[Item]) -> str:
    usable = _task(row.task).examples(items)
    hits = make_retriever("bm25", usable, cache=False).search(as_text(row.query), 1)
    return _task(row.task).answer_of(hits[0].item) if hits else ""


def _answers(task: str, items: Sequence[Item]) -> list[str]:
    return [_task(task).answer_of(item) for item in _task(task).examples(items)]


@cache
def _task(name: str) -> tasks.Task:
    return tasks.get_task(name)


#: Name -> what it answers. "oracle_own" looks at the target: no system that copies whole past texts can do better.
BASELINES: dict[str, Callable[[Row, Dataset, int], str]] = {
    "first_sentence": _first_sentence,
    "copy": _copy,
    "random_own": _random_own,
    "nearest_own": _nearest_own,
    "nearest_other": _nearest_other,
    "oracle_own": _oracle_own,
}
