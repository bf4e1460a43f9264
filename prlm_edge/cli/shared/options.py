"""Options that verbs share: the settings by their table, `--json`, `--config`, `--yes`, and options in groups."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from prlm_edge.cli.shared.dispatch import HELP_OPTIONS
from prlm_edge.settings import KEYS, flag

Verb = Callable[..., None]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A TOML file stronger than your config.toml.")
]


def new_app(**kwargs: Any) -> typer.Typer:
    """A Typer app with plain help, no Rich tracebacks and no `--install-completion` (see `prlm-edge completion`)."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=HELP_OPTIONS,
        **kwargs,
    )


def completes(values: Iterable[str]) -> Callable[[str], list[str]]:
    """What completes a word to one of `values`, read at that moment."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def setting(key: str, more: str = "") -> Any:
    """The option of a setting, for `Annotated`; `more` is added to its help."""
    spec = KEYS[key]
    choices = f" ({', '.join(spec.choices)})" if spec.choices else ""
    return typer.Option(
        *filter(None, (flag(key), spec.short)),
        metavar=spec.path or None,
        help=f"{spec.about[:1].upper()}{spec.about[1:]}{choices}{more}.",
        autocompletion=completes(spec.choices) if spec.choices else None,
    )


UserOption = Annotated[str | None, setting("user")]


def setting_flags(*keys: str, several: bool = False) -> Callable[..., Mapping[str, Any]]:
    """What reads the options of these settings, for `adds`: values by key, None where an option is not given.

    With `several` each takes a text with values between commas.
    """

    def read(**given: Any) -> Mapping[str, Any]:
        return given

    def parameter(key: str) -> inspect.Parameter:
        kind = str if several else KEYS[key].kind
        option = setting(key, "; several separated by commas" if several else "")
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    return _with_parameters(read, map(parameter, keys))


def adds(name: str, read: Callable[..., Any], without: Iterable[str] = ()) -> Callable[[Verb], Verb]:
    """Give a verb the options of `read`, but those of `without`; what `read` makes of them is its argument `name`.

    With `@adds("flags", setting_flags("k", "seed"))` a verb takes -k and --seed, and gets a dict of both as `flags`.
    """
    theirs = {key: one for key, one in _parameters(read, "return").items() if key not in without}

    def wrap(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def wrapper(**given: Any) -> None:
            verb(**{name: read(**{key: given.pop(key) for key in theirs})}, **given)

        own = _parameters(verb, name).items()
        order = [new for key, one in own for new in (theirs.values() if key == name else (one,))]
        return _with_parameters(wrapper, order)

    return wrap


def _parameters(function: Callable[..., Any], untyped: str) -> Mapping[str, inspect.Parameter]:
    """What `function` takes, with evaluated types, except `untyped`, whose type need not be imported at run time."""
    function.__annotations__.pop(untyped, None)
    return inspect.signature(function, eval_str=True).parameters


def _with_parameters(function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> Callable[..., Any]:
    """`function`, seen by Typer as one with these parameters."""
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    function.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined] # see PEP 362
    function.__annotations__ = {}
    return function
