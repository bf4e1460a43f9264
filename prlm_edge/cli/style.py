"""`prlm-edge style`: the habits that a profile shows, as facts to read, to check texts by and to cross out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from prlm_edge import tasks
from prlm_edge.cli.profile.common import open_or_create
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, UserOption, adds, completes, new_app, setting
from prlm_edge.cli.shared.table import PROG, VERBS
from prlm_edge.errors import UsageError, did_you_mean
from prlm_edge.profile import Profile, all_habits, cross_out, crossed_out_for, habits_path, learn, restore
from prlm_edge.profile.habits import EVERY_TASK
from prlm_edge.rerank import broken_clause
from prlm_edge.settings import load_settings
from prlm_edge.storage import read_small
from prlm_edge.style import TRAITS, Fact, Style, listed
from prlm_edge.tasks import Task
from prlm_edge.types import Item

app = new_app(help=VERBS["style"], no_args_is_help=True)
FORMS = ("md", "json", "skill")
QUOTING = "vocabulary"  # the fact that repeats words of the user's texts
_PHRASES = {phrase: key for key, (phrase, _) in TRAITS.items()}
_KEYS = (*TRAITS, "words", "tag", "first word", QUOTING)

Habits = Annotated[
    list[str], typer.Argument(metavar="HABIT", help='As `style show` names it: "case:lower" or "lower case".')
]


class _Section(NamedTuple):
    """Tasks that learn the same from a profile, the items that they learn from, and the style of these."""

    tasks: list[Task]
    items: list[Item]
    style: Style
    crossed_out: frozenset[str]

    @property
    def names(self) -> str:
        return listed([task.name for task in self.tasks])


@dataclass
class _Asked:
    """The profile and the tasks that are meant: one that was named, or all."""

    profile: Profile
    tasks: Sequence[Task]
    named: bool

    @property
    def crossing(self) -> str:
        """The task for which habits are crossed out."""
        return self.tasks[0].name if self.named else EVERY_TASK

    def sections(self) -> list[_Section]:
        """What there is to learn, with the habits that are crossed out."""
        found: dict[object, _Section] = {}
        for task in self.tasks:
            items, style = all_habits(self.profile, task)
            crossed_out = crossed_out_for(self.profile.path, task.name)
            same = (task.learns_from, task.multiline, crossed_out, tuple(map(id, items)))
            if items:
                found.setdefault(same, _Section([], items, style, crossed_out)).tasks.append(task)
        if not found:
            raise UsageError(f"{self.profile.path}: no item to learn from", f"add some: {PROG} profile import --help")
        return list(found.values())


def _asked(
    user: UserOption = None,
    task: Annotated[str | None, setting("task")] = None,
    tasks_dir: Annotated[str | None, setting("tasks_dir")] = None,
    config: ConfigFile = None,
) -> _Asked:
    flags = {"user": user, "task": task, "tasks_dir": tasks_dir}
    settings = load_settings(config=config, flags=flags)
    profile = open_or_create(settings.user, config, create=False)
    if settings.origins["task"] != "default":
        return _Asked(profile, [tasks.get_task(settings.task, settings.tasks_folder)], named=True)
    return _Asked(profile, list(tasks.load_tasks(settings.tasks_folder).values()), named=False)


@app.command()
@adds("asked", _asked)
def show(asked: _Asked, json: JsonFlag = False) -> None:
    """Show what your texts have in common, by task, the most telling first, with the share of them that keep it."""
    sections = asked.sections()
    if json:
        console.emit_json({"profile": asked.profile.path, "styles": [_record(one) for one in sections]})
        return
    for section in sections:
        console.out(f"{section.names}: from {console.count(len(section.items), 'item')}")
        for fact in section.style.facts:
            mark = "  crossed out" if fact.key in section.crossed_out else ""
            console.out(f"  {fact.share:>4.0%}  {console.one_line(fact.phrase):<34}  {fact.key}{mark}".rstrip())
    console.note(f"`{PROG} style cross-out HABIT` has one not followed")


@app.command()
@adds("asked", _asked)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The text; - reads standard input.")],
    at_least: Annotated[
        float, typer.Option("--min", min=0.0, max=1.0, help="Exit code 1 where less of your habits is kept.")
    ] = 0.0,
    *,
    asked: _Asked,
    json: JsonFlag = False,
) -> None:
    """Say which of your habits a text keeps and breaks.

    Without a task a line is checked as a title, several lines as a text. Of a task of one line the first line is
    checked, as of a commit message. The share counts each habit by how steady it is.
    """
    text = _text(file)
    one = asked.tasks[0] if asked.named else tasks.get_task("write" if "\n" in text else "title")
    text = text if one.multiline else text.partition("\n")[0].strip()
    items, style = learn(asked.profile, one)
    kept, broken = style.judge(text)
    match = style.match(text)
    if json:
        found = {"kept": [_fact(fact) for fact in kept], "broken": [_fact(fact) for fact in broken]}
        console.emit_json({"task": one.name, "items": len(items), "match": match, **found})
    else:
        console.out(f"{match:.0%} of your habits, as a {one.noun}")
        for said, clauses in (("keeps", [fact.phrase for fact in kept]), ("breaks", _broken(broken, text))):
            if clauses:
                console.out(f"{said}: {console.one_line(', '.join(clauses))}")
    if not style.facts:
        console.note("your profile shows no habits of that sort")
    if match < at_least:
        raise typer.Exit(1)


@app.command()
@adds("asked", _asked)
def export(
    form: Annotated[
        str, typer.Option("--as", metavar="FORM", help="md, json or skill.", autocompletion=completes(FORMS))
    ] = "md",
    quote: Annotated[
        int, typer.Option("--quote", metavar="N", min=0, help="Quote N of your newest texts of each sort, too.")
    ] = 0,
    *,
    asked: _Asked,
) -> None:
    """Print your habits for other programs: Markdown, JSON, or the SKILL.md of an assistant.

    Facts alone, without what is crossed out; your texts, and words that recur in them, only with --quote.
    """
    if form not in FORMS:
        raise UsageError(f"--as {form}: no such form", did_you_mean(form, FORMS, f"there are: {', '.join(FORMS)}"))
    sections = [_exported(one, quote) for one in asked.sections()]
    if form == "json":
        console.emit_json([{**_record(one), "quotes": _quotes(one, quote)} for one in sections])
    else:
        console.out("\n".join(_markdown(sections, quote, skill=form == "skill")))


@app.command(name="cross-out")
@adds("asked", _asked)
def cross_out_(habits: Habits, asked: _Asked) -> None:
    """Have habits not followed: neither in prompts, nor in choosing among answers, nor in checks.

    For the task that --task names, else for all. They are kept in a file beside the profile, which its name and
    ".habits" name; `restore`, or deleting it, undoes it. Past items are shown to the model as they are.
    """
    cross_out(asked.profile.path, _keys(habits, asked), asked.crossing)
    console.note(f"not followed any more{_for(asked)}: {', '.join(habits)} ({habits_path(asked.profile.path)})")


@app.command(name="restore")
@adds("asked", _asked)
def restore_(
    habits: Annotated[
        list[str] | None, typer.Argument(metavar="HABIT", help="Habits to follow again.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    *,
    asked: _Asked,
) -> None:
    """Follow habits again that were crossed out: for the task that --task names, else for all."""
    if bool(habits) == every:
        raise UsageError("name habits, or say --all", f"`{PROG} style show` marks those that are crossed out")
    keys = None if every else _keys(habits or (), asked)
    console.note(f"{console.count(restore(asked.profile.path, keys, asked.crossing), 'habit')} restored{_for(asked)}")


def _for(asked: _Asked) -> str:
    return f" for {asked.crossing}" if asked.named else ""


def _keys(habits: Sequence[str], asked: _Asked) -> list[str]:
    """The keys of habits named by key or phrase.

    Raises:
        UsageError: There is no such habit.
    """
    named = {key: key for key in _KEYS} | _PHRASES
    for section in asked.sections():
        named |= {fact.phrase: fact.key for fact in section.style.facts}
    for habit in habits:
        if habit not in named:
            raise UsageError(
                f"no habit is called {habit!r}", did_you_mean(habit, named, f"`{PROG} style show` names them")
            )
    return [named[habit] for habit in habits]


def _text(file: Path) -> str:
    try:
        text = console.stdin_text() if str(file) == "-" else read_small(file).decode()
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}", "name a text in UTF-8") from None
    if not text.strip():
        raise UsageError(f"{file}: nothing to check", "write something first")
    return text.strip()


def _broken(facts: Sequence[Fact], text: str) -> list[str]:
    return [broken_clause(fact, text) for fact in facts]


def _fact(fact: Fact) -> dict[str, Any]:
    return {name: getattr(fact, name) for name in ("key", "phrase", "value", "share")}


def _record(section: _Section) -> dict[str, Any]:
    return {
        "tasks": [task.name for task in section.tasks],
        "items": len(section.items),
        "habits": [{**_fact(fact), "crossed_out": fact.key in section.crossed_out} for fact in section.style.facts],
    }


def _exported(section: _Section, quote: int) -> _Section:
    """What others may know of it."""
    hidden = section.crossed_out if quote else section.crossed_out | {QUOTING}
    return section._replace(style=section.style.without(hidden))


def _quotes(section: _Section, n: int) -> list[str]:
    return [
        section.tasks[0].answer_of(item) for item in section.items[len(section.items) - min(n, len(section.items)) :]
    ]


def _markdown(sections: Sequence[_Section], quote: int, *, skill: bool) -> Iterator[str]:
    if skill:
        names = listed([task.name for one in sections for task in one.tasks])
        yield "---"
        yield "name: my-writing-style"
        yield f"description: How this user writes. To be used whenever you write for them ({names})."
        yield "---"
        yield ""
    yield "# How I write"
    if skill:
        yield ""
        yield "Write as the facts say, the first ones above all. The share says how many of my texts keep a fact."
    for section in sections:
        yield ""
        yield f"## {section.names}"
        yield ""
        yield from (f"- {fact.phrase} ({fact.share:.0%})" for fact in section.style.facts)
        for text in _quotes(section, quote):
            yield ""
            yield "\n".join(f"> {line}".rstrip() for line in text.splitlines())
