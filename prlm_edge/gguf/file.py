"""A GGUF file that appears whole or not at all, whatever is written into it. Needs numpy and `gguf` alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge.storage import private_dir, write_error

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        raise write_error(target, error) from error
    finally:
        if writer is not None:
            with contextlib.suppress(OSError):  # what it holds back may not fit either
                writer.close()
        part.unlink(missing_ok=True)


def write_tensors(writer: Any, tensors: Iterable[NDArray[Any]]) -> None:
    """Metadata, the table of `add_tensor_info` and then `tensors`, which must come in its order.

    The writer itself uses numpy's `tofile`, which raises no error where the end of a small array finds no space.
    """
    import numpy as np

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    (stream,) = writer.fout
    writer.write_padding(stream, stream.tell())
    for tensor in tensors:
        stream.write(np.ascontiguousarray(tensor).data.cast("B"))
        writer.write_padding(stream, tensor.nbytes)
