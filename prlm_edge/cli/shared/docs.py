"""Writes docs/cli.md from the real help: `python -m prlm_edge.cli.shared.docs > docs/cli.md` (`make docs`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from prlm_edge.cli.shared import console, dispatch, table
from prlm_edge.cli.shared.table import PROG
from prlm_edge.settings import DEFAULTS, ENV_PREFIX, KEYS

WIDTH = 100
_INTRO = f"""# The command line

Generated from `{PROG} --help` by `make docs`; a test keeps it so.

The answer, or whatever was asked for, goes to standard output; everything else goes to standard error.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the work failed: no space, no network, no answer from a server |
| 2 | the request was wrong: an unknown command, option, name, setting or value; also no command at all |
| 3 | a profile or a model is damaged |
| 4 | something must be installed or pulled first; the message says with which command |
| 70 | a bug in {PROG}; `PRLM_DEBUG=1` shows the traceback |
| 130 | interrupted (Ctrl-C) |
| 141 | the reader of standard output went away |
| 143 | ended by SIGTERM, with its child processes |
"""
_SETTINGS = f"""## Settings

Strongest first: a flag, a `{ENV_PREFIX}*` environment variable, the file of `--config`, your `config.toml`
(`{PROG} config path`), the default. A variable that starts with `{ENV_PREFIX}` and is no setting is an error, so that
a misspelt one is noticed; `PRLM_HOME` (a folder for everything: models, settings, drafts, caches) and `PRLM_DEBUG` are
the two that are not settings. An empty variable counts as not set. In Python, those marked "yes" may be given for one
request: `writer.generate(query, k=5)`.

| setting | default | one request | what it is |
|---|---|---|---|
"""


def pages() -> str:
    """The whole of docs/cli.md."""
    parts = [_INTRO, f"```text\n{table.help_text()}\n```\n", _SETTINGS + "".join(map(_row, KEYS))]
    for verb in table.VERBS:
        parts.append(f"## {PROG} {verb}\n")
        parts += [f"```text\n{text.rstrip()}\n```\n" for text in _helps(dispatch.load(verb), PROG, None)]
    return "\n".join(parts)


def _helps(command: Any, before: str, parent: typer.Context | None) -> Iterator[str]:
    """The help of a command and of those below it."""
    name = f"{before} {command.name}".strip()
    context = typer.Context(
        command, parent, name, terminal_width=WIDTH, max_content_width=WIDTH, **dispatch.HELP_OPTIONS
    )
    yield "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    for child in getattr(command, "commands", {}).values():
        yield from _helps(child, "", context)


def _row(key: str) -> str:
    spec = KEYS[key]
    default = "" if DEFAULTS[key] in (None, "") else f"`{DEFAULTS[key]}`"
    choices = f": {', '.join(spec.choices)}" if spec.choices else ""
    return f"| `{key}` | {default} | {'yes' if spec.request else ''} | {spec.about}{choices} |\n"


if __name__ == "__main__":
    console.out(pages(), end="")
