"""Loads llama.cpp's library once, quietly: passive OpenMP threads, our own log callback, file descriptors untouched.

llama-cpp-python's `verbose=False` redirects descriptors 1 and 2 of the whole process and is not used. OpenMP reads its
environment when the library loads, so the variables are set for that moment only and never leak into child processes.

A thread that waits for others sleeps (active spinning was measured at 11 tokens/s against 79, alongside another busy
process), but not at once: a call of 8 rows takes 44 ms where threads sleep at once, 28 where they look 300 times
before; alongside a busy process it is 53 and 57, and 100 or more with 3,000 looks (SmolLM2-135M, 2 cores, GNU OpenMP).
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import importlib
import importlib.util
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from prlm_edge.errors import MissingError, ModelError, UsageError, first_line

logger = logging.getLogger("prlm_edge.llama_cpp")
logger.addHandler(logging.NullHandler())  # silent unless the application configures logging
# ggml_log_level: 1 debug, 2 info, 3 warning, 4 error, 5 continues a line. What fails becomes an error of ours anyway.
_LEVELS = {2: logging.DEBUG, 3: logging.INFO, 4: logging.WARNING}
_ERROR = 4
_ELSEWHERE = "LLAMA_CPP_LIB_PATH"  # llama-cpp-python's: the folder of another build of the library

#: The library's last error lines, newest last; cleared before a call whose failure is to be explained (`reason`).
last_errors: collections.deque[str] = collections.deque(maxlen=8)
_import_lock = threading.Lock()
_thread = threading.local()  # what a callback raised
_processes: list[int] = []  # where the library was loaded
_guarded: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()  # callbacks
_keep_alive: list[Any] = []  # a ctypes callback must outlive its last call


@functools.cache
def load() -> ModuleType:
    """llama-cpp-python's low-level module, initialized; the same object on every call.

    Raises:
        MissingError: llama-cpp-python isn't installed, or its library can't be loaded.
    """
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # else a crash runs gdb, which writes to stdout
    if importlib.util.find_spec("llama_cpp") is None:
        raise MissingError("llama-cpp-python is not installed", 'pip install "prlm-edge[gguf]"')
    try:
        with _openmp():
            llama_cpp = _low_level()
    except (OSError, RuntimeError) as error:  # what llama-cpp-python raises
        hint = f"unset {_ELSEWHERE}, or " if _ELSEWHERE in os.environ else ""
        hint += "pip install --force-reinstall --no-deps llama-cpp-python"
        raise MissingError(f"llama.cpp's library can't be loaded: {first_line(error)}", hint) from error
    callback = llama_cpp.llama_log_callback(guarded(_on_log, None))
    _keep_alive.append(callback)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    module: ModuleType = llama_cpp
    _processes.append(os.getpid())
    _keep_unraisable()
    return module


def load_model(path: Path, advice: str) -> Any:
    """The pointer of a loaded GGUF model, to be freed with `llama_model_free`.

    Args:
        path: The file; it is mapped, not read.
        advice: What to do where it can't be loaded.

    Raises:
        MissingError: llama-cpp-python isn't installed.
        UsageError: This process was forked from one that had loaded the library.
        ModelError: llama.cpp can't load the file.
    """
    check_process()
    lib = load()
    last_errors.clear()
    params = lib.llama_model_default_params()
    # Called now and then while it loads, when Python notices Ctrl-C.
    params.progress_callback = watch = lib.llama_progress_callback(guarded(lambda _done, _data: True, False))
    model = lib.llama_model_load_from_file(str(path).encode(), params)
    del watch
    if caught := _caught():
        if model:
            lib.llama_model_free(model)
        raise caught
    if not model:
        raise ModelError(f"{path}: llama.cpp can't load it: {reason()}", advice)
    return model


def reason() -> str:
    """Why the latest call failed, as the library's log says it, on one line."""
    return "; ".join(last_errors) or "no reason given"


