"""Progress on stderr: a bar where that is a terminal, else nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from prlm_edge.cli.shared.console import is_first, printable

DELAY_S = 0.4  # work that ends sooner shows no bar


class Update(Protocol):
    """Shows how much of `total` is done (None: unknown), and from now on `text` next to the bar."""

    def __call__(self, done: int, total: int | None = None, text: str = "", /) -> None:
        """Draw it."""


@contextlib.contextmanager
def progress(label: str, unit: str = "items", *, at_once: bool = False) -> Iterator[Update]:
    """Yield what draws a bar on stderr where that is a terminal; the bar vanishes at the end.

    Args:
        label: What is going on, such as "pulling smollm2-135m".
        unit: What is counted; "bytes" is shown as MB with a rate.
        at_once: Draw from the first update on, for work with few updates before its end.
    """
    if not can_draw():
        yield no_update
        return
    bar = _Bar(label, unit, 0.0 if at_once else DELAY_S)
    try:
        yield bar.update
    finally:
        bar.close()


def no_update(_done: int, _total: int | None = None, _text: str = "", /) -> None:
    """Draw nothing."""


def can_draw() -> bool:
    """Whether stderr is a terminal on which a line can be drawn over, and no other process draws there."""
    return is_first() and sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Bar:
    """A Rich bar that appears `delay_s` after its first update."""

    def __init__(self, label: str, unit: str, delay_s: float) -> None:
        self._label, self._unit, self._delay_s = printable(label), unit, delay_s
        self._started = 0.0  # at the first update: what comes before is another's work
        self._rich: Any = None
        self._task: Any = None

    def update(self, done: int, total: int | None = None, text: str = "", /) -> None:
        if self._rich is None:
            self._started = self._started or time.monotonic()
            if time.monotonic() - self._started < self._delay_s:
                return
            self._open()
        self._rich.update(self._task, completed=done, total=total, description=printable(text) or self._label)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        counted = (
            [DownloadColumn(), TransferSpeedColumn()]
            if self._unit == "bytes"
            else [MofNCompleteColumn(), TextColumn(self._unit)]
        )
        self._rich = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *counted,
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._rich.add_task(self._label, total=None)
        self._rich.start()

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()
