"""Reads personalized data sets: rows with `user_id`, `query`, `target` and `profile`, or files of LaMP-4, 5 and 7."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.records import Owner, Row
from prlm_edge.ingest.lamp import INSTRUCTION, KINDS, MAX_ROW_BYTES, owner_of, read_golds
from prlm_edge.ingest.mapping import complete
from prlm_edge.ingest.records import read_records
from prlm_edge.profile import LineError, item_from
from prlm_edge.types import Item
from prlm_edge.writer import as_text

#: The task of ours that answers each data set.
TASKS = {
    "acl_title": "title",
    "commit_subject": "commit",
    "release_note": "note",
    "LaMP_4": "headline",
    "LaMP_5": "title",
    "LaMP_7": "paraphrase",
}
_HINT = "name rows with user_id, query, target and profile, or a LaMP *_questions.json with its *_outputs.json"


@dataclass(frozen=True)
class Dataset:
    """Rows to answer, and the profiles that may be shown in place of their own.

    Attributes:
        name: The file's name.
        sha256: Of the file.
        task: What the file says, such as "acl_title" or "LaMP_5".
        rows: The chosen users' rows.
        n_users: How many users `rows` are of.
        skipped: Rows left out because they lack a query or a target, and profile items that can't be read.
    """

    name: str
    sha256: str
    task: str
    rows: tuple[Row, ...]
    n_users: int
    skipped: int = 0

    def other(self, row: Row, *, same_domain: bool = False) -> tuple[Item, ...] | None:
        """The profile of another user: the next one in the order of the seed; None where there is no other user.

        Args:
            row: Of the user whose own profile is left out.
            same_domain: Of a user of the same domain; else of another domain, where rows have domains.
        """
        if same_domain and not row.domain:
            return None
        users = list(self._first_rows)
        here = users.index(row.user)
        for user in users[here + 1 :] + users[:here]:
            one = self._first_rows[user]
            if not row.domain or (one.domain == row.domain) == same_domain:
                return one.profile
        return None

    def profile_for(self, row: Row, owner: Owner) -> tuple[Item, ...] | None:
        """The past items that a condition with the profile of `owner` shows; None where there is no such user."""
        if owner in ("other", "neighbour"):
            return self.other(row, same_domain=owner == "neighbour")
        return () if owner == "none" else row.profile

    @cached_property
    def _first_rows(self) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for row in self.rows:
            found.setdefault(row.user, row)
        return found


def load(
    path: Path,
    *,
    limit: int | None = None,
    per_user: int | None = None,
    seed: int = 0,
    task: str | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Dataset:
    """Read the data set in `path`.

    Args:
        path: JSON lines or a LaMP `*_questions.json`, gzipped or not.
        limit: Take this many users, drawn by `seed`: a smaller draw is part of a larger one.
        per_user: Take this many rows of each user, the first ones.
        seed: Of the draw, and of the order in which users follow each other.
        task: Answer with this task of ours instead of what the file's own name says.
        on_progress: Told of rows read.

    Raises:
        UsageError: No such file, no such data, or a task of a name we don't know and none given.
    """
    golds, lamp_task = read_golds(path)
    by_user: dict[str, list[Row]] = {}
    skipped, name = 0, lamp_task
    for done, record in enumerate(read_records(path, max_line_bytes=MAX_ROW_BYTES), 1):
        value = record.value
        if value is None or not isinstance(value.get("profile"), list) or not owner_of(value):
            raise UsageError(f"{path}: {record.where}: {record.error or 'no id and profile in it'}", _HINT)
        name = str(value.get("task") or name)
        row, bad = _row(value, golds, name, task or _task_of(path, name))
        skipped += bad
        if row:
            by_user.setdefault(row.user, []).append(row)
        on_progress(done)
    order = sorted(by_user, key=lambda user: blake2b(f"{seed}\0{user}".encode(), digest_size=8).digest())
    chosen = order[:limit]
    if not chosen:
        raise UsageError(f"{path}: no row with a query and a target", _HINT)
    rows = tuple(row for user in chosen for row in by_user[user][:per_user])
    with path.open("rb") as stream:
        sha256 = file_digest(stream, "sha256").hexdigest()
    return Dataset(path.name, sha256, name, rows, len(chosen), skipped)


def _row(value: Mapping[str, Any], golds: Mapping[str, str], name: str, task: str) -> tuple[Row | None, int]:
    """The row, and how many of its parts can't be used."""
    user = owner_of(value)
    query = value.get("query")
    if isinstance(query, dict):
        text, target, date = str(query.get("text") or ""), str(value.get("target") or ""), str(query.get("date") or "")
        row_id = f"{user}/{query.get('id') or value.get('sample') or 0}"
    else:
        text, date, row_id = str(value.get("input") or ""), "", user
        target = str(golds.get(str(value.get("id")), ""))
        text = INSTRUCTION.sub("", text, count=1)  # our task asks for it in its own words
    if not as_text(text) or not target.strip():
        return None, 1
    items = list(_items(value["profile"], KINDS.get(name, "")))
    missing = len(value["profile"]) - len(items)
    return Row(row_id, user, task, text, target, tuple(items), date, str(value.get("domain") or "")), missing


def _items(profile: Sequence[Any], kind: str) -> Iterator[Item]:
    for record in profile:
        try:
            if isinstance(record, dict):
                yield item_from(complete(record, source="", kind=kind), extras=True)
        except LineError:
            continue


def _task_of(path: Path, name: str) -> str:
    if name not in TASKS:
        raise UsageError(
            f"{path}: don't know how to answer {name or 'rows without a task'!r}", "say it: --task title (or another)"
        )
    return TASKS[name]
