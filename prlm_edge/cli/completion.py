"""`prlm-edge completion SHELL`: the script that makes the shell complete verbs, options and their values.

Not here: answering the shell's requests (`_group.complete`), and editing anyone's shell start-up files.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from prlm_edge.cli import COMPLETE_VAR
from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.table import PROG, VERBS

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(
    help=f"""{VERBS["completion"].help}

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
    from typer._completion_shared import get_completion_script

    _console.out(get_completion_script(prog_name=PROG, complete_var=COMPLETE_VAR, shell=shell))
