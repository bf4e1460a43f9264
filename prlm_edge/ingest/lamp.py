"""One user of a personalization benchmark as Items: LaMP's `*_questions.json`, or rows with `user_id` and `profile`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.ingest.common import OnProgress, OnSkip, ignore_progress, ignore_skip
from prlm_edge.ingest.diff import diff_to_text
from prlm_edge.ingest.mapping import complete
from prlm_edge.ingest.records import open_data, read_records
from prlm_edge.profile import LineError, item_from
from prlm_edge.types import Item

MAX_ROW_BYTES = 256 * 1024 * 1024  # a row holds a whole profile
KINDS = {
    "LaMP_1": "paper",
    "LaMP_2": "film",
    "LaMP_3": "review",
    "LaMP_4": "article",
    "LaMP_5": "paper",
    "LaMP_6": "email",
    "LaMP_7": "post",
    "acl_title": "paper",
    "commit_subject": "commit",
    "release_note": "note",
    "commit_diff": "commit",
    "blog_title": "post",
}
INSTRUCTION = re.compile(r"^[^:\n]{10,160}:\s+")
_N_LISTED = 3


def read(
    path: Path,
    *,
    user: str = "",
    with_target: bool = False,
    kind: str = "",
    on_skip: OnSkip = ignore_skip,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Item]:
    """Yield the profile items of one user, over all rows of theirs.

    Args:
        path: `*_questions.json`, or JSON lines, gzipped or not.
        user: `user_id` of a row, or the `id` of a LaMP question; may be empty where the file has only one.
        with_target: Also the row's own question and its answer: the `target`, or the gold of `*_outputs.json` beside
            the questions. Not for evaluation: that would be training on the test.
        kind: Of all items; by the task when empty.
        on_skip: Told of items that are left out.
        on_progress: Told of rows looked at.

    Raises:
        UsageError: No such file or user, several users and none chosen, or no rows of this shape.
    """
    golds, task = read_golds(path) if with_target else ({}, "")
    for row in _rows_of(path, user, on_progress):
        label = kind or KINDS.get(str(row.get("task") or task), "")
        source = f"lamp:{path.name.partition('.')[0]}"
        records = [(f"item {number}", record) for number, record in enumerate(row["profile"], 1)]
        if with_target:
            records.append(("target", _target(row, golds, task)))
        for what, record in records:
            try:
                if record is None:
                    raise LineError("no answer in the outputs file")
                yield past_item(record, source=source, kind=label)
            except LineError as error:
                on_skip(f"user {owner_of(row)}, {what}", str(error))


def past_item(record: object, *, source: str, kind: str) -> Item:
    """The item of a profile's record; `short` becomes its topic.

    Of a record with a `diff` the text is made anew, as a diff at hand is read, unless `diff_cut` says that the stored
    text was made of more than what is there. The diff itself is not kept.

    Args:
        record: The record.
        source: Of an item that names none.
        kind: The same.

    Raises:
        LineError: It is no JSON object, has neither text nor title, or a field of the wrong type.
    """
    if not isinstance(record, dict):
        raise LineError("not a JSON object")
    fields = {key: value for key, value in record.items() if key not in ("short", "diff", "diff_cut")}
    short, diff = record.get("short"), record.get("diff")
    told: dict[str, str] = {"topic": short} if isinstance(short, str) and short.strip() else {}
    if isinstance(diff, str) and diff.strip():
        try:
            change = diff_to_text(diff)  # what `profile import git` keeps of a commit's diff
        except UsageError as error:
            raise LineError(error.message) from None
        if not record.get("diff_cut"):
            fields["text"] = change
        if fields.get("text") != change:  # else the text says it
            told["change"] = change
    item = item_from(complete(fields, source=source, kind=kind), extras=True)
    return replace(item, meta={**item.meta, **told}) if told else item


def _rows_of(path: Path, user: str, on_progress: OnProgress) -> Iterator[Mapping[str, Any]]:
    """The rows of `user`; without one, those of the only user there is."""
    users: dict[str, None] = {}
    rows: list[Mapping[str, Any]] = []
    for done, record in enumerate(read_records(path, max_line_bytes=MAX_ROW_BYTES), 1):
        row = record.value
        if row is None or not isinstance(row.get("profile"), list) or not owner_of(row):
            raise UsageError(
                f"{path}: {record.where}: {record.error or 'no id and profile in it'}",
                "name LaMP questions, or rows with user_id and profile",
            )
        owner = owner_of(row)
        users[owner] = None
        if user and owner == user:
            yield row
            if "user_id" not in row:  # a LaMP question is its user's only one
                return
        elif not user and len(users) == 1:
            rows.append(row)
        on_progress(done, None)
    if user and user not in users:
        raise UsageError(f"{path}: no user {user!r} among {len(users)}", f"such as --lamp-user {_some(users)}")
    if not user and len(users) != 1:
        raise UsageError(f"{path}: rows of {len(users)} users", f"choose one: --lamp-user ID, such as {_some(users)}")
    yield from rows if not user else ()


def owner_of(row: Mapping[str, Any]) -> str:
    """The row's user, or the id of a LaMP question; "" where there is neither."""
    owner = row.get("user_id", row.get("id", ""))
    return str(owner) if isinstance(owner, str | int) else ""


def _some(users: Mapping[str, None]) -> str:
    return " or ".join(list(users)[:_N_LISTED]) or "(none)"


def _target(row: Mapping[str, Any], golds: Mapping[str, str], task: str) -> dict[str, Any] | None:
    """The row's question and answer as a record."""
    query = row.get("query")
    if isinstance(query, dict) and isinstance(row.get("target"), str):
        return {**query, "title": row["target"]}
    id = str(row.get("id", ""))
    if id not in golds:
        return None
    if task == "LaMP_7":  # the question is a paraphrase; the answer is the user's own text
        return {"id": id, "text": golds[id]}
    return {"id": id, "text": INSTRUCTION.sub("", str(row.get("input", "")), count=1), "title": golds[id]}


def read_golds(path: Path) -> tuple[dict[str, str], str]:
    """(answer by question id, task) of the outputs file beside LaMP questions; nothing for rows that hold targets.

    Raises:
        UsageError: No such file beside the questions, or of another shape.
    """
    if "questions" not in path.name:
        return {}, ""
    beside = path.with_name(path.name.replace("questions", "outputs"))
    with open_data(beside) as stream:
        try:
            value = json.load(stream)
            return {str(gold["id"]): str(gold["output"]) for gold in value["golds"]}, str(value.get("task", ""))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(f"{beside}: not LaMP outputs", "it should hold task and golds") from None
