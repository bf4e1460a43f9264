"""`prlm-edge profile import KIND SOURCE`: one command a kind, so that each shows and takes its own options only.

Not here: the importers (`prlm_edge.ingest`), and how batches are written (`prlm_edge.ingest.into_profile`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from prlm_edge.cli.profile.common import UserOption, count, day, item_line, open_profile
from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, new_app
from prlm_edge.errors import PrlmError
from prlm_edge.types import Item

app = new_app(help="Take in what you have written elsewhere. Importing twice adds nothing.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="SOURCE", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and count, but write nothing.")]
Update = Annotated[bool, typer.Option("--update", help="Replace items whose source has a newer text.")]
Kind = Annotated[
    str, typer.Option("--as", metavar="KIND", help="The kind of items that name none.", show_default=False)
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Such as title=headline; repeat it.", show_default=False),
]


@app.command()
def git(
    source: Source,
    author: Annotated[
        list[str] | None,
        typer.Option("--author", help="Your e-mail or name there; repeat it. git's user.email otherwise."),
    ] = None,
    rev: Annotated[str, typer.Option("--rev", help="The branch, tag or range to read.")] = "HEAD",
    since: Annotated[str, typer.Option("--since", help="Only from this date on.", show_default=False)] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many, the newest; 0 for all.")] = 0,
    update: Update = False,
    dry_run: DryRun = False,
    user: UserOption = None,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """Your own commits of a git repository: changed files and message body, and the subject you wrote."""
    from prlm_edge.ingest import git as importer

    start = day(since, "--since")
    _run(
        lambda **told: importer.read(source, authors=author or (), rev=rev, since=start, limit=limit, **told),
        "commits",
        user,
        config,
        update=update,
        dry_run=dry_run,
        json=json,
    )


@app.command()
def markdown(
    source: Source,
    drafts: Annotated[bool, typer.Option("--drafts", help="Also take drafts.")] = False,
    kind: Kind = "",
    update: Update = False,
    dry_run: DryRun = False,
    user: UserOption = None,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """A Markdown file, a folder or a vault: title and date from front matter, heading or file name."""
    from prlm_edge.ingest import markdown as importer

    _run(
        lambda **told: importer.read(source, drafts=drafts, kind=kind, **told),
        "files",
        user,
        config,
        update=update,
        dry_run=dry_run,
        json=json,
    )


@app.command()
def csv(
    source: Source,
    map: Map = None,
    delimiter: Annotated[
        str, typer.Option("--delimiter", help="One character, or tab; found out otherwise.", show_default=False)
    ] = "",
    encoding: Annotated[
        str, typer.Option("--encoding", help="Such as cp1252; UTF-8 otherwise.", show_default=False)
    ] = "",
    kind: Kind = "",
    update: Update = False,
    dry_run: DryRun = False,
    user: UserOption = None,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """The rows of a CSV file whose first row names the columns."""
    from prlm_edge.ingest import csv as importer
    from prlm_edge.ingest.mapping import parse_map

    mapping = parse_map(map or ())
    cut = "\t" if delimiter in ("tab", "\\t") else delimiter
    _run(
        lambda **told: importer.read(source, mapping=mapping, delimiter=cut, encoding=encoding, kind=kind, **told),
        "rows",
        user,
        config,
        update=update,
        dry_run=dry_run,
        json=json,
    )


@app.command()
def jsonl(
    source: Source,
    map: Map = None,
    kind: Kind = "",
    update: Update = False,
    dry_run: DryRun = False,
    user: UserOption = None,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """JSON objects, one a line or in one array; also another profile."""
    from prlm_edge.ingest import jsonl as importer
    from prlm_edge.ingest.mapping import parse_map

    mapping = parse_map(map or ())
    _run(
        lambda **told: importer.read(source, mapping=mapping, kind=kind, **told),
        "records",
        user,
        config,
        update=update,
        dry_run=dry_run,
        json=json,
    )


@app.command()
def lamp(
    source: Source,
    lamp_user: Annotated[
        str, typer.Option("--lamp-user", metavar="ID", help="Whose profile.", show_default=False)
    ] = "",
    with_target: Annotated[
        bool, typer.Option("--with-target", help="Also take the question with its answer; not for evaluation.")
    ] = False,
    kind: Kind = "",
    update: Update = False,
    dry_run: DryRun = False,
    user: UserOption = None,
    config: ConfigFile = None,
    json: JsonFlag = False,
) -> None:
    """One user's profile out of LaMP's *_questions.json, or of rows with user_id and profile."""
    from prlm_edge.ingest import lamp as importer

    _run(
        lambda **told: importer.read(source, user=lamp_user, with_target=with_target, kind=kind, **told),
        "rows",
        user,
        config,
        update=update,
        dry_run=dry_run,
        json=json,
    )


def _run(
    read: Callable[..., Iterator[Item]],
    unit: str,
    user: str | None,
    config: Path | None,
    *,
    update: bool,
    dry_run: bool,
    json: bool,
) -> None:
    """Import what `read(on_skip=, on_progress=)` yields, and give an account of it."""
    from prlm_edge.ingest.into_profile import Report, import_items

    profile = open_profile(user, config, create=True)
    report = Report()
    try:
        with _console.progress("importing", unit) as bar:
            import_items(profile, read(on_skip=report.skip, on_progress=bar), report, update=update, dry_run=dry_run)
    except KeyboardInterrupt:
        _console.note(
            f"interrupted: {count(report.added, 'item')} added, and they stay; "
            "the same command again goes on from there"
        )
        if json:
            _console.emit_json(_record(report, str(profile.path)))
        raise
    except PrlmError:
        if report.added and not dry_run:
            _console.note(f"{count(report.added, 'item')} added before this, and they stay")
        raise
    if json:
        _console.emit_json(_record(report, str(profile.path)))
        return
    for item in report.sample if dry_run else ():
        _console.out(item_line(item))
    _console.out(_summary(report))
    for where, why in report.examples:
        _console.note(f"skipped {where}: {why}")
    if (unnamed := sum(report.skipped.values()) - len(report.examples)) > 0:
        reasons = ", ".join(f"{why} ({n:,})" for why, n in report.skipped.most_common(5))
        _console.note(f"and {unnamed:,} more; most often: {reasons}")
    if report.changed:
        _console.note(f"{count(report.changed, 'item')} changed at the source since: --update takes the newer text")


def _summary(report: Any) -> str:
    skipped = sum(report.skipped.values())
    parts = [f"{report.read:,} read", f"{report.added:,} {'would be added' if report.dry_run else 'added'}"]
    parts += [f"{report.updated:,} updated"] * bool(report.updated)
    return ", ".join([*parts, count(report.duplicates, "duplicate"), f"{skipped:,} skipped"])


def _record(report: Any, path: str) -> dict[str, Any]:
    return {
        "profile": path,
        "read": report.read,
        "added": report.added,
        "updated": report.updated,
        "changed": report.changed,
        "duplicates": report.duplicates,
        "skipped": dict(report.skipped),
        "examples": [{"where": where, "reason": why} for where, why in report.examples],
        "dry_run": report.dry_run,
        "interrupted": report.interrupted,
    }
