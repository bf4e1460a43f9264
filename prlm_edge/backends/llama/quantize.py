"""llama.cpp's own quantizer, in this process: writes a GGUF file in another format."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from prlm_edge.backends.llama import lib as llama_lib

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: llama_ftype by our names.
FTYPES = {"f16": 1, "q8_0": 7, "q4_0": 2, "q4_k_m": 15, "q5_k_m": 17}


def convert(
    source: Path,
    made: Path,
    quant: str,
    *,
    imatrix: Mapping[str, NDArray[np.float32]] | None = None,
    requantize: bool = False,
    n_threads: int = 0,
) -> str:
    """Write `source` as `made`, on disk when it returns; "" where that worked, else why not.

    Args:
        source: A GGUF file.
        made: The new one.
        quant: One of `FTYPES`.
        imatrix: Importance of input columns by tensor name.
        requantize: Take a source in few bits too.
        n_threads: Threads; 0 leaves it to llama.cpp.

    Raises:
        MissingError: llama-cpp-python isn't installed.
        OSError: `made` can't be read back.
    """
    lib = llama_lib.load()
    llama_lib.last_errors.clear()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = FTYPES[quant], requantize, n_threads
    importances = _importances(lib, imatrix or {})
    if importances is not None:
        params.imatrix = ctypes.cast(importances, ctypes.POINTER(lib.llama_model_imatrix_data))
    code = lib.llama_model_quantize(str(source).encode(), str(made).encode(), ctypes.byref(params))
    if code == 0 and made.is_file() and _whole(made):
        return ""
    return "; ".join(llama_lib.last_errors) or f"code {code}"


def _whole(path: Path) -> bool:
    """Whether there is a GGUF file, now on disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        return stream.read(4) == b"GGUF"


def _importances(lib: ModuleType, imatrix: Mapping[str, NDArray[np.float32]]) -> Any:
    """An array of llama_model_imatrix_data, ended by an empty one; the ctypes objects keep what they point to."""
    import numpy as np

    if not imatrix:
        return None
    found = (lib.llama_model_imatrix_data * (len(imatrix) + 1))()
    for entry, (name, values) in zip(found, imatrix.items(), strict=False):
        data = (ctypes.c_float * values.size).from_buffer_copy(values.astype(np.float32).tobytes())
        entry.name, entry.data, entry.size = name.encode(), data, values.size
    return found
