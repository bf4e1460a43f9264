"""Writes docs/examples.md: what the default model answers, as it comes, good or bad.

    python examples/answers.py > docs/examples.md        # `make examples`

Requests of the example profile, some of them drafts of posts that are taken out of it first; and commits of this
repository's own history, each asked for by its diff, with the commits before it as the profile. Which posts and commits
is a rule, not a choice. The whole history must be here: a shallow clone lacks it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from prlm_edge import Writer
from prlm_edge.errors import PrlmError
from prlm_edge.ingest import git
from prlm_edge.profile import Profile
from prlm_edge.types import Item

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "examples" / "me.jsonl"
LAST, STEP, COMMITS, PAST = "b68e569", 25, 10, 200  # every 25th commit back from LAST, each with the 200 before it
HELD_OUT = 7  # every seventh of Maren's posts is asked for by its text
REQUESTS = (
    "title for my post on winter sourdough",
    "title for a talk about repairing old radios at the library",
    "title for my post about moving the router out of the cupboard",
    "title for cycling to work in the dark",
    "headline for: the library stays open on Sundays from May",
    "headline for: the swimming club gets a sauna",
)
Row = tuple[str, str, str]  # what was asked, the answer, what the person wrote


def main() -> None:
    """Print the page."""
    try:
        print(page())
    except PrlmError as error:
        sys.exit(f"{error.message}: {error.hint}")


def page() -> str:
    """The page as Markdown.

    Raises:
        PrlmError: The model isn't pulled.
    """
    return "\n".join(
        [
            "# What it answers",
            "",
            "Written by `make examples`: the default model, one answer each, as it comes, good or bad.",
            "",
            "## Maren's profile (examples/me.jsonl)",
            "",
            *table(("asked for", "answer", "what Maren wrote"), titles()),
            "",
            "A quoted beginning is a post's whole text, which was taken out of the profile before it was asked for.",
            "",
            "## Commits of this repository, asked for by their diffs",
            "",
            *table(("commit", "answer", "what was written"), commits()),
            "",
            f"Every {STEP}th commit back from {LAST}; the profile is the {PAST} commits before it "
            "(`prlm-edge profile import git`).",
        ]
    )


def titles() -> Iterator[Row]:
    """Requests of a few words, then posts that the profile does not hold."""
    items = list(Profile.open(PROFILE))
    out = items[HELD_OUT - 1 :: HELD_OUT]
    with written_by(item for item in items if item not in out) as writer:
        for request in REQUESTS:
            yield request, writer.generate(request).answer, ""
        for item in out:
            yield (
                f"“{item.text[:60].rpartition(' ')[0]} ...”",
                writer.generate(item.text, task="title").answer,
                item.title,
            )


def commits() -> Iterator[Row]:
    """Commits by their diffs."""
    history = told("log", "--format=%H", "--no-merges", LAST).split()
    for commit in history[: STEP * COMMITS : STEP]:
        author, subject = told("show", "-s", "--format=%ae%n%s", commit).splitlines()
        with written_by(git.read(ROOT, authors=[author], rev=f"{commit}^", limit=PAST)) as writer:
            yield commit[:7], writer.generate(told("show", "--format=", commit), task="commit").answer, subject


@contextmanager
def written_by(items: Iterable[Item]) -> Iterator[Writer]:
    """A Writer over a profile of these items."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "me.jsonl"
        Profile.open(path, create=True).append(items)
        with Writer.open(path) as writer:
            yield writer


def told(*arguments: str) -> str:
    """What git says."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout.decode()


def table(head: Row, rows: Iterable[Row]) -> Iterator[str]:
    """A Markdown table, line by line."""
    for row in (head, ("---",) * 3, *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


if __name__ == "__main__":
    main()
