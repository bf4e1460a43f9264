"""Tries a GGUF file that was never opened before, so that a crafted or broken one ends a child process and not the app.

Files that were pulled by their hash or installed from a verified export are not tried. Of any other, the header is
checked first (`prlm_edge.gguf.header`). Then a child process opens it and writes one token. That it did is kept in the
cache folder, by the file's hash.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

from prlm_edge import models
from prlm_edge.backends.llama import lib
from prlm_edge.errors import ModelError, PrlmError
from prlm_edge.gguf.header import check_adapter, check_model
from prlm_edge.models.catalog import VOICES
from prlm_edge.models.store import models_dir
from prlm_edge.storage import cache_dir
from prlm_edge.storage.kept import Shelf

_TIMEOUT_S = 120.0  # a child that takes longer says nothing: a large model on a slow disk may
_CODE = """
import sys
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.errors import PrlmError
from prlm_edge.types import Request, Span, Turn
try:
    model = LlamaCpp(sys.argv[1], adapter=sys.argv[2] or None, n_ctx=64, prefix_cache="off")
    list(model.stream(Request((Turn("user", (Span("a"),)),), reasoning_tokens=0, answer_tokens=1)))
except PrlmError:
    pass  # whoever opens it next gets the same error
"""


def try_files(model: Path, sha256: str, adapter: Path | None) -> None:
    """Make sure that llama.cpp can be given the files of a model and an adapter without ending this process.

    Raises:
        UsageError: No such file.
        ModelError: One of them is not sound, or llama.cpp ends the process over it.
    """
    lib.load()  # without the package there is nothing to check for
    ours = [models_dir().resolve(), VOICES]
    known = [path is None or any(path.resolve().is_relative_to(one) for one in ours) for path in (model, adapter)]
    if not known[0]:
        check_model(model)
    if adapter is not None and not known[1]:
        check_adapter(adapter)
    if all(known) or getattr(sys, "frozen", False) or not sys.executable:
        return
    key = f"{sha256} {models.sha256_of(adapter) if adapter else ''} {lib.build()}"
    name = blake2b(key.encode(), digest_size=16).hexdigest()
    shelf = Shelf(cache_dir() / "opened", "opened 1", max_files=64)
    if shelf.open(name, key) is not None:
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-c", _CODE, str(model), str(adapter or "")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode < 0 or done.returncode >= 1 << 30:  # a signal; Windows has large numbers for it
            what = "" if adapter is None else f", or its adapter {adapter},"
            raise ModelError(f"{model}{what} is damaged: llama.cpp would end this process", "choose another file")
        if done.returncode == 0:
            with contextlib.suppress(PrlmError):  # without it the file is tried again next time
                shelf.write(name, key, {}, {})
