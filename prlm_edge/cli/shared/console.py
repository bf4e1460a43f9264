"""How verbs speak and listen: data on stdout, all else on stderr, in streams that survive closed pipes and odd locales.

Progress bars are in `progress.py`, the lines of an error in `prlm_edge.cli`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TextIO

from prlm_edge.errors import PrlmError, UsageError
from prlm_edge.ingest.common import decode

# What drives a terminal or deceives its reader: C0, DEL, C1, line separators, zero widths, directions. The joiners of
# emoji and of Persian and Indic words stay.
_HIDDEN = (0x200B, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), *_HIDDEN)}
_JSON_ESCAPES = {
    code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *_HIDDEN)
}  # json.dumps leaves them as they are


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
    rows = [[one_line(cell) for cell in row] for row in rows]
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
    text = text.translate(_JSON_ESCAPES)
    # Lone surrogates (escapes that a profile's JSON may hold) can't be encoded, but JSON has a spelling for them.
    _to_stdout(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def printable(text: str, keep: str = "") -> str:
    """`text` with its control characters (but those in `keep`) as escapes, so that no file can drive a terminal."""
    return text.translate({code: escape for code, escape in _CONTROLS.items() if chr(code) not in keep})


def one_line(text: str, most: int = 500) -> str:
    """The beginning of `text` on one line, for lists: no line break of it can forge another row."""
    return printable(" ".join(text[:most].split()))


def count(n: int, noun: str) -> str:
    """A number with its noun: "1 item", "2,000 items"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def clip(line: str) -> str:
    """`line`, cut to the width of the terminal where stdout is one."""
    if sys.stdout is None or not sys.stdout.isatty():
        return line
    import shutil  # only here: `--help` has no need of it

    width = shutil.get_terminal_size().columns
    return line if len(line) <= width else line[: width - 1] + "…"


def words_or_stdin(words: Sequence[str]) -> str:
    """What a verb was given as words; "-" among them stands for what is piped in, on lines of its own."""
    piped = stdin_text(errors="replace").strip() if "-" in words else ""
    parts = [piped if word == "-" else word for word in words]
    return ("\n" if piped else " ").join(part for part in parts if part).strip()


def stdin_text(*, errors: str = "strict") -> str:
    """Standard input as text: UTF-8, or UTF-16 where it begins like it.

    Args:
        errors: What becomes of bytes that are no text, as in `bytes.decode`.

    Raises:
        UsageError: It is no text.
    """
    try:
        return decode(sys.stdin.buffer.read(), errors)
    except ValueError as error:
        raise UsageError(f"standard input: {error}", "pipe text in UTF-8") from None


def several_processes() -> bool:
    """Whether this is one of several processes that train together, as `accelerate launch` starts them."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_first() -> bool:
    """Whether this process speaks: of several that train together the first one alone does."""
    return os.environ.get("RANK", "0") == "0"


def confirm(question: str, *, yes: bool, details: Sequence[str] = ()) -> None:
    """Ask before something is deleted, unless `yes`; `details` are shown above the question.

    Raises:
        UsageError: There is nobody to ask.
        PrlmError: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask", "add --yes to go on without asking")
    for line in details:
        note(line)
    import typer

    if not typer.confirm(question, err=True):
        raise PrlmError("nothing was removed")


def hush_libraries() -> None:
    """Silence the advice for developers that training's libraries print."""
    import logging
    import warnings

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def prepare_streams() -> None:
    """Make the standard streams safe to write to, whatever the locale and whatever the parent closed."""
    with contextlib.suppress(OSError):
        # A closed descriptor 0-2 would be given to the next file we open, and a library's output would land in it.
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    if sys.stdin is None:  # it was closed: as good as empty
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
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
        with contextlib.suppress(OSError):  # nobody reads it any more
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
