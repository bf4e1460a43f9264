"""`prlm-edge profile verify`, `repair` and `stats`.

Not here: what is wrong with a line (`prlm_edge.profile.lines`) and how it is mended (`prlm_edge.profile.store`).
"""

from __future__ import annotations

import os
from collections import Counter
from statistics import median
from typing import Any

import typer

from prlm_edge.cli.profile.common import UserOption, count, open_profile
from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag
from prlm_edge.profile import Profile

_N_LISTED = 10
_N_FACTS = 6


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    for command in (verify, repair, stats):
        app.command()(command)


def verify(user: UserOption = None, config: ConfigFile = None, json: JsonFlag = False) -> None:
    """Name every line that can't be read, and why. Exit code 3 when there is one."""
    profile = open_profile(user, config)
    if json:
        _console.emit_json(
            {
                "profile": str(profile.path),
                "items": len(profile),
                "bad": [{"line": line.number, "reason": line.reason} for line in profile.bad],
            }
        )
    else:
        for line in profile.bad:
            _console.out(f"{profile.path}:{line.number}: {line.reason}")
    _console.note(f"{count(len(profile), 'item')}, {count(len(profile.bad), 'bad line')}")
    if os.name == "posix" and profile.path.stat().st_mode & 0o077:
        _console.note(f"others on this machine may read it: chmod 600 {profile.path}")
    if profile.bad:
        _console.note(f"  prlm-edge profile repair --user {profile.path}  moves them to a file of their own")
        raise typer.Exit(3)


def repair(user: UserOption = None, config: ConfigFile = None, json: JsonFlag = False) -> None:
    """Move lines that can't be read to a file of their own beside the profile. Nothing is dropped.

    A sound line whose id an earlier line has stays, with a new id.
    """
    profile = open_profile(user, config)
    done = profile.repair()
    if json:
        _console.emit_json(
            {
                "profile": str(profile.path),
                "items": len(profile),
                "moved": done.moved,
                "side_file": str(done.side_file) if done.side_file else None,
                "renamed": [{"line": n, "old": old, "new": new} for n, old, new in done.renamed],
            }
        )
        return
    for number, old, new in done.renamed:
        _console.note(f"line {number}: id {old} was taken, now {new}")
    if done.side_file:
        _console.note(f"{count(done.moved, 'line')} moved to {done.side_file}")
    if not done.changed:
        _console.note("nothing to repair")
    _console.note(f"{count(len(profile), 'item')} in {profile.path}")


def stats(user: UserOption = None, config: ConfigFile = None, json: JsonFlag = False) -> None:
    """Count what is in the profile: items, dates, kinds, sources, lengths, and what your titles have in common."""
    profile = open_profile(user, config)
    found = _stats(profile)
    if json:
        _console.emit_json(found)
        return
    dates = found["dates"]
    _console.out(
        f"{count(found['items'], 'item')}: {found['with_title']:,} with a title, "
        f"{found['with_text']:,} with a text; {found['bytes']:,} bytes"
    )
    if dates["first"]:
        _console.out(f"dates: {dates['first']} to {dates['last']}; {dates['missing']:,} without")
    for name in ("kinds", "sources"):
        if counted := found[name]:
            more = f" and {len(counted) - _N_LISTED} more" if len(counted) > _N_LISTED else ""
            _console.out(f"{name}: {', '.join(f'{k} {n:,}' for k, n in list(counted.items())[:_N_LISTED])}{more}")
    for name in ("title_words", "text_words"):
        if span := found[name]:
            _console.out(
                f"words in a {name.partition('_')[0]}: {span['least']:,} to {span['most']:,}, "
                f"half of them up to {span['median']:,}"
            )
    if found["style"]:
        _console.out(f"your titles: {'; '.join(fact['phrase'] for fact in found['style'])}")
    note_bad(profile)


def note_bad(profile: Profile) -> None:
    """Say that some lines can't be read."""
    if profile.bad:
        _console.note(f"{count(len(profile.bad), 'line')} can't be read: `prlm-edge profile verify` names them")


def _stats(profile: Profile) -> dict[str, Any]:
    from prlm_edge.style import style_of

    items = profile.items
    titles = [item.title for item in items if item.title]
    dates = sorted(item.date for item in items if item.date)
    return {
        "profile": str(profile.path),
        "bytes": profile.path.stat().st_size,
        "items": len(items),
        "bad": len(profile.bad),
        "with_title": len(titles),
        "with_text": sum(bool(item.text) for item in items),
        "dates": {
            "first": dates[0] if dates else "",
            "last": dates[-1] if dates else "",
            "missing": len(items) - len(dates),
        },
        "kinds": dict(Counter(item.kind for item in items if item.kind).most_common()),
        "sources": dict(Counter(item.source for item in items if item.source).most_common()),
        "title_words": _span([len(title.split()) for title in titles]),
        "text_words": _span([len(item.text.split()) for item in items if item.text]),
        "style": [
            {"name": fact.name, "phrase": fact.phrase, "share": fact.share}
            for fact in style_of(titles).facts[:_N_FACTS]
        ],
    }


def _span(lengths: list[int]) -> dict[str, int] | None:
    return {"least": min(lengths), "median": int(median(lengths)), "most": max(lengths)} if lengths else None
