"""`prlm-edge task`: see the tasks, find out which one a request goes to, and start one of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prlm_edge import storage, tasks
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, adds, new_app, setting
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import UsageError, did_you_mean
from prlm_edge.settings import load_settings
from prlm_edge.tasks import Task

app = new_app(help=VERBS["task"], no_args_is_help=True)

TasksDir = Annotated[str | None, setting("tasks_dir")]


def _folder(tasks_dir: TasksDir = None, config: ConfigFile = None) -> Path | None:
    """The folder of the user's own tasks, if one is named."""
    found = load_settings(config=config, flags={"tasks_dir": tasks_dir}).tasks_dir
    return Path(found) if found else None


def _complete_task(incomplete: str) -> list[tuple[str, str]]:
    return [(task.name, task.description) for task in tasks.load_tasks().values() if task.name.startswith(incomplete)]


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A task; `task list` shows them.", autocompletion=_complete_task)
]


@app.command(name="list")
@adds("folder", _folder)
def list_(folder: Path | None, json: JsonFlag = False) -> None:
    """List the tasks, and which files your own are in."""
    found = tasks.load_tasks(folder)
    if json:
        console.emit_json(list(found.values()))
        return
    wide = max(map(len, found))
    for task in found.values():
        console.out(f"{task.name:<{wide}}  {task.description}" + ("" if task.builtin else f"  ({task.source})"))


@app.command()
@adds("folder", _folder)
def show(name: NameArgument, folder: Path | None, json: JsonFlag = False) -> None:
    """Print the task's file; with --json its values, defaults filled in."""
    task = tasks.get_task(name, folder)
    if json:
        console.emit_json(task)
        return
    console.note(_origin(task))
    console.out(Path(task.source).read_text("utf-8-sig").rstrip())


@app.command()
@adds("folder", _folder)
def which(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="A request as you would give it to generate.")],
    folder: Path | None,
    json: JsonFlag = False,
) -> None:
    """Say which task a bare REQUEST goes to, and what it is then asked."""
    task, text = tasks.route(request, tasks.load_tasks(folder))
    if json:
        console.emit_json({"task": task.name, "text": text, "asked": task.before + text + task.after})
        return
    console.out(f"{task.name}: {task.before}{text}{task.after}")


@app.command()
@adds("folder", _folder)
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new task's name, such as newsletter.")],
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TASK",
            autocompletion=_complete_task,
            help="The task to copy: NAME's own if there is one, else title.",
        ),
    ] = None,
    *,
    folder: Path | None,
) -> None:
    """Start a task of your own: a copy of another one, to be edited. A built-in's name replaces that built-in.

    It goes to --tasks-dir or the setting tasks_dir, else into your configuration. The file's path is printed.
    """
    if not tasks.valid_name(name):
        hint = "use lower-case letters, digits, '-' and '_', and begin with a letter"
        raise UsageError(f"{name!r} can't be a task's name", hint)
    known = tasks.load_tasks(folder if folder and folder.exists() else None)
    base = base or (name if name in known else "title")
    if base not in known:
        raise UsageError(
            f"--from: there is no task {base!r}", did_you_mean(base, known, "`prlm-edge task list` shows them")
        )
    target = (folder or tasks.user_folder()) / f"{name}.toml"
    if target.exists():
        raise UsageError(f"{target} is there already", "edit it, or choose another name")
    text = tasks.copied(known[base], name, target)
    with storage.atomic_write(target) as stream:
        stream.write(text.encode())
    console.out(str(target))
    console.note(f"edit it, then: prlm-edge generate --task {name} --user me.jsonl ...")


def _origin(task: Task) -> str:
    yours = f"`prlm-edge task init {task.name}` makes a copy to edit"
    return f"built-in; {yours}" if task.builtin else task.source
