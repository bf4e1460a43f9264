"""Option types that several verbs share, so that the same flag reads the same everywhere.

Not here: options of a single verb.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A TOML file stronger than your config.toml.")
]


def new_app(**kwargs: Any) -> typer.Typer:
    """A Typer app with plain help, no Rich tracebacks and no `--install-completion` (see `prlm-edge completion`)."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **kwargs,
    )
