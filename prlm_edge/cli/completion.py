"""`prlm-edge completion SHELL`: the script that makes the shell complete verbs, options and their values."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from prlm_edge.cli.shared import dispatch
from prlm_edge.cli.shared.options import new_app
from prlm_edge.cli.shared.table import PROG, VERBS

app = new_app()


@app.command(
    help=f"""{VERBS["completion"]}

\b
bash:        {PROG} completion bash >> ~/.bashrc
zsh:         {PROG} completion zsh >> ~/.zshrc        (after compinit)
fish:        {PROG} completion fish > ~/.config/fish/completions/{PROG}.fish
powershell:  {PROG} completion powershell >> $PROFILE
"""
)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish", "powershell"], typer.Argument(help="The shell you use.")],
) -> None:
    """Print the script of one shell."""
    raise typer.Exit(dispatch.complete(f"source_{shell}"))
