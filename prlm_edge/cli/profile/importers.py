"""`prlm-edge profile import KIND SOURCE`: one command a kind, so that each shows and takes its own options only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from prlm_edge.cli.profile.common import app, day, item_line, open_or_create
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.console import count
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, UserOption, adds, new_app
from prlm_edge.cli.shared.progress import progress
from prlm_edge.errors import PrlmError
from prlm_edge.types import Item

imports = new_app(help="Take in what you have written elsewhere. Importing twice adds nothing.", no_args_is_help=True)
app.add_typer(imports, name="import")

Source = Annotated[Path, typer.Argument(metavar="SOURCE", show_default=False)]
Kind = Annotated[
    str, typer.Option("--as", metavar="KIND", help="The kind of items that name none.", show_default=False)
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Such as title=headline; repeat it.", show_default=False),
]


@dataclass
class _Import:
    """How an import is done and reported; each field is an option of every kind."""

    update: Annotated[bool, typer.Option("--update", help="Also bring items up to date that are there already.")] = (
        False
    )
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and count, but write nothing.")] = False
    user: UserOption = None
    config: ConfigFile = None
    json: JsonFlag = False

    def run(self, unit: str, read: Callable[..., Iterator[Item]], *, fixed: bool = False) -> None:
        """Import what `read(on_skip=, on_progress=)` yields, counted in `unit`, and say what became of it.

        `fixed` is that of `import_items`.
        """
        from prlm_edge.ingest.into_profile import Report, import_items

        profile = open_or_create(self.user, self.config)
        report, dry_run = Report(), self.dry_run
        try:
            with progress("importing", unit) as bar:
                items = read(on_skip=report.skip, on_progress=bar)
                import_items(profile, items, report, update=self.update, dry_run=dry_run, fixed=fixed)
        except KeyboardInterrupt:
            console.note(
                f"interrupted: {count(report.added, 'item')} added, and they stay; "
                "the same command again goes on from there"
            )
            if self.json:
                console.emit_json(_record(report, profile.path))
            raise
        except PrlmError:
            if report.added and not dry_run:
                console.note(f"{count(report.added, 'item')} added before this, and they stay")
            raise
        if self.json:
            console.emit_json(_record(report, profile.path))
        else:
            _show(report)


@imports.command()
@adds("into", _Import)
def git(
    source: Source,
    author: Annotated[
        list[str] | None,
        typer.Option("--author", help="Your e-mail or name there; repeat it. git's user.email otherwise."),
    ] = None,
    rev: Annotated[str, typer.Option("--rev", help="The branch, tag or range to read.")] = "HEAD",
    since: Annotated[str, typer.Option("--since", help="Only from this date on.", show_default=False)] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many, the newest; 0 for all.")] = 0,
    *,
    into: _Import,
) -> None:
    """Your own commits of a git repository: changed files and message body, and the subject you wrote."""
    from prlm_edge.ingest import git as importer

    start = day(since, "--since")
    read = partial(importer.read, source, authors=author or (), rev=rev, since=start, limit=limit)
    into.run("commits", read, fixed=True)


@imports.command()
@adds("into", _Import)
def markdown(
    source: Source,
    drafts: Annotated[bool, typer.Option("--drafts", help="Also take drafts.")] = False,
    kind: Kind = "",
    *,
    into: _Import,
) -> None:
    """A Markdown file, a folder or a vault: title and date from front matter, heading or file name."""
    from prlm_edge.ingest import markdown as importer

    into.run("files", partial(importer.read, source, drafts=drafts, kind=kind))


@imports.command()
@adds("into", _Import)
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
    *,
    into: _Import,
) -> None:
    """The rows of a CSV file whose first row names the columns."""
    from prlm_edge.ingest import csv as importer
    from prlm_edge.ingest.mapping import parse_map

    mapping = parse_map(map or ())
    cut = "\t" if delimiter in ("tab", "\\t") else delimiter
    into.run("rows", partial(importer.read, source, mapping=mapping, delimiter=cut, encoding=encoding, kind=kind))


@imports.command()
@adds("into", _Import)
def jsonl(
    source: Source,
    map: Map = None,
    kind: Kind = "",
    *,
    into: _Import,
) -> None:
    """JSON objects, one a line or in one array; also another profile."""
    from prlm_edge.ingest import jsonl as importer
    from prlm_edge.ingest.mapping import parse_map

    mapping = parse_map(map or ())
    into.run("records", partial(importer.read, source, mapping=mapping, kind=kind))


@imports.command()
@adds("into", _Import)
def lamp(
    source: Source,
    lamp_user: Annotated[
        str, typer.Option("--lamp-user", metavar="ID", help="Whose profile.", show_default=False)
    ] = "",
    with_target: Annotated[
        bool, typer.Option("--with-target", help="Also take the question with its answer; not for evaluation.")
    ] = False,
    kind: Kind = "",
    *,
    into: _Import,
) -> None:
    """One user's profile out of LaMP's *_questions.json, or of rows with user_id and profile."""
    from prlm_edge.ingest import lamp as importer

    into.run("rows", partial(importer.read, source, user=lamp_user, with_target=with_target, kind=kind))


def _show(report: Any) -> None:
    for item in report.sample if report.dry_run else ():
        console.out(item_line(item))
    console.out(_summary(report))
    for where, why in report.examples:
        console.note(f"skipped {where}: {why}")
    if (unnamed := sum(report.skipped.values()) - len(report.examples)) > 0:
        reasons = ", ".join(f"{why} ({n:,})" for why, n in report.skipped.most_common(5))
        console.note(f"and {unnamed:,} more; most often: {reasons}")
    if report.changed:
        console.note(f"{count(report.changed, 'item')} newer, or told with more, at the source: --update takes that")


def _summary(report: Any) -> str:
    skipped = sum(report.skipped.values())
    would = "would be " if report.dry_run else ""
    parts = [f"{report.read:,} read", f"{report.added:,} {would}added"]
    parts += [f"{report.updated:,} {would}updated"] * bool(report.updated)
    parts += [count(report.duplicates, "duplicate"), f"{skipped:,} skipped"]
    return ", ".join([*parts, *[f"{report.undated:,} with a date that can't be told for sure"] * bool(report.undated)])


def _record(report: Any, path: Path) -> dict[str, Any]:
    names = ("read", "added", "updated", "changed", "duplicates", "skipped", "undated", "dry_run", "interrupted")
    examples = [{"where": where, "reason": why} for where, why in report.examples]
    return {"profile": path, **{name: getattr(report, name) for name in names}, "examples": examples}
