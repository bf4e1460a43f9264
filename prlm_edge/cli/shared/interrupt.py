"""Ctrl-C that ends work in good order, and what is said of work that was stopped and can go on."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Iterator

import typer

from prlm_edge.cli.shared.console import is_first, note, several_processes
from prlm_edge.cli.shared.table import PROG
from prlm_edge.errors import EXIT_INTERRUPTED, EXIT_TERMINATED
from prlm_edge.types import Cancel


@contextlib.contextmanager
def cancel_on_interrupt(cancel: Cancel) -> Iterator[None]:
    """The first Ctrl-C ends the stream in good order; a second one ends the program.

    One of several processes is told twice, by the terminal and by their launcher, and waits for no third time.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # started in the background: Ctrl-C is not meant for us
        yield
        return

    def on_interrupt(*_: object) -> None:
        cancel.cancel()
        signal.signal(signal.SIGINT, signal.SIG_IGN if several_processes() else before)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def end_in_order() -> Iterator[None]:
    """On SIGTERM leave by SystemExit, so that child processes are ended and temporary files removed."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def on_terminate(*_: object) -> None:
        raise SystemExit(EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def command_line() -> str:
    """The command that this process runs, as it would be typed."""
    return shlex.join([PROG, *sys.argv[1:]])


def stopped() -> typer.Exit:
    """What a verb raises whose work was stopped and is kept; says how to go on."""
    if is_first():
        note("stopped; the same command goes on" + ("" if several_processes() else f": {command_line()}"))
    return typer.Exit(EXIT_INTERRUPTED)
