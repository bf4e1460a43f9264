"""The terminal that the program runs on, whatever its standard input and output are: shows text, reads single keys.

So one can choose by a key while a diff is piped in and the answer is read by a shell.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prlm_edge.cli.shared.console import printable
from prlm_edge.errors import UsageError

END = "\x04"  # the key that stands for the end of a terminal, too
_ESCAPE = "\x1b"
_SEQUENCE_S = 0.05  # in which the rest of an arrow key follows its escape


class Terminal:
    """A terminal, opened for reading and writing; `open_terminal` makes one."""

    def __init__(self, keys: int, screen: int) -> None:
        self._keys, self._screen = keys, screen  # descriptors

    def say(self, text: str) -> None:
        """Show `text`, its control characters as escapes."""
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        os.write(self._screen, printable(text, keep="\n\t").encode(encoding, "backslashreplace"))

    def key(self) -> str:
        """Wait for a key; "" for one that is no single ASCII character, such as an arrow, and `END` where no more come.

        Raises:
            KeyboardInterrupt: Ctrl-C.
        """
        if sys.platform == "win32":
            import msvcrt

            key = msvcrt.getwch()
            if key in ("\x00", "\xe0"):  # the first half of an arrow or a function key
                msvcrt.getwch()
                return ""
            if key == "\x03":
                raise KeyboardInterrupt
            return key
        import select
        import termios
        import tty

        before = termios.tcgetattr(self._keys)
        try:
            tty.setcbreak(self._keys, termios.TCSADRAIN)  # what was typed already counts
            byte = os.read(self._keys, 1)
            key = byte.decode("ascii", "ignore") if byte else END  # it was closed
            if key == _ESCAPE and select.select([self._keys], [], [], _SEQUENCE_S)[0]:
                os.read(self._keys, 16)
                return ""
            return key
        finally:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, before)

    def edit(self, text: str) -> str | None:
        """`text` as the user changes it: one line in place where that is possible, else in $VISUAL or $EDITOR.

        None where they give up.
        """
        with self._as_standard():
            try:
                if "\n" not in text and sys.platform != "win32":
                    return _edited_in_line(text)
                return _edited_in_editor(text)
            except ImportError:  # a Python without readline
                return _edited_in_editor(text)
            except (EOFError, KeyboardInterrupt):
                self.say("\n")
                return None

    @contextlib.contextmanager
    def _as_standard(self) -> Iterator[None]:
        """Let standard input and output be the terminal, for libraries and programs that know these alone."""
        if sys.stdout is not None:
            sys.stdout.flush()
        kept = [os.dup(0), os.dup(1)]
        try:
            os.dup2(self._keys, 0)
            os.dup2(self._screen, 1)
            yield
        finally:
            for number, descriptor in enumerate(kept):
                os.dup2(descriptor, number)
                os.close(descriptor)


@contextlib.contextmanager
def open_terminal(option: str) -> Iterator[Terminal]:
    """The terminal of this process.

    Raises:
        UsageError: There is none; the message names `option`, which needs it.
    """
    keys, screen = ("CONIN$", "CONOUT$") if sys.platform == "win32" else ("/dev/tty", "/dev/tty")
    with contextlib.ExitStack() as opened:
        try:
            descriptors = [os.open(name, os.O_RDWR) for name in (keys, screen)]
        except OSError:
            raise UsageError(
                f"{option} needs a terminal to ask on, and there is none", "leave it out: -n 4 prints the answers"
            ) from None
        for descriptor in descriptors:
            opened.callback(os.close, descriptor)
        yield Terminal(*descriptors)


def _edited_in_line(text: str) -> str:
    import readline

    def prefill() -> None:
        readline.insert_text(text)
        readline.redisplay()

    readline.set_pre_input_hook(prefill)
    try:
        return input("> ")
    finally:
        readline.set_pre_input_hook(None)


def _edited_in_editor(text: str) -> str | None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")
    with tempfile.TemporaryDirectory() as folder:  # readable by its owner alone
        path = Path(folder) / "answer.txt"
        path.write_text(text + "\n", "utf-8")
        try:
            done = subprocess.run([*shlex.split(editor, posix=os.name != "nt"), str(path)], check=False)
        except OSError as error:
            raise UsageError(f"{editor}: {error.strerror}", "name an editor in the variable EDITOR") from None
        return path.read_text("utf-8", "replace") if done.returncode == 0 else None
