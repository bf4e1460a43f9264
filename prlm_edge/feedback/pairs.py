"""Pairs of an answer that the user kept and one that they did not, to train on: a file of theirs, `<profile>.pairs`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from prlm_edge.storage import append_json, atomic_write, clear_leftovers, cut_torn_line, json_lines, locked
from prlm_edge.types import Origin, Shape


@dataclass(frozen=True)
class KeptPair:
    """Two answers to a request.

    Attributes:
        draft: Id of the draft.
        item: Id of the profile's item that `chosen` became.
        task: The task's name.
        request: What was asked for.
        shape: What `request` is.
        used: Ids of the past items that the prompt showed.
        chosen: What the user kept.
        rejected: What they changed, or left for `chosen`.
        why: Which of the two.
        origin: Whether `chosen` is the user's wording or the program's.
        model: Who wrote `rejected`.
        date: Of the day.
    """

    draft: str
    item: str
    task: str
    request: str
    shape: Shape
    used: Sequence[str]
    chosen: str
    rejected: str
    why: Literal["changed", "left"]
    origin: Origin
    model: str
    date: str


def pairs_path(profile: Path) -> Path:
    """Where a profile's pairs are, whatever links lead to the profile; the file need not exist."""
    real = profile.resolve()
    return real.with_name(f"{real.name}.pairs")


def read_pairs(profile: Path) -> list[KeptPair]:
    """The pairs of a profile, oldest first.

    Raises:
        DataError: A line is damaged.
    """
    path = pairs_path(profile)
    return list(json_lines(path, _pair, f"delete that line of {path}"))


def write_pairs(profile: Path, draft: str, pairs: Sequence[KeptPair]) -> None:
    """Add pairs, in place of those that came from the same draft before.

    Raises:
        DataError: A line is damaged.
        PrlmError: They can't be written; the file is then as it was.
    """
    path = pairs_path(profile)
    with locked(path):
        cut_torn_line(path)
        before = read_pairs(profile)
        others = [old for old in before if old.draft != draft]
        if len(others) < len(before):
            _write(path, [*others, *pairs])
        elif pairs:
            append_json(path, *map(asdict, pairs))


def forget_pairs(profile: Path, which: Callable[[KeptPair], bool]) -> int:
    """Delete pairs; returns how many. The file goes with its last one.

    Raises:
        DataError: A line is damaged.
        PrlmError: They can't be written; the file is then as it was.
    """
    path = pairs_path(profile)
    if not path.exists():
        return 0
    with locked(path):
        before = read_pairs(profile)
        left = [old for old in before if not which(old)]
        if len(left) < len(before):
            _write(path, left)
    return len(before) - len(left)


def _write(path: Path, pairs: Sequence[KeptPair]) -> None:
    """Replace the file by these pairs, or delete it where there are none."""
    clear_leftovers(path)
    if not pairs:
        path.unlink()
        return
    with atomic_write(path) as stream:
        for pair in pairs:
            stream.write((json.dumps(asdict(pair), ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def _pair(record: dict[str, Any]) -> KeptPair:
    pair = KeptPair(**{field.name: record[field.name] for field in fields(KeptPair)})
    if not all(isinstance(value, str) for name, value in vars(pair).items() if name != "used"):
        raise ValueError
    return pair
