"""The `prlm-edge` command: dispatch to a verb, and one place where every error becomes a line and an exit code.

Not here: the verbs (one module each, imported only when asked for) and their options. `--help` and `--version` are
answered from `_table.py` without importing Typer.

Exit codes: those of `prlm_edge.errors`, and 2 for a wrong command line (also for none at all), 70 for a bug in
prlm-edge, 130 for Ctrl-C, 141 when the reader of standard output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared import table as _table
from prlm_edge.errors import PrlmError, UsageError, nearest

EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
COMPLETE_VAR = "_PRLM_EDGE_COMPLETE"  # what the completion scripts set


def main(argv: Sequence[str] | None = None) -> int:
    """Run `prlm-edge` with `argv` (default: the process's own arguments) and return the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    _console.prepare_streams()
    try:
        code = _dispatch(args)
        _console.flush()
    except BrokenPipeError:
        _console.discard_stdout()
        return EXIT_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except PrlmError as error:
        _debug_traceback()
        return _fail(error.message, error.hint, error.exit_code)
    except OSError as error:  # a path, a permission or a disk: the machine's state and no bug
        _debug_traceback()
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or error}", "check the path, its permissions and the free space", 1)
    except MemoryError:
        _debug_traceback()
        return _fail("out of memory", "use a smaller model, a smaller --n-ctx or fewer items (-k)", 1)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never sees a traceback unasked
        if _debug_traceback():
            return EXIT_BUG
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(what, "this is a bug; run again with PRLM_DEBUG=1 for the traceback", EXIT_BUG)
    return code


def _dispatch(args: list[str]) -> int:
    if os.environ.get(COMPLETE_VAR):
        from prlm_edge.cli.shared import group as _group

        return _group.complete(COMPLETE_VAR)
    first = args[0] if args else None
    if first is None:
        _console.note(_table.help_text())
        return 2  # as Click does: a script that forgot its verb has failed
    if first in ("-h", "--help"):
        _console.out(_table.help_text())
        return 0
    if first == "--version":
        _console.out(f"{_table.PROG} {_version()}")
        return 0
    if not first.startswith("-") and first not in _table.VERBS:
        raise _unknown(first)
    from prlm_edge.cli.shared import group as _group

    return _group.run(args)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(_table.PROG)
    except PackageNotFoundError:  # a source tree that is only on PYTHONPATH
        return "(not installed)"


def _unknown(verb: str) -> UsageError:
    close = nearest(verb, _table.VERBS) or next((v for v in _table.VERBS if v.startswith(verb)), "")
    hint = f"did you mean '{_table.PROG} {close}'?" if close else f"'{_table.PROG} --help' lists the commands"
    return UsageError(f"no command {verb!r}", hint)


def _fail(message: str, hint: str, code: int) -> int:
    _console.note(f"{_table.PROG}: {_console.printable(message)}")
    if hint:
        _console.note(f"  {_console.printable(hint)}")
    return code


def _debug_traceback() -> bool:
    """Print the traceback if PRLM_DEBUG asks for it; says whether it did."""
    if os.environ.get("PRLM_DEBUG", "") in ("", "0"):
        return False
    import traceback

    _console.note(traceback.format_exc().rstrip())
    return True
