"""Merging a LoRA-GGUF into its base on the device (`prlm_edge.gguf.merge`), in llama.cpp's formats of few bits too."""

from __future__ import annotations

import tempfile
from pathlib import Path

from prlm_edge.errors import UsageError
from prlm_edge.export.gguf.quantize import FTYPES, quantize
from prlm_edge.gguf.merge import FORMATS, merge
from prlm_edge.storage import private_dir, write_error


def bake(base: Path, adapter: Path, out: Path, quant: str | None = None) -> int:
    """As `merge`; `quant` may also be one of `FTYPES` where llama-cpp-python is installed.

    Raises:
        UsageError: No such format or file, or `out` is one of the files it is made from.
        MissingError: llama-cpp-python is missing and the format needs it, or as `merge`.
        ModelError: As `merge`.
        PrlmError: As `merge`.
    """
    known = [*FORMATS, *(name for name in FTYPES if name not in FORMATS)]
    if quant is not None and quant not in known:
        raise UsageError(f"unknown format {quant!r}", f"there are {', '.join(known)}")
    if out.resolve() in (base.resolve(), adapter.resolve()):
        raise UsageError(f"{out} is one of the files it is to be made from", "choose another name")
    if quant is None or quant in FORMATS:
        return merge(base, adapter, out, quant)
    try:
        private_dir(out.parent)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as work:
            n_layers = merge(base, adapter, Path(work) / out.name, "f16")
            quantize(Path(work) / out.name, out, quant)
    except OSError as error:
        raise write_error(out, error) from error
    return n_layers
