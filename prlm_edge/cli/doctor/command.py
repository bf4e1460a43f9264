"""`prlm-edge doctor`: one look at everything that `generate` depends on, with the command for whatever is wrong.

Not here: the checks themselves (`_checks*.py`), and mending anything.
"""

from __future__ import annotations

import platform
from itertools import groupby

import typer

from prlm_edge.cli import _version
from prlm_edge.cli.doctor import checks as _checks
from prlm_edge.cli.doctor import reward as _checks_reward
from prlm_edge.cli.doctor import system as _checks_system
from prlm_edge.cli.doctor.checks import Check
from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.options import ConfigFile, JsonFlag, new_app
from prlm_edge.cli.shared.table import PROG, VERBS
from prlm_edge.errors import MissingError

app = new_app()


@app.command(
    help=f"""{VERBS["doctor"].help}

Exit code 0 when `{PROG} generate` can run with the settings as they are, {MissingError.exit_code} when it can't.
Nothing is changed, and nothing touches the network.
"""
)
def doctor(config: ConfigFile = None, json: JsonFlag = False) -> None:
    """Run every check and report."""
    found, checks = _checks.check_settings(config)
    checks = [
        *_checks_system.check_packages(found),
        *_checks_system.check_machine(found),
        *_checks.check_models(found),
        _checks_reward.check_reward_model(found),
        *checks,
        *_checks.check_folders(),
    ]
    blocking = [check for check in checks if check.blocks]
    if json:
        _console.emit_json(
            {
                "version": _version(),
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
    _console.out(f"{PROG} {_version()}, Python {platform.python_version()}, {platform.platform()}")
    wide = max(len(check.name) for check in checks)
    for section, group in groupby(checks, key=lambda check: check.section):
        _console.out(f"\n{section}")
        for check in group:
            _console.out(f"  {check.state:<7}  {check.name:<{wide}}  {check.text}")
            if check.fix:
                _console.out(f"  {'':<7}  {'':<{wide}}  -> {check.fix}")
    if not blocking:
        _console.out("\ngenerate can run.")
        return
    _console.out("\ngenerate can't run yet. What mends it:")
    for fix in dict.fromkeys(check.fix for check in blocking):
        _console.out(f"  {fix}")
