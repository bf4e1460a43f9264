"""Runs one verb, and answers the shell's completion requests: all that needs Typer. A verb is imported when asked for.

Only public names of Typer are used, so that any version from 0.28 on will do.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.table import COMPLETE_VAR, PROG, VERBS
from prlm_edge.errors import PrlmError, UsageError

HELP_OPTIONS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
_PLAINER = {  # Typer's words and, from 0.29 on, pydantic's
    "a valid integer": "a whole number",
    "a valid int": "a whole number",
    "a valid float": "a number",
    "Value error, ": "",
    "Input should be a whole number, unable to parse string as an integer": "not a whole number",
    "Input should be a valid number, unable to parse string as a number": "not a number",
}


def load(verb: str) -> TyperCommand | TyperGroup:
    """Import the module of `verb` (a key of VERBS) and return its command, named after the verb."""
    app: typer.Typer = importlib.import_module(f"prlm_edge.cli.{verb}").app
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand | TyperGroup)
    command.name = verb
    _spare_pydantic(command)
    return command


def _spare_pydantic(command: TyperCommand | TyperGroup) -> None:
    """Have `_taken` look at each value of `command` and its subcommands before Typer does."""
    for one in getattr(command, "commands", {}).values():
        _spare_pydantic(one)
    ours = inspect.signature(command.callback, eval_str=True).parameters if command.callback else {}
    kinds = {name: frozenset(_kinds(one.annotation)) for name, one in ours.items()}
    for param in (*command.params, command.get_help_option(typer.Context(command, **HELP_OPTIONS))):
        if param is not None:
            convert = functools.partial(_taken, kinds.get(str(param.name), frozenset()), param, param.process_value)
            param.process_value = convert  # type: ignore[method-assign]


def _kinds(annotation: Any) -> Iterator[Any]:
    """What a parameter may be: the types of its annotation; none where not every value of them is allowed."""
    if get_origin(annotation) is Annotated:
        annotation, about = get_args(annotation)
        if (about.min, about.max) != (None, None):
            return
    yield from (get_args(annotation) if isinstance(annotation, UnionType) else [annotation])


def _taken(kinds: frozenset[Any], param: Any, convert: Callable[..., Any], ctx: typer.Context, value: Any) -> Any:
    """A parameter's value: itself where it is of its type already, or was not given; else what Typer makes of it.

    Typer, from 0.29 on, hands each value to pydantic, whose import takes 70 ms.
    """
    many = param.multiple or param.nargs == -1
    if value is None and not param.required:
        value = () if many else None
        return value if param.callback is None else param.callback(ctx, param, value)
    if param.callback is not None:
        return convert(ctx, value)
    if type(value) in kinds and not many:
        return value
    if int in kinds and isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    if list[str] in kinds and many and value and all(isinstance(one, str) for one in value):
        return list(value)
    return convert(ctx, value)


def run(args: list[str]) -> int:
    """Run the verb that `args` names and return its exit code.

    Raises:
        UsageError: The command line is wrong.
        KeyboardInterrupt: Ctrl-C, also at a prompt.
    """
    verb = args[0]
    command = load(verb)
    try:
        with command.make_context(f"{PROG} {verb}", args[1:]) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as error:
        if error.exit_code != UsageError.exit_code:
            raise PrlmError(error.format_message()) from error
        if error.message.startswith("Usage: "):  # a group without a command: its help, as an error
            console.note(error.message)
            return error.exit_code
        raise _usage_error(error, f"{PROG} {verb}") from error
    return 0


class _Later(TyperCommand):
    """Stands for a verb whose module is not imported yet: its name and help are known."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the verb itself."""
        return load(str(self.name)).make_context(info_name, args, parent, **extra)


def complete(instruction: str) -> int:
    """Answer a completion script ("complete_bash" and the like), or print one ("source_bash").

    The words typed so far are in environment variables that the script sets.
    """
    app = typer.Typer(rich_markup_mode=None, context_settings=HELP_OPTIONS)

    @app.callback()
    def _options(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
        """What comes before a verb."""

    for name, about in VERBS.items():
        app.command(name, short_help=about, cls=_Later)(_options)
    group = typer.main.get_command(app)
    group.params = [param for param in group.params if param.name == "version"]  # not Typer's --install-completion
    os.environ[COMPLETE_VAR] = instruction  # Typer reads it there
    try:
        group.main([], prog_name=PROG, complete_var=COMPLETE_VAR)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    finally:
        del os.environ[COMPLETE_VAR]
    return 0


def _usage_error(error: typer.TyperException, command: str) -> UsageError:
    message = " ".join(error.format_message().split())
    for theirs, ours in _PLAINER.items():
        message = message.replace(theirs, ours)
    context: typer.Context | None = getattr(error, "ctx", None)  # not every error knows where it was raised
    command = context.command_path if context is not None else command
    return UsageError(message[:1].lower() + message[1:].rstrip("."), f"'{command} --help' shows the options")
