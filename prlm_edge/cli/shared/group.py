"""The Typer side of dispatch: a command group that imports a verb's module only when that verb is asked for.

Not here: the table of verbs (`_table.py`) and what is done with errors (`__init__.py`). This module imports Typer; it
is reached only for a real verb or for shell completion.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer import _click  # Typer 0.29 vendors Click; pyproject pins the minor version for it
from typer._click.exceptions import ClickException, NoArgsIsHelpError
from typer._click.exceptions import UsageError as ClickUsageError
from typer._click.shell_completion import CompletionItem
from typer.core import TyperCommand, TyperGroup

from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.table import PROG, VERBS, help_text
from prlm_edge.errors import PrlmError, UsageError

_PLAINER = {  # pydantic's words
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "not a whole number",
    "Input should be a valid number, unable to parse string as a number": "not a number",
}


class LazyGroup(TyperGroup):
    """Commands from `_table.VERBS`, imported one at a time."""

    def list_commands(self, ctx: _click.Context) -> list[str]:
        """The verbs, in the table's order."""
        return list(VERBS)

    def get_command(self, ctx: _click.Context, cmd_name: str) -> _click.Command | None:
        """Import the verb's module and return its command; None for an unknown verb."""
        return load(cmd_name) if cmd_name in VERBS else None

    def format_help(self, ctx: _click.Context, formatter: _click.HelpFormatter) -> None:
        """The static help, so that no path prints another one."""
        formatter.write(help_text() + "\n")

    def shell_complete(self, ctx: _click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs and options that start with `incomplete`, without importing any verb."""
        if incomplete.startswith("-"):
            return _click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=verb.help) for name, verb in VERBS.items() if name.startswith(incomplete)]


def load(verb: str) -> TyperCommand | TyperGroup:
    """Import the module of `verb` (a key of VERBS) and return its command, named after the verb."""
    app: typer.Typer = importlib.import_module(VERBS[verb].module).app
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand | TyperGroup)
    command.name = verb
    _plain_help(command)
    return command


def root() -> LazyGroup:
    """The whole command line as one group."""
    app = typer.Typer(
        cls=LazyGroup,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _options(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
        """Options before the verb; the real ones are answered in `main` before Typer is imported."""

    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup)
    return group


def run(args: list[str]) -> int:
    """Run the verb that `args` names and return its exit code.

    Raises:
        UsageError: The command line is wrong.
        KeyboardInterrupt: Ctrl-C, also at a prompt.
    """
    group = root()
    try:
        with group.make_context(PROG, args) as context:
            group.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except NoArgsIsHelpError as error:
        _console.note(error.format_message())
        return error.exit_code
    except ClickUsageError as error:
        raise _usage_error(error, args) from error
    except ClickException as error:
        raise PrlmError(error.format_message()) from error
    return 0


def complete(variable: str) -> int:
    """Answer the shell's completion request that the environment variable `variable` holds."""
    from typer._completion_classes import completion_init

    completion_init()  # registers Typer's shells, whose scripts `prlm-edge completion` prints
    try:
        root().main([], prog_name=PROG, complete_var=variable)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def _usage_error(error: ClickUsageError, args: list[str]) -> UsageError:
    message = " ".join(error.format_message().split())
    for theirs, ours in _PLAINER.items():
        message = message.replace(theirs, ours)
    command = error.ctx.command_path if error.ctx is not None else f"{PROG} {args[0]}"  # Click forgets it at times
    return UsageError(message[:1].lower() + message[1:].rstrip("."), f"'{command} --help' shows the options")


def _plain_help(command: Any) -> None:
    """Turn off Rich help: importing Rich takes longer than the rest, and its boxes are poor in pipes and files."""
    command.rich_markup_mode = None
    for child in getattr(command, "commands", {}).values():
        _plain_help(child)
