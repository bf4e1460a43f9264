"""The record of a model's tuned copy, kept in the installed model's folder: it says whether the copy is sound.

`prlm_edge.backends.llama.tuned` makes the copy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from prlm_edge.errors import BAD_DATA
from prlm_edge.models import store
from prlm_edge.storage import fits

RECORD = "tuned.json"


@dataclass(frozen=True)
class Tuned:
    """What a copy was made of, and what it was when it was made."""

    file: str
    size: int
    sha256: str
    format: str
    source_sha256: str


def find(folder: Path, format: str) -> Path | None:
    """The copy in an installed model's folder; None where there is none, or none of the file that is there now."""
    record = read(folder)
    manifest = store.read_manifest(folder)
    if record is None or manifest is None:
        return None
    path = folder / record.file
    same = record.format == format and record.source_sha256 == manifest.files[0].sha256
    return path if same and path.is_file() and path.stat().st_size == record.size else None


def verify(folder: Path) -> list[str]:
    """What is wrong with the copy, one line; an empty list where it is sound or there is none."""
    record = read(folder)
    if record is None:
        return []
    path = folder / record.file
    if not path.is_file() or path.stat().st_size != record.size or store.hash_file(path) != record.sha256:
        return [f"{record.file} (the copy that is run) is damaged: delete {folder / RECORD}, it is then made again"]
    return []


def read(folder: Path) -> Tuned | None:
    """The record; None where there is none, or it can't be read."""
    try:
        found = json.loads((folder / RECORD).read_bytes())
        if not fits(found, {"size": int, str: str}) or Path(found["file"]).name != found["file"]:
            return None
        return Tuned(**found)
    except (OSError, *BAD_DATA):
        return None
