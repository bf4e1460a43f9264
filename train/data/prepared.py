"""Examples and prompts in tokens, made once and kept in a run's folder: for its next start, or for another machine.

    RUN/prepared/NAME.json.gz    a line that says of what it was made, then what was made

It is made anew where that line differs: another recipe, other data, another tokenizer, another version of our code. So
it is where the file is damaged, which its checksum tells. No path is in it, and no code: it is JSON.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

import prlm_edge
from prlm_edge.storage import atomic_write
from prlm_edge.style import Style
from prlm_edge.train.config import DataFile, Recipe
from prlm_edge.train.data.examples import Examples
from prlm_edge.train.types import Ask

FOLDER = "prepared"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_DECIDES = ("evaluate", "profile", "prompt", "retrieve", "style", "tasks", "writer")  # what of our code makes prompts
_T = TypeVar("_T")
# How either is written and read.
EXAMPLES = TypeAdapter(Examples)
PROMPTS = TypeAdapter(tuple[list[Ask], dict[str, str]])
PROMPTS.rebuild(_types_namespace={"Style": Style})  # which `prlm_edge.types` imports for the type checker alone


class Prepared:
    """What is kept in one run's folder.

    Args:
        out: The run's folder.
        recipe: How prompts are made.
        source: The base's folder, for its tokenizer.
    """

    def __init__(self, out: Path, recipe: Recipe, source: Path) -> None:
        self._folder = out / FOLDER
        data = recipe.data.model_dump(mode="json", exclude={"files", "dev_files", "reasonings"})
        ours = [
            path for root in (Path(prlm_edge.__file__).parent, Path(__file__).parent) for path in root.rglob("*.py")
        ]
        self._made_of = {
            "code": _sha256(path for folder in (*ours, Path(__file__).parent) for path in _sources(folder)),
            "tokenizer": _sha256(path for name in _TOKENIZER if (path := source / name).is_file()),
            "seed": recipe.seed,
            "data": data,
        }

    def get(
        self, name: str, kind: TypeAdapter[_T], files: Sequence[DataFile], make: Callable[[], _T], **made_of: Any
    ) -> _T:
        """What `make` makes, or what it made before of the same.

        Args:
            name: Of the file.
            kind: `EXAMPLES` or `PROMPTS`.
            files: Data files that it is made of.
            make: Makes it.
            made_of: What else it depends on, as JSON values.
        """
        rows = [[file.model_dump(mode="json", exclude={"path"}), _sha256([Path(file.path)])] for file in files]
        line = json.dumps({**self._made_of, **made_of, "files": rows}, sort_keys=True).encode()
        path = self._folder / f"{name}.json.gz"
        with contextlib.suppress(OSError, EOFError, ValueError, zlib.error):
            known, _, kept = gzip.decompress(path.read_bytes()).partition(b"\n")
            if known == line:
                return kind.validate_json(kept)
        found = make()
        with atomic_write(path) as stream:
            stream.write(gzip.compress(line + b"\n" + kind.dump_json(found), 1))
        return found


def _sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml"))


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
