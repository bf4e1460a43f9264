"""Where files live, and how they are written so that nothing is lost: owner-only, whole or not at all.

Durability: `append_line` is one locked write + fsync; `atomic_write` is temp file, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import platformdirs

from prlm_edge.errors import PrlmError

LOCK_TIMEOUT_S = 30.0


def _folder(kind: str) -> Path:
    home = os.environ.get("PRLM_HOME")
    if home:
        return Path(home).expanduser() / kind
    paths = {
        "data": platformdirs.user_data_path,
        "config": platformdirs.user_config_path,
        "cache": platformdirs.user_cache_path,
    }
    return paths[kind]("prlm-edge", appauthor=False)


def data_dir() -> Path:
    """Folder of models and other things worth keeping (not created). `PRLM_HOME` moves all three folders."""
    return _folder("data")


def config_dir() -> Path:
    """Folder of the user's config.toml and own tasks (not created)."""
    return _folder("config")


def cache_dir() -> Path:
    """Folder of what can be rebuilt: retrieval indexes (not created)."""
    return _folder("cache")


def private_dir(path: Path) -> Path:
    """Create `path` and its missing parents, readable by the owner alone (0700); returns it."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that guards `path` between processes (a hidden file beside it, since a rename replaces `path`).

    Raises:
        PrlmError: The lock is held for more than `LOCK_TIMEOUT_S` seconds, or can't be made.
    """
    import filelock  # 10 ms that only writing costs

    path = path.resolve()
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_TIMEOUT_S, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise PrlmError(
            f"{path}: another process has been writing it for {LOCK_TIMEOUT_S:.0f} s",
            "wait for it to end, then try again",
        ) from None
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that replaces it when the block ends well; otherwise `path` is untouched.

    A symbolic link is followed, so the link stays one. The new file is 0600, or keeps the mode of the one it replaces.

    Raises:
        PrlmError: The disk is full, read-only or not writable.
    """
    import tempfile

    path = path.resolve()
    temporary: str | None = None
    try:
        private_dir(path.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            if path.exists():
                Path(temporary).chmod(path.stat().st_mode & 0o7777)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def append_bytes(path: Path, data: bytes) -> None:
    """Append `data` in one write + fsync; the file is created 0600. A failed write is cut back to the old length.

    The caller holds `locked(path)` and sees to it that a torn last line is closed first.

    Raises:
        PrlmError: The disk is full, read-only or not writable; the file is then as it was.
    """
    try:
        private_dir(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> PrlmError:
    """The one-line error for a failed write to `path`."""
    hints = {
        errno.ENOSPC: "free some space, then try again",
        errno.EROFS: "the disk is read-only: choose another place",
        errno.EACCES: "you may not write there: choose another place or mend its permissions",
        errno.EPERM: "you may not write there: choose another place or mend its permissions",
    }
    return PrlmError(f"{path}: {error.strerror or error}", hints.get(error.errno or 0, "nothing was changed"))


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows can't open a folder for fsync
    with contextlib.suppress(OSError):  # the file is whole and in place; some file systems can't sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
