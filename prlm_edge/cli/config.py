"""`prlm-edge config`: show the settings in force and where each comes from, and edit the user's config.toml."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from prlm_edge import settings, storage
from prlm_edge.cli.shared import console, toml_edit
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, completes, new_app
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import ConfigError, UsageError

app = new_app(help=VERBS["config"], no_args_is_help=True)

SECRET = "(set, not shown)"  # noqa: S105 - the opposite of a secret


def _complete_key(incomplete: str) -> list[tuple[str, str]]:
    return [(key, spec.about) for key, spec in settings.KEYS.items() if key.startswith(incomplete)]


def _complete_value(ctx: typer.Context, incomplete: str) -> list[str]:
    spec = settings.KEYS.get(str(ctx.params.get("key")))
    return completes(spec.choices)(incomplete) if spec else []


KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="A setting; `config show` lists them.", autocompletion=_complete_key)
]
ValueArgument = Annotated[str, typer.Argument(metavar="VALUE", help="Its new value.", autocompletion=_complete_value)]


@app.command()
def show(config: ConfigFile = None, json: JsonFlag = False) -> None:
    """Show every setting, its value and where that comes from.

    Strongest first: flag, PRLM_* environment variable, --config file, your config.toml, default.
    """
    found = settings.load_settings(config=config)
    values = {key: getattr(found, key) for key in settings.KEYS}
    values |= {key: SECRET for key, spec in settings.KEYS.items() if spec.secret and values[key]}
    if json:
        console.emit_json({key: {"value": value, "origin": found.origins[key]} for key, value in values.items()})
        return
    shown = {key: "-" if value is None else toml_edit.literal(value) for key, value in values.items()}
    wide, wider = max(map(len, shown)), min(32, max(map(len, shown.values())))
    for key, text in shown.items():
        console.out(f"{key:<{wide}}  {text:<{wider}}  {found.origins[key]}")


@app.command()
def path() -> None:
    """Print where your config.toml is, or would be."""
    console.out(str(settings.config_path()))


@app.command(name="set", context_settings={"ignore_unknown_options": True})
def set_(key: KeyArgument, value: ValueArgument) -> None:
    """Set KEY to VALUE in your config.toml; its comments stay.

    A relative file name is stored as an absolute one.
    """
    settings.known_key(key, "config set")
    checked = settings.check(key, settings.parse(key, value, key), key)
    if checked is None:
        raise UsageError(f"{key}: may not be empty", f"`prlm-edge config unset {key}` removes it")
    if isinstance(checked, str) and (settings.is_path(key, checked) or (key == "model" and checked.endswith(".gguf"))):
        checked = str(storage.expanded(checked).absolute())
    _edit(lambda text: toml_edit.set_key(text, key, checked))
    shown = SECRET if settings.KEYS[key].secret else toml_edit.literal(checked)
    console.note(f"{key} = {shown}  in {settings.config_path()}")
    variable = settings.ENV_PREFIX + key.upper()
    if os.environ.get(variable):
        console.note(f"{variable} in the environment is stronger and still in force")


@app.command()
def unset(key: KeyArgument) -> None:
    """Remove KEY from your config.toml: the default is in force again."""
    settings.known_key(key, "config unset")
    file = settings.config_path()
    if not file.exists() or key not in settings.read_config(file):
        console.note(f"{key} is not set in {file}")
        return
    _edit(lambda text: toml_edit.unset_key(text, key))
    console.note(f"{key} removed from {file}")


@app.command()
def init() -> None:
    """Write an example config.toml with every setting, commented out. Never overwrites one."""
    file = settings.config_path()
    storage.private_dir(file.parent)
    with storage.locked(file):
        if file.exists():
            raise UsageError(f"{file}: exists already", "`prlm-edge config set KEY VALUE` changes it")
        with storage.atomic_write(file) as stream:
            stream.write(example().encode())
    console.note(f"wrote {file}")


def example() -> str:
    """A config.toml in which every setting is explained and commented out."""
    lines = [
        "# Settings of prlm-edge. Remove the # before a line to change it.",
        "# Stronger than this file: --config FILE, PRLM_* variables (PRLM_K=6), and flags.",
        "",
    ]
    for key, spec in settings.KEYS.items():
        default = settings.DEFAULTS[key]
        choices = f" ({', '.join(spec.choices)})" if spec.choices else ""
        lines += [
            f"# {spec.about}{choices}",
            f"# {key} = {toml_edit.literal(spec.example if default is None else default)}",
            "",
        ]
    return "\n".join(lines)


def _edit(change: Callable[[str], str]) -> None:
    """Rewrite the user's config.toml, under its lock: `change` makes the new text from the old one."""
    file = settings.config_path()
    storage.private_dir(file.parent)
    with storage.locked(file):
        text = ""
        if file.exists():
            settings.read_config(file)  # says what is wrong with a file that can't be parsed
            text = file.read_bytes().decode("utf-8-sig")
        try:
            after = change(text)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error.message}", error.hint) from error
        with storage.atomic_write(file) as stream:
            stream.write(after.encode())
