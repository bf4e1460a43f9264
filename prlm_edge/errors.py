"""The errors users meet: one line that says what happened, one that says what to do next, and an exit code.

Exit codes: 1 the work failed, 2 the request was wrong (usage, configuration, an unknown name), 3 data is damaged,
4 something must be installed or pulled first, 70 a bug in prlm-edge, 130 interrupted, 141 the reader of standard
output went away, 143 ended by SIGTERM.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
EXIT_TERMINATED = 143

BAD_DATA = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What reading a file's values raises where they are not of the form that is expected: any of these is damage.

Numbers too large for a float are among them, and values nested too deeply.
"""


class PrlmError(Exception):
    """Base of every error that prlm-edge raises on purpose.

    Args:
        message: What happened, one line, naming the file, line or option.
        hint: What to do next, one line; a command where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PrlmError):
    """A wrong option, value or name."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or environment variable that can't be used."""


class DataError(PrlmError):
    """A file that a run keeps (answers, votes, a training log) is damaged."""

    exit_code = 3


class ProfileError(PrlmError):
    """A profile that can't be read or written."""

    exit_code = 3


class ModelError(PrlmError):
    """A model file that is damaged, unsupported or failed to run."""

    exit_code = 3


class MissingError(PrlmError):
    """An optional package or a model that isn't there yet."""

    exit_code = 4


class BackendError(PrlmError):
    """A model server that didn't answer as expected."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that is spelled most like `word`, or begins with it; "" where none does."""
    from difflib import get_close_matches  # 3 ms that only an error needs

    names = list(known)
    close = get_close_matches(word, names, n=1) or [name for name in names if word and name.startswith(word)]
    return close[0] if close else ""


def did_you_mean(word: str, known: Iterable[str], rest: str = "") -> str:
    """A hint for a word that isn't one of `known`: "did you mean X?" where one is near, then `rest`."""
    near = nearest(word, known)
    return f"did you mean {near}? {rest}".rstrip() if near else rest


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters; the error's class where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def no_onnx(what: str) -> MissingError:
    """What to say where onnxruntime or tokenizers is missing, which `what` needs."""
    return MissingError(f"{what} needs onnxruntime and tokenizers", 'pip install "prlm-edge[onnx]"')
