"""Reads personalized data sets: rows with `user_id`, `query`, `target` and `profile`, or files of LaMP-4, 5 and 7.

A query has a `text`, and may have `short`, the same in a few words, and `diff`, as git prints it: a row can be asked
with any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.records import Owner, QueryForm, Row
from prlm_edge.ingest.lamp import INSTRUCTION, KINDS, MAX_ROW_BYTES, owner_of, past_item, read_golds
from prlm_edge.ingest.records import read_records
from prlm_edge.profile import LineError
from prlm_edge.types import Item
from prlm_edge.writer import as_text

#: The task of ours that answers each data set.
TASKS = {
    "acl_title": "title",
    "commit_subject": "commit",
    "release_note": "note",
    "commit_diff": "commit",
    "blog_title": "title",
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
        skipped: Rows left out because they lack what is asked or a target, and profile items that can't be read.
        asks: What rows were to be asked with; () for the diff where there is one, else the text.
    """

    name: str
    sha256: str
    task: str
    rows: tuple[Row, ...]
    n_users: int
    skipped: int = 0
    asks: tuple[QueryForm, ...] = ()

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
    asks: Sequence[QueryForm] = (),
    on_progress: Callable[[int], None] = lambda done: None,
) -> Dataset:
    """Read the data set in `path`.

    Args:
        path: JSON lines or a LaMP `*_questions.json`, gzipped or not.
        limit: Take this many users, drawn by `seed`: a smaller draw is part of a larger one.
        per_user: Take this many of each user's rows in the file, the first ones.
        seed: Of the draw, and of the order in which users follow each other.
        task: Answer with this task of ours instead of what the file's own name says.
        asks: What of each row to ask with. With several, each row of the file becomes as many rows, those that it has.
        on_progress: Told of rows read.

    Raises:
        UsageError: No such file, no such data, or a task of a name we don't know and none given.
    """
    golds, lamp_task = read_golds(path)
    by_user: dict[str, list[list[Row]]] = {}
    skipped, name = 0, lamp_task
    for done, record in enumerate(read_records(path, max_line_bytes=MAX_ROW_BYTES), 1):
        value = record.value
        if value is None or not isinstance(value.get("profile"), list) or not owner_of(value):
            raise UsageError(f"{path}: {record.where}: {record.error or 'no id and profile in it'}", _HINT)
        name = str(value.get("task") or name)
        rows, bad = _rows(value, golds, name, task or _task_of(path, name), asks)
        skipped += bad
        if rows:
            by_user.setdefault(rows[0].user, []).append(rows)
        on_progress(done)
    order = sorted(by_user, key=lambda user: blake2b(f"{seed}\0{user}".encode(), digest_size=8).digest())
    chosen = order[:limit]
    if not chosen:
        query = f"a query's {' or '.join(asks)}" if asks else "a query"
        raise UsageError(f"{path}: no row with {query} and a target", _HINT)
    rows = [row for user in chosen for several in by_user[user][:per_user] for row in several]
    with path.open("rb") as stream:
        sha256 = file_digest(stream, "sha256").hexdigest()
    return Dataset(path.name, sha256, name, tuple(rows), len(chosen), skipped, tuple(asks))


def domains(paths: Iterable[Path]) -> frozenset[str]:
    """The domains, such as repositories, that the rows of these files are of.

    Raises:
        UsageError: No such file, or no row of it names a domain.
    """
    found: set[str] = set()
    for path in paths:
        records = read_records(path, max_line_bytes=MAX_ROW_BYTES)
        known = {str(record.value.get("domain") or "") for record in records if record.value} - {""}
        if not known:
            raise UsageError(f"{path}: no row names a domain", "name the data set that was trained on")
        found |= known
    return frozenset(found)


def _rows(
    value: Mapping[str, Any], golds: Mapping[str, str], name: str, task: str, asks: Sequence[QueryForm]
) -> tuple[list[Row], int]:
    """A row for each of `asks` that the file's row has, and how many of these and of its items can't be used."""
    user = owner_of(value)
    query = value.get("query")
    if isinstance(query, dict):
        target, date = str(value.get("target") or ""), str(query.get("date") or "")
        row_id = f"{user}/{query.get('id') or value.get('sample') or 0}"
    else:
        text = INSTRUCTION.sub("", str(value.get("input") or ""), count=1)  # our task asks for it in its own words
        query, date, row_id = {"text": text}, "", user
        target = str(golds.get(str(value.get("id")), ""))
    wanted: Sequence[QueryForm] = asks or (["diff"] if query.get("diff") else ["text"])
    usable = [ask for ask in wanted if as_text(str(query.get(ask) or ""))] if target.strip() else []
    missing = len(wanted) - len(usable)
    if not usable:
        return [], missing
    items = tuple(_items(value["profile"], KINDS.get(name, "")))
    rows = [
        Row(
            f"{row_id}/{ask}" if len(asks) > 1 else row_id,
            user,
            task,
            str(query[ask]),
            target,
            items,
            date,
            str(value.get("domain") or ""),
            ask,
        )
        for ask in usable
    ]
    return rows, missing + len(value["profile"]) - len(items)


def _items(profile: Sequence[Any], kind: str) -> Iterator[Item]:
    for record in profile:
        try:
            yield past_item(record, source="", kind=kind)
        except LineError:
            continue


def _task_of(path: Path, name: str) -> str:
    if name not in TASKS:
        raise UsageError(
            f"{path}: don't know how to answer {name or 'rows without a task'!r}", "say it: --task title (or another)"
        )
    return TASKS[name]
