"""`prlm-edge search`: show which past items a query finds, and how well. What `generate` would be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, adds, new_app, setting_flags
from prlm_edge.cli.shared.progress import progress
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import UsageError
from prlm_edge.settings import load_settings
from prlm_edge.types import Hit

app = new_app()


@app.command(
    help=f"""{VERBS["search"]}

"-" as the query reads it from standard input. Items that match nothing fill up to -k, the most recent first, with
score 0. bm25 needs no model; dense and hybrid need `prlm-edge model pull minilm`.
"""
)
@adds("flags", setting_flags("user", "k", "retriever", "seed"))
def search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="What to look for; - reads standard input.")],
    flags: Mapping[str, Any],
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor keep an index on disk.")] = False,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """Search a profile."""
    settings = load_settings(config=config, flags=flags)
    text = console.words_or_stdin(query)
    if settings.user is None:
        raise UsageError(
            "no profile to search", "give one with --user me.jsonl, or `prlm-edge config set user me.jsonl`"
        )
    from prlm_edge.profile import Profile
    from prlm_edge.prompt import SHOWN
    from prlm_edge.retrieve import make_retriever

    profile = Profile.open(settings.user)
    with progress("reading your past writing") as update:
        items = [item for item in profile.items if item.teaches]
        found = make_retriever(settings.retriever, items, seed=settings.seed, cache=not no_cache, progress=update)
        k = settings.k or SHOWN["text"][0]
        hits = found.search(text, k)
    notes = list(getattr(found, "notes", ()))
    if profile.bad:
        notes.append(f"{len(profile.bad)} unreadable lines were left out: `prlm-edge profile verify` names them")
    if json:
        console.emit_json(
            {
                "query": text,
                "retriever": settings.retriever,
                "k": k,
                "items": len(profile),
                "hits": [_record(rank, hit) for rank, hit in enumerate(hits, 1)],
                "notes": notes,
            }
        )
        return
    for rank, hit in enumerate(hits, 1):
        item = hit.item
        cells = [console.one_line(cell) for cell in (item.date or "-", item.id, item.title or item.text)]
        console.out(console.clip(f"{rank:>3}  {hit.score:8.4f}  {cells[0]:<10}  {cells[1]}  {cells[2]}"))
    for line in notes:
        console.dim(f"note: {line}")
    if not hits:
        console.note("nothing found" if len(profile) else f"{settings.user} has no items yet")


def _record(rank: int, hit: Hit) -> dict[str, Any]:
    fields = {name: getattr(hit.item, name) for name in ("id", "title", "text", "date", "kind", "source")}
    return {"rank": rank, "score": hit.score, "parts": dict(hit.parts), **fields, "meta": dict(hit.item.meta)}
