"""The items of a profile that a task learns from, and their style; of a large profile only new items are counted.

Kept is the kind of each item that can be an example, what was counted over those that are, and the style itself, for
the very bytes of the profile that they were read from.
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA, PrlmError
from prlm_edge.profile import cache
from prlm_edge.profile.cache import name_of, shelf
from prlm_edge.profile.habits import crossed_out_for
from prlm_edge.profile.lazy_items import CAN_STORE
from prlm_edge.profile.snapshot import Content
from prlm_edge.profile.store import Profile
from prlm_edge.style import STYLE_VERSION, Counts, Fact, Style, n_with_any, style_of
from prlm_edge.tasks import Task
from prlm_edge.types import Item

_KEY = f"2 {STYLE_VERSION}"  # 2: to be raised when a task chooses its examples, or makes answers of them, otherwise
_MAX_KINDS = 1000


@dataclass
class _Learned:
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
    """What `task.examples` says of the profile's items, and the style of their answers but for habits crossed out."""
    items, style = all_habits(profile, task)
    return items, style.without(crossed_out_for(profile.path, task.name))


def all_habits(profile: Profile, task: Task) -> tuple[list[Item], Style]:
    """As `learn`, with the habits that are crossed out."""
    content = profile.content
    if not CAN_STORE or len(content.items) < cache.KEEP_FROM:
        return _learn(content.items, task)
    name = _name(profile.path, task)
    learned = _load(name, content) or _Learned()
    n_kept = len(learned.codes)
    if n_kept < len(content.items):
        _note_kinds(learned, content.items[n_kept:], task)
        if len(learned.kinds) > _MAX_KINDS:
            return _learn(content.items, task)
        _count(learned, content.items, n_kept, task)
        if content.closed:
            _save(name, content, learned)
    return _of_codes(content.items, learned, 0), learned.style


def _learn(items: Sequence[Item], task: Task) -> tuple[list[Item], Style]:
    examples = task.examples(items)
    return examples, style_of([task.answer_of(item) for item in examples])


def _note_kinds(learned: _Learned, items: Sequence[Item], task: Task) -> None:
    codes = {kind: code for code, kind in enumerate(learned.kinds, 1)}
    learned.codes.extend([codes.setdefault(item.kind, len(codes) + 1) if task.answer_of(item) else 0 for item in items])
    learned.kinds = list(codes)


def _count(learned: _Learned, items: list[Item], n_kept: int, task: Task) -> None:
    """Bring the examples' style up to date, of which those among the first `n_kept` items are counted already."""
    one_of_each = [Item("", text="any", title="any", kind=kind) for kind in learned.kinds]
    chosen = sorted(1 + learned.kinds.index(item.kind) for item in task.examples(one_of_each))
    before, learned.chosen = learned.chosen, chosen
    known = set(learned.codes[:n_kept])
    goes_on = bool(learned.counts) and known.intersection(before) == known.intersection(chosen)
    counts = Counts.from_json(json.loads(learned.counts)) if goes_on else Counts()
    new = [task.answer_of(item) for item in _of_codes(items, learned, n_kept if goes_on else 0)]
    counts.add(new)
    asked, n_before = learned.vocabulary if goes_on else ((), 0)
    learned.vocabulary = ((), 0)  # unless asked for again, since it would not have seen the new answers

    def n_with(words: tuple[str, ...]) -> int:
        """Among all answers; the old ones are looked at again only if other words than before are asked for."""
        n_old = n_before
        if goes_on and asked != words:
            n_old = n_with_any(words, map(task.answer_of, _of_codes(items[:n_kept], learned, 0)))
        learned.vocabulary = (words, n_old + n_with_any(words, new))
        return learned.vocabulary[1]

    learned.style = counts.style(n_with)
    learned.counts = json.dumps(counts.to_json()).encode()


def _of_codes(items: list[Item], learned: _Learned, start: int) -> list[Item]:
    """The examples among `items` from `start` on."""
    chosen = set(learned.chosen)
    return [item for item, code in zip(items[start:], learned.codes[start:], strict=False) if code in chosen]


def _name(path: Path, task: Task) -> str:
    wanted = json.dumps([task.learns_from, task.multiline, task.kinds, task.avoid_kinds]).encode()
    return name_of(path, f"{blake2b(wanted, digest_size=8).hexdigest()}.style")


def _load(name: str, content: Content) -> _Learned | None:
    """What is kept for the first part of the content; None where that is nothing."""
    kept = shelf().open(name, _KEY)
    if kept is None:
        return None
    about = kept.about
    try:
        segments = [(size, bytes.fromhex(digest)) for size, digest in about["segments"]]
        if segments != content.segments[: len(segments)]:
            return None
        learned = _Learned(about["kinds"], array("H"), about["chosen"], counts=bytes(kept.sections["counts"]))
        learned.codes.frombytes(kept.sections["codes"])
        if len(learned.codes) != about["n_items"]:
            raise ValueError("sections that don't fit together")
        words, n_words = about["vocabulary"]
        learned.vocabulary = (tuple(words), n_words)
        facts, n, recurring = about["style"]
        made = (Fact(**{**fact, "value": _tuples(fact["value"])}) for fact in facts)
        learned.style = Style(tuple(made), n, tuple((word, count) for word, count in recurring))
    except BAD_DATA:
        shelf().forget(name)
        return None
    return learned


def _save(name: str, content: Content, learned: _Learned) -> None:
    style = learned.style
    about: dict[str, Any] = {
        "segments": [[size, digest.hex()] for size, digest in content.segments],
        "n_items": len(learned.codes),
        "kinds": learned.kinds,
        "chosen": learned.chosen,
        "vocabulary": learned.vocabulary,
        "style": [[asdict(fact) for fact in style.facts], style.n, style.recurring],
    }
    with contextlib.suppress(PrlmError):  # without it the next process takes longer
        shelf().write(name, _KEY, about, {"codes": learned.codes, "counts": learned.counts})


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
