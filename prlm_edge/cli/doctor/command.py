"""`prlm-edge doctor`: one look at everything that `generate` depends on, with the command for whatever is wrong."""

from __future__ import annotations

import platform
from itertools import groupby

import typer

from prlm_edge.cli.doctor import models, system
from prlm_edge.cli.doctor.checks import Check, check_folders, check_settings
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, new_app
from prlm_edge.cli.shared.table import PROG, VERBS, version
from prlm_edge.errors import MissingError

app = new_app()


@app.command(
    help=f"""{VERBS["doctor"]}

Exit code 0 when `{PROG} generate` can run with the settings as they are, {MissingError.exit_code} when it can't.
Nothing is changed, and nothing touches the network.
"""
)
def doctor(config: ConfigFile = None, json: JsonFlag = False) -> None:
    """Run every check and report."""
    found, checks = check_settings(config)
    checks = [
        *system.check_engine(found),
        *system.check_packages(found),
        *system.check_machine(found),
        *models.check_models(found),
        models.check_reward_model(found),
        *checks,
        *check_folders(),
    ]
    blocking = [check for check in checks if check.blocks]
    if json:
        console.emit_json(
            {
                "version": version(),
                "python": platform.python_version(),
                "platform": platform.platform(),
                "generate": not blocking,
                "checks": checks,
            }
        )
    else:
        _print(checks, blocking)
    if blocking:
        raise typer.Exit(MissingError.exit_code)


def _print(checks: list[Check], blocking: list[Check]) -> None:
    console.out(f"{PROG} {version()}, Python {platform.python_version()}, {platform.platform()}")
    wide = max(len(check.name) for check in checks)
    for section, group in groupby(checks, key=lambda check: check.section):
        console.out(f"\n{section}")
        for check in group:
            console.out(f"  {check.state:<7}  {check.name:<{wide}}  {check.text}")
            if check.fix:
                console.out(f"  {'':<7}  {'':<{wide}}  -> {check.fix}")
    if not blocking:
        console.out("\ngenerate can run.")
        return
    console.out("\ngenerate can't run yet. What mends it:")
    for fix in dict.fromkeys(check.fix for check in blocking):
        console.out(f"  {fix}")
