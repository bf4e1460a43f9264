"""`prlm-edge accept`: what the user made of an answer joins their profile."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.options import JsonFlag, UserOption, new_app
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import UsageError
from prlm_edge.feedback import KeptDraft, accept, find, kept, said_of
from prlm_edge.profile import Profile
from prlm_edge.storage import expanded

app = new_app()


@app.command(
    name="accept",
    help=f"""{VERBS["accept"]}

Without DRAFT the last answer of `generate` is meant, of the profile that it was written from. The id of the new item is
printed.

\b
prlm-edge accept                                        as it was
prlm-edge accept --final "the crust: a tin and gravel"  as you use it
git log -1 --format=%s | prlm-edge accept --final -     as you committed it

What you changed counts as your writing from now on. What you took as it was is kept in the profile, but never shown as
an example, counted as a habit or trained on, so that the program does not imitate itself. The answers that you did not
take are kept beside the profile, for training; `prlm-edge profile stats` shows where, `prlm-edge profile rm` deletes.
""",
)
def accept_(
    id: Annotated[
        str, typer.Argument(metavar="DRAFT", help='The "draft" of generate --json.', show_default=False)
    ] = "",
    final: Annotated[
        str | None, typer.Option("--final", metavar="TEXT", help="The text as you use it; - reads standard input.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--number", "-n", min=1, help="Which of several answers, as it was.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the drafts that are kept, the newest first.")] = False,
    user: UserOption = None,
    json: JsonFlag = False,
) -> None:
    """Accept one draft."""
    if final is not None and number is not None:
        raise UsageError("--final and --number exclude each other", "of a changed answer it is found which one it was")
    path = expanded(user) if user else None
    if list_:
        _show(list(reversed(kept(path))), json=json)
        return
    found = find(path, id)
    draft = found.draft
    if number is not None:
        if number > len(draft.answers):
            raise UsageError(f"draft {draft.id} has {console.count(len(draft.answers), 'answer')}, not {number}")
        final = draft.answers[number - 1]
    text = console.stdin_text() if final == "-" else final
    accepted = accept(Profile.open(path or found.profile), draft, text)
    if json:
        console.emit_json({**asdict(accepted), "profile": path or found.profile})
        return
    console.out(accepted.item)
    console.note(said_of(accepted))


def _show(drafts: list[KeptDraft], *, json: bool) -> None:
    if json:
        console.emit_json([{**asdict(one.draft), "profile": one.profile, "date": one.date} for one in drafts])
        return
    for one in drafts:
        day, text = one.date[:16].replace("T", " "), one.draft.final or one.draft.answers[0]
        n = f"  ({len(one.draft.answers)} answers)" if len(one.draft.answers) > 1 else ""
        console.out(console.clip(console.one_line(f"{one.draft.id}  {day}  {one.draft.task}  {text}") + n))
    if not drafts:
        console.note("no answer is kept")
