"""A model's copies for ONNX Runtime, folders inside the installed model's own: there, of the right files, and sound.

There may be three, one of the model alone, one with the adapter that comes with prlm-edge merged in, and one with the
latest other adapter that was asked for. A folder appears whole or not at all, and its card says what it was made of.
`prlm_edge.backends.onnx.copy` makes them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA
from prlm_edge.models import catalog, store
from prlm_edge.models.hashes import sha256_of
from prlm_edge.models.tuned_copy import stem_of


def about(folder: Path, format: str, adapter: Path | None) -> dict[str, str]:
    """What the card of a copy says of the files it is made of.

    Raises:
        ModelError: The manifest or the adapter can't be read.
    """
    manifest = store.check(folder, folder.name)
    of = {"source_sha256": manifest.files[0].sha256, "adapter_sha256": sha256_of(adapter) if adapter else ""}
    return {**of, "quantization": format}


def path_of(folder: Path, format: str, adapter: Path | None) -> Path:
    """Where the copy in the format `format` ("" for the file's own) lies or would lie."""
    stem = stem_of(store.check(folder, folder.name).files[0].name)
    merged = "" if adapter is None else "voice" if adapter.resolve().is_relative_to(catalog.VOICES) else "adapter"
    return folder / ".".join(filter(None, (stem, merged, format.upper(), "onnx")))


def find(folder: Path, format: str, adapter: Path | None = None) -> Path | None:
    """The copy of the model alone or with `adapter` merged in; None where there is none of the files there are now.

    Raises:
        ModelError: The manifest or the adapter can't be read.
    """
    path = path_of(folder, format, adapter)
    card = _card(path)
    return path if card is not None and about(folder, format, adapter).items() <= card.items() else None


def verify(folder: Path) -> list[str]:
    """What is wrong with the copies, a line each; an empty list where they are sound or there are none."""
    return [f"{path.name} (a copy that is run) is damaged" for path in _damaged(folder)]


def drop_damaged(folder: Path) -> None:
    """Forget the damaged copies: they are then made anew."""
    for path in _damaged(folder):
        shutil.rmtree(path, ignore_errors=True)


def _damaged(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.glob("*.onnx")):
        if path.is_dir() and not _is_sound(path, _card(path)):
            yield path


def _is_sound(path: Path, card: Mapping[str, Any] | None) -> bool:
    files = card["sha256"] if card is not None else {}
    return bool(files) and all(
        (path / name).is_file() and store.hash_file(path / name) == sha256 for name, sha256 in files.items()
    )


def _card(path: Path) -> dict[str, Any] | None:
    """What the copy's card says; None where there is none, or it can't be read."""
    try:
        card = json.loads((path / store.ONNX_CARD).read_bytes())
        same = {key: card[key] for key in ("source_sha256", "adapter_sha256", "quantization")}
        named = all(isinstance(one, str) for one in (*same.values(), *card["sha256"].values()))
        return dict(card) if named and all(Path(name).name == name for name in card["sha256"]) else None
    except (OSError, *BAD_DATA):
        return None
