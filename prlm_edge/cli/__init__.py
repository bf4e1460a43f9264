"""The `prlm-edge` command: dispatch to a verb, and one place where every error becomes a line and an exit code.

Each verb is a module or a folder, imported only when asked for. `--help` and `--version` are answered without Typer.
The exit codes are those of `prlm_edge.errors`; a wrong command line, or none at all, is 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType


def _say_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As Python does, but for Ctrl-C while the program is still being loaded, of which nothing need be said."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _say_uncaught  # before the other imports

from prlm_edge.cli.shared import console, table  # noqa: E402
from prlm_edge.errors import (  # noqa: E402
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_PIPE,
    PrlmError,
    UsageError,
    did_you_mean,
    first_line,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `prlm-edge` with `argv` (default: the process's own arguments) and return the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    console.prepare_streams()
    try:
        code = _dispatch(args)
        console.flush()
        return code
    except BrokenPipeError:
        console.discard_stdout()
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
        what = f"{type(error).__name__}: {first_line(error)}"
        return _fail(what, "this is a bug; run again with PRLM_DEBUG=1 for the traceback", EXIT_BUG)


def _dispatch(args: list[str]) -> int:
    if asked := os.environ.get(table.COMPLETE_VAR):
        from prlm_edge.cli.shared import dispatch

        return dispatch.complete(asked)
    first = args[0] if args else None
    if first is None:
        console.note(table.help_text())
        return 2  # a script that forgot its verb has failed
    if first in ("-h", "--help"):
        console.out(table.help_text())
        return 0
    if first == "--version":
        console.out(f"{table.PROG} {table.version()}")
        return 0
    if first.startswith("-"):
        raise UsageError(f"no such option: {first}", f"'{table.PROG} --help' shows the options")
    if first not in table.VERBS:
        hint = did_you_mean(first, table.VERBS, f"'{table.PROG} --help' lists the commands")
        raise UsageError(f"no command {first!r}", hint)
    from prlm_edge.cli.shared import dispatch

    return dispatch.run(args)


def _fail(message: str, hint: str, code: int) -> int:
    console.note(f"{table.PROG}: {console.printable(message)}")
    if hint:
        console.note(f"  {console.printable(hint)}")
    return code


def _debug_traceback() -> bool:
    """Print the traceback if PRLM_DEBUG asks for it; says whether it did."""
    if os.environ.get("PRLM_DEBUG", "") in ("", "0"):
        return False
    import traceback

    console.note(traceback.format_exc().rstrip())
    return True
