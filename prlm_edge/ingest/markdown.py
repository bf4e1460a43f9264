"""Markdown files as Items: one file, a folder or a whole vault (Obsidian, Hugo, Jekyll)."""

from __future__ import annotations

import calendar
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from prlm_edge.errors import UsageError
from prlm_edge.ingest import front_matter, plain_text, topic
from prlm_edge.ingest.common import OnProgress, OnSkip, decode, ignore_progress, ignore_skip, stable_id
from prlm_edge.ingest.dates import iso_date
from prlm_edge.types import Item

MAX_FILE_BYTES = 4 * 1024 * 1024
SUFFIXES = frozenset({".md", ".markdown", ".mdown", ".mkd"})
_SKIPPED_FOLDERS = frozenset({"templates", "_templates", "template", "_layouts", "_includes", "node_modules"})
_DATED_NAME = re.compile(  # perhaps a title, then year, month and day, perhaps the time, perhaps a title
    r"(?:(\D*[-_ ]))?(\d{4})([-_. ]?)(\d\d)\3(\d\d)"
    r"(?:[T_ -]?\d{4,6}(?!\d)|[T_ -]\d\d[-_.:h]\d\d(?:[-_.:]\d\d)?Z?)?(?:[-_ .,]+(\S.*))?"
)
_DATE_ALONE = re.compile(r"\d{4}-W?\d\d|\d\d?([-_. ])\d\d?\1\d{4}|.*[A-Za-z]{3}.*\d{4}")
_WEEKDAYS = frozenset(day.lower() for name in calendar.day_name for day in (name, name[:3]))
_DATES = ("date", "published", "created", "pubdate", "publishdate")
_USED = frozenset((*_DATES, "title", "tags", "draft", "kind", "type"))
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def read(
    path: Path,
    *,
    drafts: bool = False,
    kind: str = "",
    on_skip: OnSkip = ignore_skip,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Item]:
    """Yield one item a file, in path order. Hidden, trash and template folders are passed over.

    The title is that of the front matter, else the first heading, else the file name; the topic is what the front
    matter says of it, such as its description or tags. The id is of the path below the folder, so an edited file keeps
    it.

    Args:
        path: A file or a folder. Linked folders are followed once, so loops end.
        drafts: Also read drafts (`draft: true`, `published: false`, a drafts folder).
        kind: Of items whose front matter names none; "note" when empty.
        on_skip: Told of files that are left out.
        on_progress: Told of files done and in all.

    Raises:
        UsageError: No such path, or no Markdown file below it.
    """
    if path.is_dir():
        root = path.resolve()
        files = [(file, file.relative_to(path).as_posix()) for file in _walk(path, on_skip)]
        if not files:
            raise UsageError(f"{path}: no Markdown files in it", f"they end in {', '.join(sorted(SUFFIXES))}")
    elif path.is_file():
        root = path.resolve().parent
        files = [(path, path.name)]
    else:
        raise UsageError(f"{path}: no such file or folder", "name a Markdown file or a folder of them")
    for done, (file, relative) in enumerate(files, 1):
        try:
            yield _item(file, relative, root.name, drafts, kind or "note")
        except _Skipped as why:
            on_skip(relative, str(why))
        on_progress(done, len(files))


class _Skipped(Exception):
    """Why a file is left out."""


def _walk(top: Path, on_skip: OnSkip) -> Iterator[Path]:
    """The Markdown files below `top` in path order; each real folder once, whatever links lead to it."""
    seen: set[tuple[int, int]] = set()
    stack = [top]
    while stack:
        folder = stack.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            names = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            on_skip(str(folder), error.strerror or "can't be read")
            continue
        folders = []
        for entry in names:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if entry.name.lower() not in _SKIPPED_FOLDERS:
                    folders.append(folder / entry.name)
            elif entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES:
                yield folder / entry.name
        stack.extend(reversed(folders))


def _item(file: Path, relative: str, root: str, drafts: bool, kind: str) -> Item:
    try:
        meta, body = front_matter.split(_text_of(file))
    except ValueError as error:
        raise _Skipped(str(error)) from None
    if not drafts and _is_draft(meta, relative):
        raise _Skipped("a draft (--drafts takes it)")
    named_date, named_title = dated_name(PurePosixPath(relative))
    heading, text = plain_text.reduce(body)
    title = _one(meta, "title") or heading or named_title
    if heading and title != heading:  # a heading beside a title belongs to the text
        text = f"{heading}\n\n{text}".strip()
    if not text:
        raise _Skipped("no text in it")
    written = [meta[key] for key in _DATES if meta.get(key)]
    date = next((day for value in written if (day := iso_date(value))), "") or named_date
    tags = meta.get("tags", [])
    details = {
        "path": relative,
        "tags": tags if isinstance(tags, list) else str(tags).replace(",", " ").split(),
        "topic": topic.topic_of((meta.get(name) for name in topic.FIELDS), title),
        "date": written[0] if written and not date else "",
        "front_matter": {key: value for key, value in meta.items() if key not in _USED and value},
    }
    return Item(
        id=stable_id("m", root, relative),
        text=text,
        title=title,
        date=date,
        kind=_one(meta, "kind") or _one(meta, "type") or kind,
        source=f"markdown:{root}",
        meta={key: value for key, value in details.items() if value},
    )


def dated_name(path: PurePosixPath) -> tuple[str, str]:
    """(date, title) that a file name tells: "2024-01-05 Market day.md", "20240105.md", "2024/01/05.md".

    The title of a note that is named by its date alone is that date.
    """
    stem = path.stem
    if match := _DATED_NAME.fullmatch(stem):
        before, year, _, month, day, rest = match.groups()
        title = (before or rest or "").strip("-_ ")
        if date := iso_date(f"{year}-{month}-{day}"):
            return date, date if not title or title.lower() in _WEEKDAYS else _spaced(title)
    if stem.isdigit() and len(path.parts) > 2:  # in a folder for each year and month
        date = iso_date("-".join([*path.parts[-3:-1], stem]))
        return date, date or stem
    return iso_date(stem) if _DATE_ALONE.fullmatch(stem) else "", _spaced(stem)


def _spaced(name: str) -> str:
    """A file name as a title; one without a word, such as 01-05-2024, stays as it is."""
    return name.replace("-", " ").replace("_", " ").strip() if re.search(r"[^\W\d_]{2}", name) else name


def _text_of(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _Skipped(error.strerror or "can't be read") from None
    if len(data) > MAX_FILE_BYTES:
        raise _Skipped(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        return decode(data)
    except ValueError as error:
        raise _Skipped(str(error)) from None


def _is_draft(meta: dict[str, front_matter.Value], relative: str) -> bool:
    folders = relative.lower().split("/")[:-1]
    return (
        _one(meta, "draft").lower() in _TRUE
        or _one(meta, "published").lower() in _FALSE
        or not {"_drafts", "drafts"}.isdisjoint(folders)
    )


def _one(meta: dict[str, front_matter.Value], key: str) -> str:
    value = meta.get(key, "")
    return value.strip() if isinstance(value, str) else ""
