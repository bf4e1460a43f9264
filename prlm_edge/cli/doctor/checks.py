"""What `prlm-edge doctor` finds out about settings, task, profile and folders, and the form of every finding."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prlm_edge import settings, storage
from prlm_edge.cli.shared.console import count
from prlm_edge.errors import PrlmError
from prlm_edge.settings import Settings

State = Literal["ok", "note", "warn", "missing", "bad"]
LOW_SPACE = 200_000_000  # bytes: room for the default model twice over, as when one is replaced
DENSE = ("dense", "hybrid")


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        section: Its heading.
        name: What was looked at.
        state: "ok"; "note" (optional, or worth knowing), "warn" (works, but should be mended), "missing" or "bad".
        text: What was found.
        fix: The command (or the step) that mends it; "" where nothing needs mending.
        needed: Whether `generate`, with the settings as they are, can't run unless this is well.
    """

    section: str
    name: str
    state: State
    text: str
    fix: str = ""
    needed: bool = False

    @property
    def blocks(self) -> bool:
        """Whether `generate` can't run because of this."""
        return self.needed and self.state in ("missing", "bad")


def chooses_by_reward(found: Settings) -> bool:
    """Whether `generate`, with the settings as they are, asks the reward model."""
    return found.select == "reward" and found.n_drawn > 1


def check_settings(config: Path | None) -> tuple[Settings, list[Check]]:
    """Read the settings; defaults take the place of what can't be read."""
    try:
        found = settings.load_settings(config=config)
    except PrlmError as error:
        return Settings(), [Check("Settings", "settings", "bad", error.message, error.hint, needed=True)]
    changed = sum(origin != "default" for origin in found.origins.values())
    file = settings.config_path()
    text = f"{changed} changed from the default" + ("" if file.exists() else f"; no {file}")
    checks = [Check("Settings", "settings", "ok", text)]
    if found.api_key and found.origins["api_key"] not in ("flag", "PRLM_API_KEY"):
        holder = Path(found.origins["api_key"])
        if holder.stat().st_mode & 0o077:
            checks.append(Check("Settings", "api_key", "warn", f"others can read {holder}", _chmod("600", holder)))
    return found, [*checks, _task(found), _profile(found)]


def check_folders() -> Iterator[Check]:
    """The folders of data, settings, state and cache: may we write, may others read, how much room is there."""
    folders = {
        **{"data": storage.data_dir(), "config": storage.config_dir()},
        **{"state": storage.state_dir(), "cache": storage.cache_dir()},
    }
    for name, folder in folders.items():
        try:
            yield _folder(name, folder)
        except OSError as error:
            yield Check("Folders", name, "bad", f"{error.filename}: {error.strerror}", "mend its permissions")


def _task(found: Settings) -> Check:
    from prlm_edge.tasks import get_task

    try:
        get_task(found.task, found.tasks_folder)
    except PrlmError as error:
        return Check("Settings", "task", "bad", error.message, error.hint, needed=True)
    return Check("Settings", "task", "ok", found.task)


def _profile(found: Settings) -> Check:
    if found.user is None:
        fix = "prlm-edge config set user me.jsonl"
        return Check("Settings", "profile", "note", "none set; generate takes --user", fix)
    from prlm_edge.profile import Profile

    path = shlex.quote(found.user)
    try:
        profile = Profile.open(found.user)
        items, bad = len(profile), len(profile.bad)
    except PrlmError as error:
        fix = error.hint or f"prlm-edge profile verify --user {path}"
        return Check("Settings", "profile", "bad", error.message, fix, needed=True)
    text = f"{found.user}: {count(items, 'item')}"
    if bad:
        text += f", {count(bad, 'unreadable line')}"
        return Check("Settings", "profile", "warn", text, f"prlm-edge profile repair --user {path}")
    return Check("Settings", "profile", "ok", text)


def _folder(name: str, folder: Path) -> Check:
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        fix = "mend its permissions, or set PRLM_HOME to a folder that you may write"
        return Check("Folders", name, "bad", f"{folder} can't be written", fix)
    free = shutil.disk_usage(nearest).free
    text = f"{folder}, {free / 1e9:.1f} GB free"
    if free < LOW_SPACE:
        return Check("Folders", name, "warn", text, "free some space, or set PRLM_HOME to a folder on another disk")
    if folder.exists() and os.name == "posix" and folder.stat().st_mode & 0o077:
        return Check("Folders", name, "warn", f"{text}; others may look into it", _chmod("700", folder))
    return Check("Folders", name, "ok", text)


def _chmod(mode: str, path: Path) -> str:
    return f"chmod {mode} {shlex.quote(str(path))}"