def check_process() -> None:
    """Refuse to compute in a child that was forked from a process which had loaded the library.

    Its OpenMP threads stayed with the parent: the child would wait for them for ever.

    Raises:
        UsageError: This is such a child.
    """
    if _processes and os.getpid() not in _processes:
        raise UsageError(
            "llama.cpp was loaded before this process was forked",
            'open the first Writer in the child, or start children with multiprocessing\'s "spawn"',
        )


def guarded(call: Callable[..., Any], failed: Any, every_s: float = 0.0) -> Callable[..., Any]:
    """`call` for use as a C callback: what it raises, Ctrl-C too, is kept for `raise_caught`, and it gives `failed`.

    ctypes would print an exception and forget it. Ctrl-C mostly comes before the first line of a callback, where no
    `try` can be: then ctypes gives 0 and tells `sys.unraisablehook`, and the next callback gives `failed`.

    Args:
        call: What is called.
        failed: What it gives where it, or an earlier callback, raised something.
        every_s: It is called again only after so many seconds; in between it gives `not failed`.
    """
    due = 0.0

    def run(*args: Any) -> Any:
        nonlocal due
        try:
            if every_s:
                if (now := time.monotonic()) < due:
                    return not failed
                due = now + every_s
            return failed if getattr(_thread, "error", None) else call(*args)
        except BaseException as error:  # noqa: BLE001 - raised again behind the C call
            _thread.error = error
            return failed

    _guarded.add(run)
    return run


def _keep_unraisable() -> None:
    """Have what a guarded callback raises before its first line kept for `raise_caught`; all else as before."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.object in _guarded:
            _thread.error = unraisable.exc_value
        else:
            before(unraisable)

    sys.unraisablehook = hook


def raise_caught() -> None:
    """Raise what a callback raised during this thread's last C call, if anything."""
    if error := _caught():
        raise error


def _caught() -> BaseException | None:
    error: BaseException | None = getattr(_thread, "error", None)
    _thread.error = None
    return error


@functools.cache
def build() -> str:
    """Tells the loaded build of llama.cpp from others, by names, sizes and times of its library files."""
    package, elsewhere = Path(str(load().__file__)).parent, os.environ.get(_ELSEWHERE)
    folder = package / "lib" if elsewhere is None else Path(elsewhere)
    found = []
    with contextlib.suppress(OSError):  # a folder whose files can be loaded, but not listed
        for path in sorted(folder.iterdir()):
            if "llama" in path.name or "ggml" in path.name:
                status = path.stat()
                found.append((path.name, status.st_size, status.st_mtime_ns))
    return str(found or folder)


@contextlib.contextmanager
def _openmp() -> Iterator[None]:
    """How waiting threads wait, unless the user's environment says it."""
    ours = {} if "OMP_WAIT_POLICY" in os.environ else {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "300"}
    ours = {name: value for name, value in ours.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _low_level() -> ModuleType:
    """llama_cpp.llama_cpp without llama_cpp's `__init__`, which imports the high-level API: 0.1 s and 25 MB more.

    An empty package stands in for it meanwhile and is gone afterwards, so that a later `import llama_cpp` runs the real
    one, over the same loaded library.
    """
    with _import_lock:
        if "llama_cpp" in sys.modules:
            return importlib.import_module("llama_cpp.llama_cpp")
        spec = importlib.util.find_spec("llama_cpp")
        assert spec is not None
        stand_in = ModuleType("llama_cpp")
        stand_in.__path__ = list(spec.submodule_search_locations or ())
        stand_in.__spec__ = spec
        sys.modules["llama_cpp"] = stand_in
        try:
            return importlib.import_module("llama_cpp.llama_cpp")
        finally:
            del sys.modules["llama_cpp"]


def _on_log(level: int, text: bytes, _user_data: Any) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if level == _ERROR and line:
        last_errors.append(line)
    if line:
        logger.log(_LEVELS.get(level, logging.DEBUG), line)
