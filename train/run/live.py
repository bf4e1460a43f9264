"""A run in the terminal: one line that renews itself where stderr is a terminal, else a plain line every few steps.

Not here: the figures (`run_log.py`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO

from prlm_edge.train.run.log import Record
from prlm_edge.train.run.watch import Watcher


def make_view(every: int = 10, stream: TextIO | None = None) -> Watcher:
    """The view that fits `stream` (stderr): a status line, or plain lines every `every` logged steps."""
    stream = stream if stream is not None else sys.stderr
    if stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb":
        return StatusLine(stream)
    return PlainLines(every, stream)


def status(record: Record, n_steps: int) -> str:
    """One line for people, such as "step 12/200  reward 1.90 (accuracy 0.91, format 0.99)  kl 0.004  eta 0:12:03"."""
    parts = [f"step {record['step']}" + (f"/{n_steps}" if n_steps > 0 else "")]
    if "reward" in record:
        terms = ", ".join(f"{name} {value:.2f}" for name, value in record.get("terms", {}).items())
        parts.append(f"reward {record['reward']:.2f}" + (f" ({terms})" if terms else ""))
    elif "loss" in record:
        parts.append(f"loss {record['loss']:.3f}")
    shown = (
        ("kl", "kl {:.4f}"),
        ("entropy", "entropy {:.2f}"),
        ("zero_variance", "no variance {:.0%}"),
        ("truncated", "cut off {:.0%}"),
        ("tokens_per_s", "{:.0f} tokens/s"),
        ("memory_mb", "{:.0f} MB"),
    )
    parts += [form.format(record[key]) for key, form in shown if key in record]
    if "eta_s" in record:
        parts.append(f"eta {_clock(record['eta_s'])}")
    return "".join(c if c.isprintable() else "?" for c in "  ".join(parts))


class PlainLines:
    """A line at the first logged step, at every `every`th and at the last."""

    def __init__(self, every: int, stream: TextIO | None) -> None:
        self._every, self._stream, self._n = max(1, every), stream, 0

    def step(self, record: Record, n_steps: int) -> None:
        """See `Watcher`."""
        self._n += 1
        if self._stream is not None and (self._n == 1 or self._n % self._every == 0 or record["step"] == n_steps):
            with contextlib.suppress(OSError):  # nobody is left to be told
                self._stream.write(status(record, n_steps) + "\n")
                self._stream.flush()

    def close(self) -> None:
        """See `Watcher`."""


class StatusLine:
    """A Rich bar with the newest figures; it vanishes at the end and leaves the last line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, ""
        self._bar: Any = None
        self._task: Any = None

    def step(self, record: Record, n_steps: int) -> None:
        """See `Watcher`."""
        if self._bar is None:
            self._open()
        self._last = status(record, n_steps)
        self._bar.update(self._task, completed=record["step"], total=n_steps or None, description=self._last)

    def close(self) -> None:
        """See `Watcher`."""
        if self._bar is None:
            return
        self._bar.stop()
        self._bar = None
        with contextlib.suppress(OSError):
            self._stream.write(self._last + "\n")
            self._stream.flush()

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            BarColumn(12),
            TextColumn("{task.description}", markup=False),
            console=Console(file=self._stream),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=None)
        self._bar.start()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
