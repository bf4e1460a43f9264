"""What the `profile` commands share: which profile is meant, and items as lines."""

from __future__ import annotations

import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from prlm_edge.errors import UsageError
from prlm_edge.profile import Profile, fields_of
from prlm_edge.types import Item

UserOption = Annotated[
    str | None, typer.Option("--user", "-u", metavar="FILE", help="The profile; else the setting `user`.")
]
_ID_COLUMNS = 16


def open_profile(user: str | None, config: Path | None, *, create: bool = False) -> Profile:
    """The profile that is meant.

    Raises:
        UsageError: None is named, or it can't be opened as a profile.
    """
    from prlm_edge.settings import load_settings

    path = load_settings(config=config, flags={"user": user}).user
    if not path:
        raise UsageError(
            "no profile named", "name it with --user me.jsonl, or once and for all: prlm-edge config set user me.jsonl"
        )
    return Profile.open(path, create=create)


def day(text: str, option: str) -> str:
    """An ISO date or prefix from an option; "today" is understood.

    Raises:
        UsageError: No date.
    """
    from prlm_edge.ingest.common import iso_date

    found = date.today().isoformat() if text == "today" else iso_date(text)
    if text and not found:
        raise UsageError(f"{option} {text}: not a date", "write it as 2024, 2024-08 or 2024-08-01")
    return found


def item_line(item: Item) -> str:
    """One line of a list: id, date, kind and title (or the beginning of the text), cut to the terminal's width."""
    title = " ".join((item.title or item.text[:500]).split())
    line = f"{item.id:<{_ID_COLUMNS}}  {item.date[:10]:<10}  {item.kind:<8}  {title}"
    if sys.stdout is not None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        return line if len(line) <= width else line[: width - 1] + "…"
    return line


def item_record(item: Item) -> dict[str, Any]:
    """An item as it would stand in a profile."""
    return fields_of(item)


def count(n: int, noun: str) -> str:
    """A number with its noun: "1 item", "2,000 items"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
