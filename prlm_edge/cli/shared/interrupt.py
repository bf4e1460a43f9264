"""Ctrl-C that ends work in good order. Not here: the exit code (`cli/__init__.py`)."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from prlm_edge.types import Cancel


@contextlib.contextmanager
def cancel_on_interrupt(cancel: Cancel) -> Iterator[None]:
    """The first Ctrl-C ends the stream in good order; a second one ends the program."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # started in the background: Ctrl-C is not meant for us
        yield
        return

    def on_interrupt(*_: object) -> None:
        cancel.cancel()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
