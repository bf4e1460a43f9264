"""The records of a model's tuned copies, kept in the installed model's folder: they say whether a copy is sound.

There may be two, each with a record of its own: one of the model alone, and one with the adapter that comes with
prlm-edge merged in. `prlm_edge.backends.llama.tuned` makes them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from prlm_edge.errors import BAD_DATA
from prlm_edge.models import store
from prlm_edge.models.hashes import sha256_of
from prlm_edge.storage import fits

RECORD, BAKED = "tuned.json", "baked.json"  # of the model alone, of the one with the adapter merged in
_FORMAT = re.compile(r"[.-](i?q\d\w*|b?f16|f32)$", re.IGNORECASE)  # how file names end: ".Q4_1", "-q4_k_m"
_GROWTH = {"": 0.0, "q4_0": 1.3, "q8_0": 2.2}  # no copy in the format is larger than this many times its source


@dataclass(frozen=True)
class Tuned:
    """What a copy was made of, and what it was when it was made; without an adapter, `adapter_sha256` is ""."""

    file: str
    size: int
    sha256: str
    format: str
    source_sha256: str
    adapter_sha256: str = ""


def stem_of(file: str) -> str:
    """A model file's name without its ending and format: "qwen" of "qwen-q4_k_m.gguf"."""
    return _FORMAT.sub("", Path(file).stem)


def most_bytes(size: int, format: str) -> int:
    """How large a copy of a file of `size` bytes may become; 0 for the format "", where none is made."""
    return int(size * _GROWTH[format])


def find(folder: Path, format: str, adapter: Path | None = None) -> Path | None:
    """The copy in an installed model's folder, of the model alone or with `adapter` merged in.

    None where there is none, or none of the files that are there now.

    Raises:
        ModelError: The manifest or the adapter can't be read.
    """
    record = read(folder, BAKED if adapter else RECORD)
    manifest = store.read_manifest(folder)
    if record is None or manifest is None:
        return None
    path = folder / record.file
    same = record.format == format and record.source_sha256 == manifest.files[0].sha256
    if not (same and path.is_file() and path.stat().st_size == record.size):
        return None
    return path if record.adapter_sha256 == (sha256_of(adapter) if adapter else "") else None


def verify(folder: Path) -> list[str]:
    """What is wrong with the copies, a line each; an empty list where they are sound or there are none."""
    return [f"{record.file} (a copy that is run) is damaged" for _, record in _damaged(folder)]


def drop_damaged(folder: Path) -> None:
    """Forget the damaged copies: they are then made anew."""
    for path, _ in _damaged(folder):
        path.unlink(missing_ok=True)


def read(folder: Path, name: str) -> Tuned | None:
    """The record `name`; None where there is none, or it can't be read."""
    try:
        found = json.loads((folder / name).read_bytes())
        if not fits(found, {"size": int, str: str}) or Path(found["file"]).name != found["file"]:
            return None
        return Tuned(**found)
    except (OSError, *BAD_DATA):
        return None


def _damaged(folder: Path) -> list[tuple[Path, Tuned]]:
    """The records of damaged copies: their paths and what they say."""
    records = [(folder / name, read(folder, name)) for name in (RECORD, BAKED)]
    return [(path, record) for path, record in records if record is not None and not _is_sound(folder, record)]


def _is_sound(folder: Path, record: Tuned) -> bool:
    path = folder / record.file
    return path.is_file() and path.stat().st_size == record.size and store.hash_file(path) == record.sha256
