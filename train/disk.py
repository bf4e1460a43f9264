"""A full or broken disk said in one line, whichever library hits upon it.

PyTorch, safetensors and tokenizers raise errors of their own where Python raises OSError. Not here: what is then still
whole (`run_folder.py`: a checkpoint counts once it is sealed).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prlm_edge.storage import write_error

_CODE = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)")  # Python's, in shutil.Error's list; Rust's
_OF_RUST = ("SafetensorError", "Exception")  # what safetensors and tokenizers raise, by name
_TORCH = ("inline_container", "PytorchStreamWriter")  # its archive writer, which keeps the cause to itself
_FULL_BYTES = 64 << 20  # with less than that free, the cause was no space: a checkpoint is larger


@contextmanager
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
