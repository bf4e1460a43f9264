"""A GGUF file that appears whole or not at all, whatever is written into it. Needs numpy and `gguf` alone."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prlm_edge.storage import private_dir, write_error

_TORN = re.compile(r"\d+ requested and \d+ written")  # numpy's tofile keeps the system's reason to itself
_FULL_BYTES = 64 << 20  # with less than that free, the reason was no space


@contextmanager
def new_file(target: Path, architecture: str) -> Iterator[Any]:
    """A `gguf.GGUFWriter`; when the block ends well, what it wrote is on disk as `target`.

    Raises:
        PrlmError: The disk is full or not writable.
    """
    import gguf

    part = target.with_name(f".{target.name}.part")  # the writer wants a path of its own
    writer = None
    try:
        private_dir(target.parent)
        writer = gguf.GGUFWriter(part, architecture)
        yield writer
        writer.close()
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
    except OSError as error:
        raise write_error(target, _with_reason(error, target.parent)) from error
    finally:
        if writer is not None:
            with contextlib.suppress(OSError):  # what it holds back may not fit either
                writer.close()
        part.unlink(missing_ok=True)


def write_head(writer: Any) -> None:
    """Header, metadata and the tensors' table; the tensors' data must follow by `write_tensor_data`, in order."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _with_reason(error: OSError, folder: Path) -> OSError:
    if error.errno or not _TORN.search(str(error)):
        return error
    code = errno.ENOSPC if shutil.disk_usage(folder).free < _FULL_BYTES else errno.EIO
    return OSError(code, os.strerror(code))
