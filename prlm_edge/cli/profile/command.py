"""`prlm-edge profile add`, `list` and `show`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from prlm_edge.cli.profile.common import app, day, item_line, nearest_id, note_bad, open_or_create, open_profile
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.console import count
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, UserOption, adds
from prlm_edge.errors import ProfileError, UsageError
from prlm_edge.profile import LineError, Profile, fields_of, item_from
from prlm_edge.types import Item, sortable


@app.command()
def add(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="The text; - reads standard input.", show_default=False)
    ] = None,
    title: Annotated[str, typer.Option("--title", "-t", help="What you called it.", show_default=False)] = "",
    text: Annotated[str, typer.Option("--text", help="The text, if not given as TEXT.", show_default=False)] = "",
    date: Annotated[str, typer.Option("--date", help="2024, 2024-08, 2024-08-01 or today.", show_default=False)] = "",
    kind: Annotated[str, typer.Option("--kind", help="A label, such as post or talk.", show_default=False)] = "",
    source: Annotated[str, typer.Option("--source", help="Where it came from.", show_default=False)] = "",
    id: Annotated[str, typer.Option("--id", help="Its id; made from the content otherwise.", show_default=False)] = "",
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Standard input is items, one JSON object a line.")] = False,
    user: UserOption = None,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """Add a piece of your writing, and print its id. The profile is made if it isn't there.

    A diff as the text is turned into what `import git` stores.
    """
    given = {"title": title, "text": text, "date": day(date, "--date"), "kind": kind, "source": source, "id": id}
    piped = words == ["-"]
    if jsonl and (not piped or any(given.values())):
        raise UsageError(
            "--jsonl reads whole items from standard input", "prlm-edge profile add --jsonl - < items.jsonl"
        )
    if words and text:
        raise UsageError("TEXT and --text exclude each other", "give the text once")
    profile = open_or_create(user, config)
    rejected: list[tuple[str, str]] = []
    if jsonl:
        items = _items_from_stdin(rejected)
    else:
        items = [
            _item(
                {**given, "text": console.stdin_text().strip("\n") if piped else " ".join(words or []) or text}, profile
            )
        ]
    done = profile.append(items)
    if json:
        console.emit_json(
            {
                "added": done.added,
                "duplicates": done.duplicates,
                "ids": done.ids,
                "rejected": [{"where": where, "reason": reason} for where, reason in rejected],
            }
        )
    else:
        for new_id in done.ids:
            console.out(new_id)
    if done.duplicates:
        console.note(f"{count(done.duplicates, 'item')} skipped: there already")
    for where, reason in rejected:
        console.note(f"{where}: {reason}")
    if rejected:
        raise ProfileError(
            f"{count(len(rejected), 'line')} of standard input could not be added",
            "mend them and add them again; the others are in",
        )


@app.command(name="list")
@adds("profile", open_profile)
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many; 0 for all.")] = 20,
    kind: Annotated[str, typer.Option("--kind", help="Only this kind.", show_default=False)] = "",
    source: Annotated[str, typer.Option("--source", help="Only from there.", show_default=False)] = "",
    since: Annotated[str, typer.Option("--since", help="Only from this date on.", show_default=False)] = "",
    *,
    profile: Profile,
    json: JsonFlag = False,
) -> None:
    """List the items, newest first."""
    start = day(since, "--since")
    found = [item for item in reversed(profile.items) if _fits(item, kind, source) and sortable(item.date) >= start]
    found.sort(key=lambda item: sortable(item.date), reverse=True)
    shown = found[:limit] if limit else found
    if json:
        console.emit_json([fields_of(item) for item in shown])
    else:
        for item in shown:
            console.out(item_line(item))
    if len(shown) < len(found):
        console.note(f"{len(shown)} of {count(len(found), 'item')}; --limit 0 shows all")
    elif not found:
        console.note(f"no items of that sort among {len(profile):,}" if len(profile) else "the profile is empty")
    note_bad(profile)


@app.command()
@adds("profile", open_profile)
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or enough of the beginning.")],
    profile: Profile,
    json: JsonFlag = False,
) -> None:
    """Show one item whole."""
    item = _find(profile, id)
    if json:
        console.emit_json(fields_of(item))
        return
    for name in ("id", "title", "date", "kind", "source"):
        if value := getattr(item, name):
            console.out(f"{name + ':':<8}{value}")
    for key, value in item.meta.items():
        below = ("\n" + " " * 8).join(line for line in str(value).splitlines() if line)
        console.out(f"{key + ':':<8}{below}")
    if item.text:
        console.out(f"\n{item.text}")


def _item(fields: dict[str, str], profile: Profile) -> Item:
    from prlm_edge.ingest.diff import diff_to_text

    fields["text"] = diff_to_text(fields["text"])
    if profile.get(fields["id"]) is not None:
        raise UsageError(f"--id {fields['id']}: taken", "choose another, or leave it out")
    try:
        return item_from(fields)
    except LineError:
        raise UsageError("nothing to add", "give a text (- reads standard input), a --title, or both") from None


def _items_from_stdin(rejected: list[tuple[str, str]]) -> list[Item]:
    """The items of standard input; what is none goes to `rejected` as (line, reason)."""
    from prlm_edge.ingest.mapping import complete
    from prlm_edge.ingest.records import read_lines

    items = []
    for record in read_lines(sys.stdin.buffer):
        try:
            if record.value is None:
                raise LineError(record.error)
            items.append(item_from(complete(record.value, source="", kind=""), extras=True))
        except LineError as error:
            rejected.append((record.where, str(error)))
    return items


def _fits(item: Item, kind: str, source: str) -> bool:
    return (not kind or item.kind.casefold() == kind.casefold()) and (not source or item.source == source)


def _find(profile: Profile, id: str) -> Item:
    """The item of that id, else the only one whose id begins so."""
    if (item := profile.get(id)) is not None:
        return item
    found = [item for item in profile if item.id.startswith(id)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{count(len(found), 'item')} begin with {id!r}", f"such as {found[0].id} and {found[1].id}")
    raise UsageError(f"no item {id!r}", nearest_id(profile, id))
