"""How files are written so that nothing is lost: owner-only, whole or not at all.

`append_bytes` is one write and fsync; `atomic_write` is a temporary file, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from prlm_edge.errors import PrlmError
from prlm_edge.storage.folders import private_dir

LOCK_TIMEOUT_S = 30.0
_NO_LOCKS = "this file system has no locks: keep the file on a local disk, or mount the network disk with locks"
_CODE = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)")  # Python's, in shutil.Error's list; Rust's
_OF_RUST = ("SafetensorError", "Exception")  # what safetensors and tokenizers raise, by name
_TORCH = ("inline_container", "PytorchStreamWriter")  # its archive writer, which keeps the cause to itself
_FULL_BYTES = 64 << 20  # with less than that free, the cause was no space: a checkpoint is larger
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.tmp")  # as `atomic_write` names them


def is_own(status: os.stat_result, kind: Callable[[int], bool]) -> bool:
    """Whether a file or folder is of that kind (`stat.S_ISREG`, ...), this user's, and nobody else may write to it."""
    mine = not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)
    return mine and kind(status.st_mode)


def own_dir(path: Path) -> Path:
    """As `private_dir`, for a folder of the cache whose files are read or run without asking.

    Raises:
        PrlmError: It can't be made, or it is a symbolic link, another user's or writable by others.
    """
    try:
        private_dir(path)
        if not is_own(path.lstat(), stat.S_ISDIR):
            raise PermissionError(errno.EACCES, "is not this user's alone")
    except OSError as error:
        raise write_error(path, error) from error
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that guards `path` between processes (a hidden file next to it, since a rename replaces `path`).

    Raises:
        PrlmError: The lock is held for more than `LOCK_TIMEOUT_S` seconds, or can't be made.
    """
    import warnings

    import filelock  # 10 ms that only writing costs

    # On a file system without locks it takes a plain file for one instead; that is no news for the user.
    warnings.filterwarnings("ignore", category=UserWarning, module="filelock")
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
def atomic_write(
    path: Path, *, follow: bool = True, sync: bool = True, before_rename: Callable[[], None] = lambda: None
) -> Iterator[IO[bytes]]:
    """Open a temporary file next to `path` that replaces it when the block ends well; otherwise `path` is untouched.

    Args:
        path: The file; it is 0600 if it is new.
        follow: The user's own file: a symbolic link is followed and stays one, mode and (where allowed) owner are
            kept. Without it a link itself is replaced, and the file is this user's, 0600.
        sync: Wait until the disk has it. Without it a power failure may leave damaged content.
        before_rename: Called last; what it raises leaves `path` untouched.

    Raises:
        PrlmError: The disk is full, read-only or not writable.
    """
    import tempfile

    path = path.resolve() if follow else path
    temporary: str | None = None
    try:
        private_dir(path.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)  # 0600
        with os.fdopen(descriptor, "wb") as stream:
            if follow and path.exists():
                _look_like(Path(temporary), path.stat())
            yield stream
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        before_rename()
        Path(temporary).replace(path)
        temporary = None
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def _look_like(path: Path, status: os.stat_result) -> None:
    """Give a file the owner (where allowed) and the mode of another."""
    own = path.stat()
    if os.name == "posix" and (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        with contextlib.suppress(OSError):
            os.chown(path, status.st_uid, status.st_gid)
    path.chmod(stat.S_IMODE(status.st_mode))


def temporaries(folder: Path) -> dict[Path, str]:
    """The temporary files of `atomic_write` in a folder, and the name of the file that each was to replace."""
    found = {}
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if match := _TEMPORARY.fullmatch(path.name):
                found[path] = match["name"]
    return found


def clear_leftovers(path: Path) -> None:
    """Delete what killed calls of `atomic_write` for `path` have left; the caller holds `locked(path)`."""
    for left, name in temporaries(path.parent).items():
        if name == path.name:
            with contextlib.suppress(OSError):
                left.unlink()


def append_bytes(path: Path, data: bytes) -> None:
    """Append `data` in one write + fsync; the file is created 0600. A failed write is cut back to the old length.

    The caller holds `locked(path)` and closes a torn last line first.

    Raises:
        PrlmError: The disk is full, read-only or not writable; the file is then as it was.
    """
    try:
        private_dir(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                write_all(descriptor, data)
                os.fsync(descriptor)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise write_error(path, error) from error


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, in as many calls as the system needs."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_error(path: Path, error: OSError) -> PrlmError:
    """The one-line error for a failed write to `path`."""
    hints = {
        errno.ENOSPC: "free some space, then try again",
        errno.EROFS: "the disk is read-only: choose another place",
        errno.EACCES: "you may not write there: choose another place or mend its permissions",
        errno.EPERM: "you may not write there: choose another place or mend its permissions",
        errno.ENOLCK: _NO_LOCKS,
        errno.EOPNOTSUPP: _NO_LOCKS,
    }
    return PrlmError(f"{path}: {error.strerror or error}", hints.get(error.errno or 0, "nothing was changed"))


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What fails in the block because `folder` can't be written to is a PrlmError.

    Raises:
        PrlmError: The disk is full, read-only or not writable.
    """
    try:
        yield
    except Exception as error:
        code = _code(error, folder)
        if code:
            raise write_error(folder, OSError(code, os.strerror(code))) from error
        if isinstance(error, OSError):
            raise write_error(folder, error) from error
        raise


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `target` when the block ends well; otherwise `target` is untouched.

    A folder that is there already is replaced.

    Raises:
        PrlmError: As `writing`.
    """
    work = target.with_name(f".{target.name}.new")
    with writing(target.parent):
        try:
            shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
            yield private_dir(work)
            shutil.rmtree(target, ignore_errors=True)
            work.replace(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _code(error: Exception, folder: Path) -> int:
    """The system's number for it; 0 for what has none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    kind = type(error).__name__
    if (isinstance(error, OSError) or kind in _OF_RUST) and (found := _CODE.search(str(error))):
        return int(found[1] or found[2])
    if kind == "RuntimeError" and any(name in str(error) for name in _TORCH):
        return errno.ENOSPC if shutil.disk_usage(folder).free < _FULL_BYTES else errno.EIO
    return 0


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows can't open a folder for fsync
    with contextlib.suppress(OSError):  # the file is whole and in place; some file systems can't sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
