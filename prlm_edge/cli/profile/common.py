"""What the `profile` commands share: which profile is meant, and items as lines."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from prlm_edge.cli.shared.console import clip, count, note, one_line
from prlm_edge.cli.shared.options import ConfigFile, UserOption, new_app
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import UsageError, did_you_mean
from prlm_edge.profile import Profile
from prlm_edge.settings import load_settings
from prlm_edge.types import Item

app = new_app(help=VERBS["profile"], no_args_is_help=True)
_ID_COLUMNS = 16


def open_profile(user: UserOption = None, config: ConfigFile = None) -> Profile:
    """The profile that is meant, which must exist."""
    return open_or_create(user, config, create=False)


def open_or_create(user: str | None, config: Path | None, *, create: bool = True) -> Profile:
    """The profile that is meant.

    Raises:
        UsageError: None is named, or it can't be opened as a profile.
    """
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
    from prlm_edge.ingest.dates import iso_date

    found = date.today().isoformat() if text == "today" else iso_date(text)
    if text and not found:
        raise UsageError(f"{option} {text}: not a date", "write it as 2024, 2024-08 or 2024-08-01")
    return found


def item_line(item: Item) -> str:
    """One line of a list: id, date, kind and title (or the beginning of the text), cut to the terminal's width."""
    id, kind, title = (one_line(cell) for cell in (item.id, item.kind, item.title or item.text))
    return clip(f"{id:<{_ID_COLUMNS}}  {item.date[:10]:<10}  {kind:<8}  {title}")


def note_bad(profile: Profile) -> None:
    """Say that some lines can't be read."""
    if profile.bad:
        note(f"{count(len(profile.bad), 'line')} can't be read: `prlm-edge profile verify` names them")


def nearest_id(profile: Profile, id: str) -> str:
    """The hint for an id that no item has."""
    ids = (item.id for item in profile.items[:10_000])
    return did_you_mean(id, ids, "`prlm-edge profile list --limit 0` shows the ids")
