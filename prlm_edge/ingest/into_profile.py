"""Writing imported items to a profile, batch by batch, with an account of what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace

from prlm_edge.profile import Profile, as_stored
from prlm_edge.types import ACCEPTED, Item

BATCH = 500
MAX_ITEM_CHARS = 2_000_000
_N_EXAMPLES = 20
_N_SAMPLE = 3


@dataclass
class Report:
    """What an import did, or in a dry run would do.

    Attributes:
        read: Items that the importer yielded.
        added: Items added.
        updated: Items brought up to date with their source.
        changed: Items of whose source a newer text, or more facts, were not taken.
        duplicates: Items whose title and text are in the profile already.
        skipped: Number of things left out, by reason.
        undated: Items whose date can't be told for sure, such as 01/02/2024; it is kept as written in `meta`.
        examples: (where, why) of the first ones left out.
        sample: The first items that were added.
        dry_run: Whether nothing was written.
        interrupted: Whether it was stopped before its end.
    """

    read: int = 0
    added: int = 0
    updated: int = 0
    changed: int = 0
    duplicates: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    undated: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    sample: list[Item] = field(default_factory=list)
    dry_run: bool = False
    interrupted: bool = False

    def skip(self, where: str, why: str) -> None:
        """Count something that was left out (an importer's `on_skip`)."""
        self.skipped[why] += 1
        if len(self.examples) < _N_EXAMPLES:
            self.examples.append((where, why))


def import_items(
    profile: Profile,
    items: Iterable[Item],
    report: Report,
    *,
    update: bool = False,
    dry_run: bool = False,
    fixed: bool = False,
    batch: int = BATCH,
) -> None:
    """Add `items` to `profile`, `batch` at a time, and keep `report` true at every moment.

    An item whose id and source are in the profile with another text or other facts is the same thing, told anew: it is
    counted as changed, and with `update` brings the old one up to date, all of them in one step at the end.

    An item may be worded as an answer that the user has accepted, as a commit is by the subject written for it. As it
    was accepted unchanged, no later than the item, neither teaches; as it was edited that day, it is a duplicate.

    Args:
        profile: The profile.
        items: What was imported.
        report: Brought up to date.
        update: Also bring items of the profile up to date.
        dry_run: Write nothing.
        fixed: What is imported never changes and its id is its own, as a commit's is, whatever the source is called: a
            title or text that differs was edited in the profile, and stays.
        batch: Items written at a time.

    Raises:
        PrlmError: The profile can't be written; what was added before stays.
        KeyboardInterrupt: The batches that were added stay.
    """
    report.dry_run = dry_run
    pending: list[Item] = []
    newer: list[Item] = []
    seen: set[str] = set()
    before = len(profile)
    try:
        for item in _without_drafts(profile, items, report):
            report.read += 1
            report.undated += not item.date and "date" in item.meta
            if len(item.text) + len(item.title) > MAX_ITEM_CHARS:
                report.skip(item.id, f"longer than {MAX_ITEM_CHARS:,} characters")
            elif (old := profile.get(item.id)) is not None and _is_same(old, item, seen, profile, fixed=fixed):
                seen.add(item.content_hash)
                if (told := _told_anew(old, item, fixed=fixed)) == old or as_stored(told) == old:
                    report.duplicates += 1
                else:
                    newer.append(told)
            elif item.content_hash in seen or profile.has_content(item):
                report.duplicates += 1
            else:
                seen.add(item.content_hash)
                pending.append(item)
                if len(pending) >= batch:
                    _flush(profile, pending, report)
        _flush(profile, pending, report)
        if update and newer:
            report.updated = len(newer) if dry_run else profile.update(newer)
        else:
            report.changed = len(newer)
    except KeyboardInterrupt:
        report.interrupted = True
        if not dry_run and profile.path.exists():
            profile.refresh()
            report.added = len(profile) - before
        raise


def _without_drafts(profile: Profile, items: Iterable[Item], report: Report) -> Iterator[Item]:
    """The items, but for those that came of our answers: see `import_items`."""
    answers: dict[str, Item] = {}  # the first that became of each wording
    for item in profile:
        ours = not item.teaches or (item.id.startswith("a") and "origin" in item.meta)  # the id spares reading all
        if ours and item.date:
            answers.setdefault(_worded(item), item)
    for item in items:
        answer, day = answers.get(_worded(item)), item.date[:10]
        if answer is None or (day and day < answer.date):
            yield item
        elif not answer.teaches:
            yield replace(item, meta={**item.meta, "origin": ACCEPTED})
        elif day == answer.date and item.id != answer.id:
            report.read += 1
            report.duplicates += 1
        else:
            yield item


def _worded(item: Item) -> str:
    """The words of what a draft may have become."""
    return " ".join((item.title or item.text).split())


def _is_same(old: Item, item: Item, seen: Container[str], profile: Profile, *, fixed: bool) -> bool:
    """Whether `item` is what `old` was made of, and no other item has its content."""
    if not (fixed or old.source == item.source) or item.content_hash in seen:
        return False
    return old.content_hash == item.content_hash or not profile.has_content(item)


def _told_anew(old: Item, item: Item, *, fixed: bool) -> Item:
    """`old` with what `item` knows of the same thing; what only `old` knows stays."""
    first, second = (old, item) if fixed or old.content_hash == item.content_hash else (item, old)
    meta = {**old.meta, **item.meta}
    return replace(first, date=first.date or second.date, kind=first.kind or second.kind, meta=meta)


def _flush(profile: Profile, pending: list[Item], report: Report) -> None:
    if not pending:
        return
    if report.dry_run:
        report.added += len(pending)
    else:
        done = profile.append(pending)
        report.added += done.added
        report.duplicates += done.duplicates
    report.sample += pending[: _N_SAMPLE - len(report.sample)]
    pending.clear()
