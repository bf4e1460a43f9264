"""Habits that a user has crossed out: a small JSON file of theirs, `<profile>.habits`.

It names, for each task and for all of them (""), the keys of facts (`style.Fact.key`) that are not to be followed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from prlm_edge.errors import BAD_DATA, ProfileError
from prlm_edge.storage import clear_leftovers, fits, locked, read_small, write_json

EVERY_TASK = ""


def habits_path(profile: Path) -> Path:
    """Where a profile's file is, whatever links lead to the profile; it need not exist."""
    real = profile.resolve()
    return real.with_name(f"{real.name}.habits")


def crossed_out(profile: Path) -> dict[str, list[str]]:
    """The keys that are crossed out, by task; `EVERY_TASK` has those of all tasks.

    Raises:
        ProfileError: The file can't be read.
    """
    path = habits_path(profile)
    try:
        value = json.loads(read_small(path))
        if not fits(value, {"crossed_out": {str: [str]}}):
            raise ValueError("not as this program writes it")
    except FileNotFoundError:
        return {}
    except (OSError, *BAD_DATA) as error:
        raise ProfileError(f"{path}: {error}", "mend it, or delete it to follow all habits again") from None
    found: dict[str, list[str]] = value["crossed_out"]
    return found


def crossed_out_for(profile: Path, task: str) -> frozenset[str]:
    """The keys that are crossed out for a task. Raises as `crossed_out`."""
    found = crossed_out(profile)
    return frozenset(found.get(EVERY_TASK, ())) | frozenset(found.get(task, ()))


def cross_out(profile: Path, keys: Collection[str], task: str = EVERY_TASK) -> None:
    """Cross out these keys, for one task or for all.

    Raises:
        ProfileError: The file can't be read.
        PrlmError: It can't be written; it is then as it was.
    """
    with locked(habits_path(profile)):
        found = crossed_out(profile)
        found[task] = list(dict.fromkeys([*found.get(task, ()), *keys]))
        _write(profile, found)


def restore(profile: Path, keys: Collection[str] | None = None, task: str = EVERY_TASK) -> int:
    """Follow these (None: all) again, for one task or all of them; returns how many were crossed out.

    Raises as `cross_out`.
    """
    with locked(habits_path(profile)):
        found = crossed_out(profile)
        left = {
            name: [key for key in crossed if task not in (EVERY_TASK, name) or (keys is not None and key not in keys)]
            for name, crossed in found.items()
        }
        _write(profile, left)
    return sum(map(len, found.values())) - sum(map(len, left.values()))


def _write(profile: Path, found: dict[str, list[str]]) -> None:
    clear_leftovers(habits_path(profile))
    if kept := {task: keys for task, keys in found.items() if keys}:
        write_json(habits_path(profile), {"crossed_out": kept})
    else:
        habits_path(profile).unlink(missing_ok=True)
