"""`prlm-edge profile rm`: what it removes, and what of it remains where."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from prlm_edge.cli.cache import look
from prlm_edge.cli.profile.common import app, item_line, nearest_id, open_profile
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.console import count
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, UserOption, YesFlag
from prlm_edge.cli.shared.table import PROG
from prlm_edge.errors import UsageError
from prlm_edge.feedback import (
    KeptDraft,
    KeptPair,
    drafts_path,
    forget,
    forget_pairs,
    item_id,
    kept,
    pairs_path,
    read_pairs,
)
from prlm_edge.profile import Profile
from prlm_edge.style import listed
from prlm_edge.types import Item

_N_SHOWN = 5
_OF_TEXTS = {  # caches that a text can be told from, at least in part, and what they hold of it
    "indexes": "its words",
    "embeddings": "its embedding",
    "prefixes": "the text, in what a model made of prompts",
    "profiles": "its words, counted",
}


class Remains(NamedTuple):
    """Something that a removed text may still be read from."""

    where: str
    what: str
    command: str


@app.command()
def rm(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", show_default=False)] = None,
    source: Annotated[
        str,
        typer.Option("--source", help="All items from there, such as git:repo, or prlm-edge.", show_default=False),
    ] = "",
    pairs: Annotated[bool, typer.Option("--pairs", help="All answers kept for training (PROFILE.pairs).")] = False,
    drafts: Annotated[bool, typer.Option("--drafts", help="All answers that `accept` could take.")] = False,
    yes: YesFlag = False,
    user: UserOption = None,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """Remove items by id, or all of a source. All other lines stay byte for byte.

    The pairs and drafts of answers that they were go with them. What of them remains where is said, with the command
    that deletes it.
    """
    if bool(ids) + bool(source) > 1 or not (ids or source or pairs or drafts):
        raise UsageError(
            "name ids or a --source, or say --pairs or --drafts",
            "`prlm-edge profile list` shows ids, `profile stats` all else",
        )
    profile = open_profile(user, config)
    items = [_exact(profile, id) for id in ids or ()] or [item for item in profile if source and item.source == source]
    if source and not items:
        raise UsageError(f"no items from {source!r}", "`prlm-edge profile stats` shows the sources")
    gone = {item.id for item in items}

    def is_pair(one: KeptPair) -> bool:
        return pairs or one.item in gone

    def is_draft(one: KeptDraft) -> bool:
        return one.profile == profile.path.resolve() and (drafts or item_id(one.draft) in gone)

    counted = (
        (len(items), "item"),
        (sum(map(is_pair, read_pairs(profile.path))), "pair"),
        (sum(map(is_draft, kept())), "draft"),
    )
    more = [f"and {len(items) - _N_SHOWN:,} more"] if len(items) > _N_SHOWN else []
    what = listed([count(n, noun) for n, noun in counted if n]) or "nothing"
    console.confirm(f"Remove {what}?", yes=yes or what == "nothing", details=[*map(item_line, items[:_N_SHOWN]), *more])
    remains = _remains(profile) if items else []  # looked for before a rewrite gives the file another inode
    removed = profile.remove(gone) if gone else 0
    n_pairs = forget_pairs(profile.path, is_pair)
    n_drafts = forget(is_draft)
    if json:
        console.emit_json(
            {
                **{"removed": removed, "left": len(profile), "pairs": n_pairs, "drafts": n_drafts},
                "remains": [one._asdict() for one in remains],
            }
        )
    else:
        console.note(f"{count(removed, 'item')} removed, {len(profile):,} left")
        for n, noun, path in ((n_pairs, "pair", pairs_path(profile.path)), (n_drafts, "draft", drafts_path())):
            if n:
                console.note(f"{count(n, noun)} removed from {path}")
    for one in remains:
        console.note(f"{one.where}: may hold {one.what}; {one.command}")


def _exact(profile: Profile, id: str) -> Item:
    if (item := profile.get(id)) is None:
        raise UsageError(f"no item {id!r}; nothing was removed", nearest_id(profile, id))
    return item


def _remains(profile: Profile) -> list[Remains]:
    """Where the text of items that were removed may still be."""
    real, found = profile.path.resolve(), []
    if others := profile.other_names:
        name = f"{count(others, 'other name')} (hard links) of {real.name}"
        found.append(Remains(name, "all items", "delete them by hand"))
    sides = sorted(path for path in real.parent.iterdir() if path.name.startswith(f"{real.name}.rejected-"))
    found += [Remains(str(side), "lines that `repair` moved there", "delete it by hand") for side in sides]
    caches = [one for one in map(look, _OF_TEXTS) if one.files]
    found += [Remains(one.folder, _OF_TEXTS[one.kind], f"{PROG} cache clear {one.kind}") for one in caches]
    return found
