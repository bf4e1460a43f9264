"""`prlm-edge profile verify`, `repair` and `stats`."""

from __future__ import annotations

import os
from collections import Counter
from statistics import median
from typing import Any

import typer

from prlm_edge.cli.profile.common import app, note_bad, open_profile
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.console import count
from prlm_edge.cli.shared.options import JsonFlag, adds
from prlm_edge.errors import ProfileError
from prlm_edge.profile import Profile

_N_LISTED = 10
_N_FACTS = 6


@app.command()
@adds("profile", open_profile)
def verify(profile: Profile, json: JsonFlag = False) -> None:
    """Name every line that can't be read, and why. Exit code 3 when there is one."""
    leftovers = [str(path) for path in profile.leftovers]
    if json:
        console.emit_json(
            {
                "profile": str(profile.path),
                "items": len(profile),
                "bad": [{"line": line.number, "reason": line.reason} for line in profile.bad],
                "leftovers": leftovers,
            }
        )
    else:
        for line in profile.bad:
            console.out(f"{profile.path}:{line.number}: {line.reason}")
    console.note(f"{count(len(profile), 'item')}, {count(len(profile.bad), 'bad line')}")
    if os.name == "posix" and profile.path.stat().st_mode & 0o077:
        console.note(f"others on this machine may read it: chmod 600 {profile.path}")
    for left in leftovers:
        console.note(f"{left} holds text of yours: it is left of a write that was interrupted, and `repair` deletes it")
    if profile.bad:
        console.note(f"  prlm-edge profile repair --user {profile.path}  moves them to a file of their own")
        raise typer.Exit(ProfileError.exit_code)


@app.command()
@adds("profile", open_profile)
def repair(profile: Profile, json: JsonFlag = False) -> None:
    """Move lines that can't be read to a file of their own next to the profile. Nothing is dropped.

    A sound line whose id an earlier line has stays, with a new id.
    """
    done = profile.repair()
    if json:
        console.emit_json(
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
        console.note(f"line {number}: id {old} was taken, now {new}")
    if done.side_file:
        console.note(f"{count(done.moved, 'line')} moved to {done.side_file}")
    if not done.changed:
        console.note("nothing to repair")
    console.note(f"{count(len(profile), 'item')} in {profile.path}")


@app.command()
@adds("profile", open_profile)
def stats(profile: Profile, json: JsonFlag = False) -> None:
    """Count what is in the profile: items, dates, kinds, sources, lengths, and what your titles have in common."""
    found = _stats(profile)
    if json:
        console.emit_json(found)
        return
    dates = found["dates"]
    console.out(
        f"{count(found['items'], 'item')}: {found['with_title']:,} with a title, "
        f"{found['with_text']:,} with a text; {found['bytes']:,} bytes"
    )
    if found["with_topic"] or found["with_change"]:
        console.out(f"told besides: a topic of {found['with_topic']:,}, the change of {found['with_change']:,}")
    if dates["first"]:
        console.out(f"dates: {dates['first']} to {dates['last']}; {dates['missing']:,} without")
    for name in ("kinds", "sources"):
        if counted := found[name]:
            more = f" and {len(counted) - _N_LISTED} more" if len(counted) > _N_LISTED else ""
            console.out(f"{name}: {', '.join(f'{k} {n:,}' for k, n in list(counted.items())[:_N_LISTED])}{more}")
    for name in ("title_words", "text_words"):
        if span := found[name]:
            console.out(
                f"words in a {name.partition('_')[0]}: {span['least']:,} to {span['most']:,}, "
                f"half of them up to {span['median']:,}"
            )
    _show_feedback(found["feedback"])
    if found["style"]:
        console.out(f"your titles: {'; '.join(fact['phrase'] for fact in found['style'])}")
    note_bad(profile)


def _show_feedback(found: dict[str, Any]) -> None:
    if found["edited"] or found["accepted"]:
        as_it_was = f"{found['accepted']:,} as they were, which are not learned from"
        console.out(f"answers accepted: {found['edited']:,} edited, {as_it_was}")
    for name, about in (
        ("pairs", "answers kept against others, for training"),
        ("drafts", "last answers, for `prlm-edge accept`"),
        ("crossed_out", "habits crossed out"),
    ):
        if n := found[name]["n"]:
            console.out(f"{about}: {n:,} in {found[name]['path']}")


def _feedback(profile: Profile) -> dict[str, Any]:
    """What came of answers, and where it is kept besides the profile."""
    from prlm_edge import feedback
    from prlm_edge.profile import crossed_out, habits_path

    path, origins = profile.path, Counter(item.meta.get("origin") for item in profile)
    crossed = sum(map(len, crossed_out(path).values()))
    return {
        "edited": origins["edited"],
        "accepted": origins["accepted"],
        "pairs": {"n": len(feedback.read_pairs(path)), "path": str(feedback.pairs_path(path))},
        "drafts": {"n": len(feedback.kept(path)), "path": str(feedback.drafts_path())},
        "crossed_out": {"n": crossed, "path": str(habits_path(path))},
    }


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
        "with_topic": sum(bool(item.topic) for item in items),
        "with_change": sum(bool(item.change) for item in items),
        "dates": {
            "first": dates[0] if dates else "",
            "last": dates[-1] if dates else "",
            "missing": len(items) - len(dates),
        },
        "kinds": dict(Counter(item.kind for item in items if item.kind).most_common()),
        "sources": dict(Counter(item.source for item in items if item.source).most_common()),
        "title_words": _span([len(title.split()) for title in titles]),
        "text_words": _span([len(item.text.split()) for item in items if item.text]),
        "feedback": _feedback(profile),
        "style": [
            {"name": fact.name, "phrase": fact.phrase, "share": fact.share}
            for fact in style_of([item.title for item in items if item.teaches]).facts[:_N_FACTS]
        ],
    }


def _span(lengths: list[int]) -> dict[str, int] | None:
    return {"least": min(lengths), "median": int(median(lengths)), "most": max(lengths)} if lengths else None
