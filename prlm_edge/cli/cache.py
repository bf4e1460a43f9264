"""`prlm-edge cache`: see and delete caches, all of which can be made again."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.options import JsonFlag, YesFlag, completes, new_app
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import UsageError
from prlm_edge.storage import cache_dir, write_error

app = new_app(help=VERBS["cache"], no_args_is_help=True)
# The folders of the cache, by the name they have here, and what they hold.
KINDS = {
    "indexes": ("bm25", "search indexes: the words of profiles"),
    "embeddings": ("embeddings", "embeddings of profile items"),
    "prefixes": ("prefix", "what a model made of past items; they can be read from it"),
    "words": ("jieba", "a dictionary of words that evaluation uses"),
    "profiles": ("profiles", "where each item of a large profile lies"),
    "hashes": ("hashes", "checksums of model files"),
    "templates": ("templates", "what models' chat templates make of turns, without the turns' texts"),
}


class Kept(NamedTuple):
    """A cache, with its files and bytes, and the day of its last use."""

    kind: str
    about: str
    folder: str
    files: int
    bytes: int
    used: str


@app.command()
def show(json: JsonFlag = False) -> None:
    """Show each cache, how large it is and when it was last used."""
    kept = [look(kind) for kind in KINDS]
    if json:
        console.emit_json([one._asdict() for one in kept])
        return
    for one in kept:
        size = f"{one.files} files, {one.bytes / 1e6:.1f} MB, used {one.used}" if one.files else "nothing"
        console.out(f"{one.kind:<12}{size}")
        console.out(f"{'':<12}{one.about}")
    console.note(f"in {cache_dir()}")


@app.command()
def clear(
    kinds: Annotated[
        list[str],
        typer.Argument(
            metavar="KIND",
            help=f"{', '.join(KINDS)} or all.",
            autocompletion=completes((*KINDS, "all")),
        ),
    ],
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Delete caches. Profiles, models and settings are not touched; the next request takes longer."""
    unknown = [kind for kind in kinds if kind not in KINDS and kind != "all"]
    if unknown:
        raise UsageError(f"no kind of cache is called {unknown[0]!r}", f"there are: {', '.join(KINDS)}, all")
    kept = [look(kind) for kind in KINDS if kind in kinds or "all" in kinds]
    total = sum(one.bytes for one in kept)
    console.confirm(f"Delete {', '.join(one.kind for one in kept)} ({total / 1e6:.1f} MB)?", yes=yes or not total)
    for one in kept:
        _delete(Path(one.folder))
        if not json:
            console.note(f"{one.kind}: {one.bytes / 1e6:.1f} MB freed")
    if json:
        console.emit_json([{"kind": one.kind, "freed": one.bytes} for one in kept])


def look(kind: str) -> Kept:
    """What is there of one of `KINDS`."""
    name, about = KINDS[kind]
    folder = cache_dir() / name
    files = size = 0
    used = 0.0
    for parent, _, names in () if folder.is_symlink() else os.walk(folder):
        for file in names:
            try:
                status = os.lstat(Path(parent, file))
            except OSError:  # deleted by another process just now
                continue
            files, size, used = files + 1, size + status.st_size, max(used, status.st_mtime)
    day = datetime.datetime.fromtimestamp(used).astimezone().date().isoformat() if files else ""
    return Kept(kind, about, str(folder), files, size, day)


def _delete(folder: Path) -> None:
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise write_error(folder, error) from error
