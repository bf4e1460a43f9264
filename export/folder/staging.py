"""Stages of an export in a folder next to its target: each whole or not at all, none done twice, published in one move.

    OUT.partial/stages.json   what each finished stage was made from, and the size and hash of each file it left
    OUT                       appears when everything is there and verified
    OUT.failed                what verification refused, with its report

After a kill the same command goes on after the last finished stage. A stage whose inputs changed, or whose files
are not what they were, is done again, and those after it too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA, UsageError
from prlm_edge.models.store import hash_file
from prlm_edge.storage import atomic_write, private_dir, writing

STAGES = "stages.json"


class Staging:
    """The stages of one export.

    Args:
        target: The folder to publish.

    Raises:
        UsageError: Something else lies there.
        PrlmError: The disk is not writable.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target}: there already", "choose another --out, or delete it")
        self.folder = target.with_name(f"{target.name}.partial")
        with writing(target.parent):
            private_dir(self.folder)

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any],
        make: Callable[[], Mapping[str, Any] | None],
        files: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Do a stage, unless it was done from the same inputs and what it left is still there.

        Args:
            name: The stage's.
            inputs: All that decides its outcome, for JSON.
            make: Does it, in `folder`; returns figures to remember.
            files: What it leaves in `folder`, files or folders.

        Returns:
            The figures, of now or of when it was done.

        Raises:
            PrlmError: The disk is full or not writable.
        """
        known = self._read()
        asked = json.loads(json.dumps(inputs))
        done = known.get(name)
        if done is not None and done["inputs"] == asked and done["files"] == self._state(files):
            return dict(done["note"])
        with writing(self.folder):
            later = list(known)[list(known).index(name) :] if name in known else []
            self._write({key: value for key, value in known.items() if key not in later})
            found = json.loads(json.dumps(dict(make() or {})))
            entry = {"inputs": asked, "files": self._state(files), "note": found}
            self._write({key: value for key, value in self._read().items() if key != name} | {name: entry})
        return dict(found)

    def publish(self, leave_out: tuple[str, ...] = ()) -> Path:
        """Make it the target, without the files that only later stages needed."""
        return self._move(self.target, (*leave_out, STAGES))

    def set_aside(self, leave_out: tuple[str, ...] = ()) -> Path:
        """Keep it as `OUT.failed`, in place of an earlier one."""
        failed = self.target.with_name(f"{self.target.name}.failed")
        shutil.rmtree(failed, ignore_errors=True)
        return self._move(failed, (*leave_out, STAGES))

    def _move(self, to: Path, leave_out: tuple[str, ...]) -> Path:
        with writing(to.parent):
            for name in leave_out:
                path = self.folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if to.exists():
                to.rmdir()  # an empty folder may have stood there
            self.folder.replace(to)
        return to

    def _state(self, files: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in files:
            path = self.folder / name
            parts = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
            for one in parts:
                key = one.relative_to(self.folder).as_posix()
                found[key] = [one.stat().st_size, hash_file(one)] if one.is_file() else None
        return found

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / STAGES).read_bytes()))
        except (OSError, *BAD_DATA):
            return {}

    def _write(self, known: Mapping[str, Any]) -> None:
        with atomic_write(self.folder / STAGES) as stream:
            stream.write(json.dumps(known, indent=1).encode())
