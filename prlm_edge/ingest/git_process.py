"""Running git so that a repository can't run anything back: fixed argv, no shell, no hooks, no network."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from prlm_edge.errors import MissingError, PrlmError, UsageError

_CHUNK_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 20
_SAFE = (
    "--no-pager",
    "--no-replace-objects",
    "-c",
    "protocol.allow=never",  # a partial clone must not fetch what it lacks
    "-c",
    "core.fsmonitor=false",
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "core.attributesFile=",
    "-c",
    "log.showSignature=false",
    "-c",
    "log.showRoot=true",
    "-c",
    "diff.renames=true",
    "-c",
    "core.quotePath=false",
    "-c",
    "i18n.logOutputEncoding=UTF-8",
    "-c",
    "diff.submodule=short",
)
_KEPT_VARIABLES = frozenset(
    {
        "GIT_EXEC_PATH",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CEILING_DIRECTORIES",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    }
)
DIFF_FLAGS = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-relative")


class PartialCloneError(UsageError):
    """A partial clone lacks an object that was asked for."""


def git(repo: Path, args: Sequence[str], *, ok: tuple[int, ...] = (0,)) -> str:
    """The output of `git -C repo args`, stripped.

    Raises:
        PrlmError: git fails; the message is its own first line.
        MissingError: git isn't installed.
    """
    try:
        done = subprocess.run(
            _argv(repo, args), env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise _no_git() from None
    if done.returncode not in ok:
        raise _failure(repo, done.stderr)
    return done.stdout.decode("utf-8", "replace").strip()


def git_lines(repo: Path, args: Sequence[str], lines: Iterable[str] = ()) -> Iterator[str]:
    """Yield the lines that `git -C repo args` writes, fed with `lines` on stdin. Of a line a MiB is read.

    Raises:
        PrlmError: git fails.
        MissingError: git isn't installed.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        # Files, not pipes, so that neither side ever waits for the other.
        stdin.write("".join(f"{line}\n" for line in lines).encode())
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                _argv(repo, args), env=_environment(), stdin=stdin, stdout=subprocess.PIPE, stderr=stderr
            )
        except FileNotFoundError:
            raise _no_git() from None
        try:
            assert process.stdout is not None
            rest = bytearray()
            while chunk := process.stdout.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
                first, *others = chunk.split(b"\n")
                if len(rest) < _MAX_LINE_BYTES:
                    rest += first
                if others:
                    yield rest.decode("utf-8", "replace")
                    yield from (part.decode("utf-8", "replace") for part in others[:-1])
                    rest = bytearray(others[-1])
            if rest:
                yield rest.decode("utf-8", "replace")
            if process.wait() != 0:
                stderr.seek(0)
                raise _failure(repo, stderr.read())
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _argv(repo: Path, args: Sequence[str]) -> list[str]:
    return ["git", "-C", os.fspath(repo), *_SAFE, *args]


def _environment() -> dict[str, str]:
    """Ours, in English, without what would point git elsewhere (a hook's GIT_DIR wins over -C)."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in _KEPT_VARIABLES}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}


def _no_git() -> MissingError:
    return MissingError("git is not installed", "install git, then try again")


def _failure(repo: Path, stderr: bytes) -> PrlmError:
    lines = stderr.decode("utf-8", "replace").strip().splitlines() or ["git failed"]
    message = next((line for line in lines if line.startswith("fatal: ")), lines[0]).removeprefix("fatal: ")
    if any("promisor remote" in line or "lazy fetching" in line for line in lines):
        return PartialCloneError(
            f"{repo}: a partial clone (--filter) that lacks what its history changed",
            f"get the rest: git -C {repo} fetch --refetch --no-filter",
        )
    if "dubious ownership" in message:
        return UsageError(
            f"{repo}: belongs to another user, so git refuses to read it",
            f"trust it: git config --global --add safe.directory {repo.resolve()}",
        )
    if "not a git repository" in message:
        return UsageError(f"{repo}: not a git repository", "name a folder inside one")
    if "bad revision 'HEAD'" in message:
        return UsageError(f"{repo}: no commits yet", "commit something first")
    if "bad revision" in message:
        return UsageError(f"{repo}: {message}", "name a branch, a tag or a range")
    return PrlmError(f"git: {message}", "run git log there to see more")
