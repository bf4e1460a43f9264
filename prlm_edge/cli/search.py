"""`prlm-edge search`: show which past items a query finds, and how well. What `generate` would be shown.

Not here: the retrievers (`prlm_edge.retrieve`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, new_app
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import UsageError
from prlm_edge.settings import KEYS, load_settings
from prlm_edge.types import Hit

app = new_app()


def _complete_retriever(incomplete: str) -> list[str]:
    return [choice for choice in KEYS["retriever"].choices if choice.startswith(incomplete)]


@app.command(
    help=f"""{VERBS["search"].help}

"-" as the query reads it from standard input. Items that match nothing fill up to -k, the most recent first, with
score 0. bm25 needs no model; dense and hybrid need `prlm-edge model pull minilm`.
"""
)
def search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="What to look for; - reads standard input.")],
    user: Annotated[
        str | None, typer.Option("--user", "-u", metavar="FILE", help="The profile: your past writing, a JSONL file.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="How many items.")] = None,
    retriever: Annotated[
        str | None,
        typer.Option(
            "--retriever",
            "-r",
            autocompletion=_complete_retriever,
            help=f"One of: {', '.join(KEYS['retriever'].choices)}.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the random retriever.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor keep an index on disk.")] = False,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """Search a profile."""
    settings = load_settings(config=config, flags={"user": user, "k": k, "retriever": retriever, "seed": seed})
    text = _text(query)
    if settings.user is None:
        raise UsageError(
            "no profile to search", "give one with --user me.jsonl, or `prlm-edge config set user me.jsonl`"
        )
    from prlm_edge.profile import Profile
    from prlm_edge.retrieve import make_retriever

    profile = Profile.open(settings.user)
    with _console.progress("reading your past writing") as update:
        found = make_retriever(
            settings.retriever, profile.items, seed=settings.seed, cache=not no_cache, progress=update
        )
        hits = found.search(text, settings.k)
    notes = list(getattr(found, "notes", ()))
    if profile.bad:
        notes.append(f"{len(profile.bad)} unreadable lines were left out: `prlm-edge profile verify` names them")
    if json:
        _console.emit_json(
            {
                "query": text,
                "retriever": settings.retriever,
                "k": settings.k,
                "items": len(profile),
                "hits": [_record(rank, hit) for rank, hit in enumerate(hits, 1)],
                "notes": notes,
            }
        )
        return
    for rank, hit in enumerate(hits, 1):
        _console.out(_line(rank, hit))
    for line in notes:
        _console.dim(f"note: {line}")
    if not hits:
        _console.note("nothing found" if len(profile) else f"{settings.user} has no items yet")


def _text(words: Sequence[str]) -> str:
    piped = sys.stdin.buffer.read().decode("utf-8", "replace").strip() if "-" in words else ""
    return " ".join(piped if word == "-" else word for word in words).strip()


def _record(rank: int, hit: Hit) -> dict[str, Any]:
    item = hit.item
    return {
        "rank": rank,
        "score": hit.score,
        "parts": dict(hit.parts),
        "id": item.id,
        "title": item.title,
        "text": item.text,
        "date": item.date,
        "kind": item.kind,
        "source": item.source,
        "meta": dict(item.meta),
    }


def _line(rank: int, hit: Hit) -> str:
    what = " ".join((hit.item.title or hit.item.text).split())
    line = f"{rank:>3}  {hit.score:8.4f}  {hit.item.date or '-':<10}  {hit.item.id}  {what}"
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(line)
    return line if len(line) <= width else line[: width - 1] + "…"
