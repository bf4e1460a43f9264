"""Tasks as data: one TOML file each says what is asked of the model, in which words, and what it learns from.

Built-in tasks are in this folder. A user's own are in `<config_dir>/tasks/` and in the folder that the setting
`tasks_dir` names; a file of the same name there replaces a built-in task.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from prlm_edge import storage
from prlm_edge.errors import ConfigError, UsageError, did_you_mean
from prlm_edge.tasks._filler import without_filler
from prlm_edge.tasks._read import copied, read_task, valid_name
from prlm_edge.tasks._route import FALLBACK, route
from prlm_edge.tasks._task import Task
from prlm_edge.tasks._topic import is_change, is_topic

__all__ = [
    "Task",
    "copied",
    "get_task",
    "is_change",
    "is_topic",
    "load_tasks",
    "read_task",
    "route",
    "task_for",
    "user_folder",
    "valid_name",
    "without_filler",
]


def user_folder() -> Path:
    """The folder of a user's own tasks, which need not exist."""
    return storage.config_dir() / "tasks"


def load_tasks(folder: Path | None = None) -> dict[str, Task]:
    """All tasks by name: built-in, then the user's own, then those of `folder`; later ones replace earlier.

    Raises:
        ConfigError: `folder` isn't a folder, or a file in it or in the user's own can't be used.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"tasks_dir: {folder} is not a folder", "make it, or `prlm-edge config unset tasks_dir`")
    tasks = {task.name: task for task in _builtin()}
    for own in (user_folder(), folder):
        if own is not None and own.is_dir():
            tasks |= {task.name: task for task in map(read_task, sorted(own.glob("*.toml")))}
    return tasks


def get_task(name: str, folder: Path | None = None) -> Task:
    """The task called `name`.

    Raises:
        UsageError: There is none; the hint names the nearest.
        ConfigError: As `load_tasks`.
    """
    return _named(name, load_tasks(folder))


def task_for(name: str, query: str, folder: Path | None = None) -> tuple[Task, str]:
    """The task called `name`, and what is asked of it; where that is "write", the task that the request begins with.

    A few words may begin with the task's own name, too ("title for ..."): that says nothing new, and goes.

    Raises:
        UsageError: There is no such task.
        ConfigError: As `load_tasks`.
    """
    tasks = load_tasks(folder)
    task = _named(name, tasks)
    if task.name == FALLBACK:
        return route(query, tasks)
    if task.learns_from == "title" and is_topic(query):
        return task, route(query, {name: task, FALLBACK: tasks[FALLBACK]})[1]
    return task, query


def _named(name: str, tasks: Mapping[str, Task]) -> Task:
    if name not in tasks:
        hint = did_you_mean(name.lower(), tasks, f"the tasks are: {', '.join(tasks)}")
        raise UsageError(f"there is no task {name!r}", hint)
    return tasks[name]


@cache
def _builtin() -> tuple[Task, ...]:
    return tuple(read_task(path, builtin=True) for path in sorted(Path(__file__).parent.glob("*.toml")))
