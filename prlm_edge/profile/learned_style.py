"""The items of a profile that a task learns from, and their style: of a large profile kept, and only the new counted.

Kept is the kind of each item that can be an example, what was counted over those that are, and the style itself, for
the very bytes of the profile that they were read from. Not here: which items a task learns from (`tasks/`), what is
counted (`style.py`), the file that this goes to (`profile_cache.py`).
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prlm_edge.profile import cache_file as profile_cache
from prlm_edge.profile import kept as profile_keep
from prlm_edge.profile.lazy_items import CAN_STORE
from prlm_edge.profile.snapshot import Content
from prlm_edge.profile.store import Profile
from prlm_edge.style import STYLE_VERSION, Counts, Fact, Style, n_with_any, style_of
from prlm_edge.tasks import Task
from prlm_edge.types import Item

FORMAT = 1  # to be raised when a task chooses its examples, or makes answers of them, in another way
_MAX_KINDS = 1000


@dataclass
class _Kept:
    """What is known of a profile's first items.

    Attributes:
        kinds: The kinds of items that can be examples.
        codes: Of each item 0 where it can't be one, else its kind's place in `kinds`, from 1.
        chosen: The codes of those that are examples.
        vocabulary: The recurring words that were asked for last, and in how many answers any of them stands.
        style: The style of the examples.
        counts: What `Counts.from_json` makes the examples' counts of, as JSON.
    """

    kinds: list[str] = field(default_factory=list)
    codes: array[int] = field(default_factory=lambda: array("H"))
    chosen: list[int] = field(default_factory=list)
    vocabulary: tuple[tuple[str, ...], int] = ((), 0)
    style: Style = field(default_factory=Style)
    counts: bytes = b""


def learn(profile: Profile, task: Task) -> tuple[list[Item], Style]:
    """What `task.examples` says of the profile's items, and the style of their answers."""
    content = profile.content
    if not CAN_STORE or len(content.items) < profile_keep.KEEP_FROM:
        return _learn(content.items, task)
    file = _file(profile.path, task)
    kept = _load(file, content) or _Kept()
    n_kept = len(kept.codes)
    if n_kept < len(content.items):
        _note_kinds(kept, content.items[n_kept:], task)
        if len(kept.kinds) > _MAX_KINDS:
            return _learn(content.items, task)
        _count(kept, content.items, n_kept, task)
        if content.closed:
            _save(file, content, kept)
    return _of_codes(content.items, kept, 0), kept.style


def _learn(items: Sequence[Item], task: Task) -> tuple[list[Item], Style]:
    examples = task.examples(items)
    return examples, style_of([task.answer_of(item) for item in examples])


def _note_kinds(kept: _Kept, items: Sequence[Item], task: Task) -> None:
    codes = {kind: code for code, kind in enumerate(kept.kinds, 1)}
    kept.codes.extend([codes.setdefault(item.kind, len(codes) + 1) if task.answer_of(item) else 0 for item in items])
    kept.kinds = list(codes)


def _count(kept: _Kept, items: list[Item], n_kept: int, task: Task) -> None:
    """Bring the examples' style up to date, of which those among the first `n_kept` items are counted already."""
    one_of_each = [Item("", text="any", title="any", kind=kind) for kind in kept.kinds]
    chosen = sorted(1 + kept.kinds.index(item.kind) for item in task.examples(one_of_each))
    before, kept.chosen = kept.chosen, chosen
    known = set(kept.codes[:n_kept])
    goes_on = bool(kept.counts) and known.intersection(before) == known.intersection(chosen)
    counts = Counts.from_json(json.loads(kept.counts)) if goes_on else Counts()
    new = [task.answer_of(item) for item in _of_codes(items, kept, n_kept if goes_on else 0)]
    counts.add(new)
    asked, n_before = kept.vocabulary if goes_on else ((), 0)
    kept.vocabulary = ((), 0)  # unless asked for again, since it would not have seen the new answers

    def n_with(words: tuple[str, ...]) -> int:
        """Among all answers; the old ones are looked at again only if other words than before are asked for."""
        n_old = n_before
        if goes_on and asked != words:
            n_old = n_with_any(words, map(task.answer_of, _of_codes(items[:n_kept], kept, 0)))
        kept.vocabulary = (words, n_old + n_with_any(words, new))
        return kept.vocabulary[1]

    kept.style = counts.style(n_with)
    kept.counts = json.dumps(counts.to_json()).encode()


def _of_codes(items: list[Item], kept: _Kept, start: int) -> list[Item]:
    """The examples among `items` from `start` on."""
    chosen = set(kept.chosen)
    return [item for item, code in zip(items[start:], kept.codes[start:], strict=False) if code in chosen]


def _file(path: Path, task: Task) -> Path:
    wanted = json.dumps([task.learns_from, task.multiline, task.kinds, task.avoid_kinds]).encode()
    return profile_cache.path_of(path, f"{blake2b(wanted, digest_size=8).hexdigest()}.style")


def _load(file: Path, content: Content) -> _Kept | None:
    """What is kept for the first part of the content; None where that is nothing."""
    found = profile_cache.read(file)
    if found is None:
        return None
    header, (codes, counts) = found[0], found[1]
    try:
        segments = [(size, bytes.fromhex(digest)) for size, digest in header["segments"]]
        if header["format"] != _format() or segments != content.segments[: len(segments)]:
            return None
        kept = _Kept(header["kinds"], array("H"), header["chosen"], counts=bytes(counts))
        kept.codes.frombytes(codes)
        if len(kept.codes) != header["n_items"]:
            raise ValueError("parts that don't fit together")
        words, n_words = header["vocabulary"]
        kept.vocabulary = (tuple(words), n_words)
        facts, n, recurring = header["style"]
        made = (Fact(**{**fact, "value": _tuples(fact["value"])}) for fact in facts)
        kept.style = Style(tuple(made), n, tuple((word, count) for word, count in recurring))
    except (ValueError, KeyError, TypeError):
        profile_cache.forget(file)
        return None
    return kept


def _save(file: Path, content: Content, kept: _Kept) -> None:
    style = kept.style
    header: dict[str, Any] = {
        "format": _format(),
        "segments": [[size, digest.hex()] for size, digest in content.segments],
        "n_items": len(kept.codes),
        "kinds": kept.kinds,
        "chosen": kept.chosen,
        "vocabulary": kept.vocabulary,
        "style": [[asdict(fact) for fact in style.facts], style.n, style.recurring],
    }
    profile_cache.write(file, header, [kept.codes, kept.counts])


def _format() -> list[Any]:
    return [FORMAT, STYLE_VERSION, sys.byteorder, array("H").itemsize]


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
