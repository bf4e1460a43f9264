"""Writing imported items to a profile, batch by batch, with an account of what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from prlm_edge.profile import Profile
from prlm_edge.types import Item

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
        updated: Items replaced by a newer text of the same source.
        changed: Items whose source has a newer text that was not taken.
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
    batch: int = BATCH,
) -> None:
    """Add `items` to `profile`, `batch` at a time, and keep `report` true at every moment.

    An item whose id and source are in the profile with another content is a newer text of the same thing: it is
    counted as changed, and with `update` replaces the old one at the end.

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
        for item in items:
            report.read += 1
            report.undated += not item.date and "date" in item.meta
            if len(item.text) + len(item.title) > MAX_ITEM_CHARS:
                report.skip(item.id, f"longer than {MAX_ITEM_CHARS:,} characters")
            elif item.content_hash in seen or profile.has_content(item):
                report.duplicates += 1
            elif (old := profile.get(item.id)) is not None and old.source == item.source:
                seen.add(item.content_hash)
                newer.append(item)
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
