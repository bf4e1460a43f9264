"""The last drafts, kept so that `prlm-edge accept` can take one: a private file of the user's, of a few requests.

Writing is whole or not at all and under a lock. A line that can't be read is left out, and gone with the next write:
all of it serves for a while only.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from prlm_edge.errors import BAD_DATA, UsageError
from prlm_edge.ingest.message import redact
from prlm_edge.prompt import Plan
from prlm_edge.storage import atomic_write, clear_leftovers, fits, locked, private_dir, state_dir
from prlm_edge.types import Candidate, Draft, Shape

MAX_CHARS = 20_000  # kept of a request
_FORM = {
    **dict.fromkeys(("id", "task", "request", "shape", "writes", "kind", "model", "final", "profile", "date"), str),
    "multiline": bool,
    "answers": [str],
    "used": [str],
}


@dataclass(frozen=True)
class KeptDraft:
    """A draft in the file.

    Attributes:
        draft: The draft.
        profile: The profile that it was written from.
        date: When it was kept, in UTC.
    """

    draft: Draft
    profile: Path
    date: str


def draft_of(plan: Plan, shown: tuple[Candidate, ...], model: str) -> Draft | None:
    """The draft of a request that was answered; None where nothing was answered.

    Args:
        plan: What was asked.
        shown: The answers that the user sees, best first.
        model: Who answered.
    """
    answers = tuple(one.answer for one in shown if one.answer)
    if not answers:
        return None
    task, used = plan.task, [hit.item for hit in plan.prompt.used]
    return Draft(
        id=secrets.token_hex(6),
        task=task.name,
        request=redact(plan.scoring.query)[:MAX_CHARS],
        shape=plan.scoring.shape,
        writes=task.learns_from,
        multiline=task.multiline,
        answers=answers,
        kind=used[0].kind if used else next(iter(task.kinds), ""),
        used=tuple(item.id for item in used),
        model=model,
    )


def drafts_path() -> Path:
    """Where the drafts are kept; the file need not exist."""
    return state_dir() / "drafts.jsonl"


def keep(draft: Draft, profile: Path, n: int) -> None:
    """Keep a draft as the newest of at most `n`.

    Raises:
        PrlmError: It can't be written; the file is then as it was.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = KeptDraft(draft, profile.resolve(), now)
    _rewrite(lambda old: [*(one for one in old if one.draft.id != draft.id), new][-n:])


def kept(profile: Path | None = None) -> list[KeptDraft]:
    """The drafts, of one profile or of all, the newest last."""
    real = profile.resolve() if profile else None
    return [one for one in _read() if real in (None, one.profile)]


def find(profile: Path | None, id: str = "") -> KeptDraft:
    """The draft of that id, or the last one; of one profile or of all.

    Raises:
        UsageError: There is none.
    """
    found = [one for one in kept(profile) if id in ("", one.draft.id)]
    if not found:
        what = f"no draft {id!r} is kept" if id else "no answer is kept"
        raise UsageError(what, "`prlm-edge accept --list` shows those that are; the setting drafts says how many")
    return found[-1]


def forget(which: Callable[[KeptDraft], bool]) -> int:
    """Delete drafts; returns how many. The file goes with its last one.

    Raises:
        PrlmError: It can't be written; the file is then as it was.
    """
    if not any(map(which, _read())):
        return 0
    return _rewrite(lambda old: [one for one in old if not which(one)])


def _rewrite(change: Callable[[list[KeptDraft]], list[KeptDraft]]) -> int:
    """Replace the drafts by what `change` makes of them; returns how many fewer they are."""
    path = drafts_path()
    private_dir(path.parent)
    with locked(path):
        clear_leftovers(path)
        before = list(_read())
        after = change(before)
        if after:
            records = [{**asdict(one.draft), "profile": os.fspath(one.profile), "date": one.date} for one in after]
            with atomic_write(path, follow=False) as stream:
                stream.writelines(json.dumps(record).encode() + b"\n" for record in records)
        else:
            path.unlink(missing_ok=True)
    return len(before) - len(after)


def _read() -> Iterator[KeptDraft]:
    try:
        lines = drafts_path().read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except BAD_DATA:
            continue
        if _is_sound(record):
            yield _kept(record)


def _is_sound(record: Any) -> bool:
    if not fits(record, _FORM) or not record["answers"] or "\0" in record["profile"]:
        return False
    return record["shape"] in get_args(Shape) and record["writes"] in ("title", "text")


def _kept(record: dict[str, Any]) -> KeptDraft:
    profile, date = Path(record.pop("profile")), record.pop("date")
    record = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
    return KeptDraft(Draft(**{name: record[name] for name in _FORM if name in record}), profile, date)
