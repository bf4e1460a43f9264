"""How verbs speak: data on stdout, everything else on stderr, and streams that survive closed pipes and odd locales.

Not here: what is said, and the error lines of `main()`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TextIO

from prlm_edge.errors import PrlmError

Update = Callable[[int, "int | None"], None]
_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}  # C0, DEL and C1
PROGRESS_DELAY_S = 0.4  # work that ends sooner shows no bar


def out(text: str = "", end: str = "\n") -> None:
    """Write data to stdout, flushed. On a terminal, control characters in it are shown, not obeyed.

    Raises:
        PrlmError: stdout is closed or its disk is full.
        BrokenPipeError: The reader went away; `main()` ends quietly.
    """
    if sys.stdout is not None and sys.stdout.isatty():
        text = printable(text, keep="\n\t")
    _to_stdout(text + end)


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> None:
    """Print rows of cells in columns as wide as need be, those of `right` flush right; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        out("  ".join(cells).rstrip())


def note(text: str, end: str = "\n") -> None:
    """Write a message to stderr."""
    _to_stderr(printable(text, keep="\n\t") + end)


def dim(text: str, end: str = "\n") -> None:
    """Write to stderr, dimmed where that is a terminal and NO_COLOR is unset."""
    text = printable(text, keep="\n\t")
    _to_stderr(f"\x1b[2m{text}\x1b[0m{end}" if text and _coloured(sys.stderr) else text + end)


def emit_json(obj: Any, *, indent: int | None = 2) -> None:
    """Write one JSON document to stdout; `indent=None` puts it on one line (for JSON lines).

    Dataclasses, mappings, sets, paths and NumPy scalars are handled. Non-ASCII stays as it is where stdout is UTF-8.
    """
    import json

    utf8 = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    text = json.dumps(obj, ensure_ascii=not utf8, indent=indent, default=_plain)
    # Lone surrogates (escapes that a profile's JSON may hold) can't be encoded, but JSON has a spelling for them.
    _to_stdout(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def printable(text: str, keep: str = "") -> str:
    """`text` with its control characters (but those in `keep`) as escapes, so that no file can drive a terminal."""
    return text.translate({code: escape for code, escape in _CONTROLS.items() if chr(code) not in keep})


def hush_libraries() -> None:
    """Keep what training's libraries advise developers of off the terminal."""
    import logging
    import warnings

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


@contextlib.contextmanager
def progress(label: str, unit: str = "items", *, at_once: bool = False) -> Iterator[Update]:
    """Yield `update(done, total)`, which draws a bar on stderr when that is a terminal, and does nothing otherwise.

    Args:
        label: What is going on, such as "pulling smollm2-135m".
        unit: What is counted; "bytes" is shown as MB with a rate.
        at_once: Draw from the first update on, for work that tells little before it is nearly done.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _no_update
        return
    bar = _Bar(label, unit, 0.0 if at_once else PROGRESS_DELAY_S)
    try:
        yield bar.update
    finally:
        bar.close()


def _no_update(done: int, total: int | None = None) -> None:
    """Progress that nobody watches."""


class _Bar:
    """A Rich bar that appears `delay_s` after its first update and vanishes at the end."""

    def __init__(self, label: str, unit: str, delay_s: float) -> None:
        self._label, self._unit, self._delay_s = label, unit, delay_s
        self._started = 0.0  # of the first update: what comes before is no work of this bar
        self._rich: Any = None
        self._task: Any = None

    def update(self, done: int, total: int | None = None) -> None:
        if self._rich is None:
            self._started = self._started or time.monotonic()
            if time.monotonic() - self._started < self._delay_s:
                return
            self._open()
        self._rich.update(self._task, completed=done, total=total)

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
        self._task = self._rich.add_task(printable(self._label), total=None)
        self._rich.start()

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()


def prepare_streams() -> None:
    """Make the standard streams safe to write to, whatever the locale and whatever the parent closed."""
    with contextlib.suppress(OSError):
        # A closed descriptor 0-2 would be given to the next file we open, and a library's output would land in it.
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Flush stdout now, so that a failure is reported by `main()` and not by the interpreter's shutdown."""
    if sys.stdout is not None:
        _to_stdout("")


def discard_stdout() -> None:
    """Point stdout at nothing, so that what is still buffered can't fail again at shutdown."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


def _to_stdout(text: str) -> None:
    if sys.stdout is None:
        raise PrlmError("standard output is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise PrlmError(f"standard output: {error.strerror}", "free some space, or write somewhere else") from error


def _to_stderr(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody is left to be told
            sys.stderr.write(text)
            sys.stderr.flush()


def _coloured(stream: TextIO | None) -> bool:
    if stream is None or not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return os.name != "nt" or "WT_SESSION" in os.environ  # the old Windows console shows escapes as text


def _plain(value: Any) -> Any:
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "__fspath__"):
        return os.fspath(value)
    if hasattr(value, "item"):  # a NumPy scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")
