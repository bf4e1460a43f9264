"""Ctrl-C inside llama.cpp's calls reaches the caller, and a child of fork is refused where it would wait for ever."""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prlm_edge.backends.llama import lib
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.errors import UsageError
from prlm_edge.types import Cancel, Request, Span, Turn

pytestmark = pytest.mark.model
LONG = Request((Turn("user", (Span("three flours and one starter " * 300),)),), reasoning_tokens=0, answer_tokens=4)
SHORT = Request((Turn("user", (Span("three flours"),)),), reasoning_tokens=0, answer_tokens=4)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C as soon as llama.cpp calls back: the moment in which it would be lost."""
    guarded = lib.guarded
    armed = threading.Event()

    def interrupting(call, failed, *more):
        def once(*args):
            if not armed.is_set():
                armed.set()
                _thread.interrupt_main()
            return call(*args)

        return guarded(once, failed, *more)

    monkeypatch.setattr(lib, "guarded", interrupting)
    return armed


@pytest.mark.parametrize("cancel", [None, Cancel()])
def test_ctrl_c_while_a_prompt_is_read(smollm2_path: Path, interrupt: threading.Event, cancel: Cancel | None) -> None:
    interrupt.set()  # not while it is loaded
    model = LlamaCpp(smollm2_path, prefix_cache="off")
    try:
        interrupt.clear()
        with pytest.raises(KeyboardInterrupt):
            list(model.stream(LONG, cancel))
        assert list(model.stream(SHORT, cancel))[-1].completion  # and goes on working
    finally:
        model.close()


def test_ctrl_c_while_a_model_is_loaded(smollm2_path: Path, interrupt: threading.Event) -> None:
    with pytest.raises(KeyboardInterrupt):
        LlamaCpp(smollm2_path)


def _interrupted_after(seconds: float, what: Callable[[], object]) -> None:
    """Run `what` with Ctrl-C in the midst of it, most probably while llama.cpp computes and Python does not."""

    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ctrl_c)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            while True:  # once is enough, but where it ended before the signal came
                what()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals")
def test_ctrl_c_at_any_moment(smollm2_path: Path) -> None:
    for delay in range(1, 40, 3):
        _interrupted_after(delay / 1000, lambda: LlamaCpp(smollm2_path).close())
    model = LlamaCpp(smollm2_path, prefix_cache="off")
    try:
        for delay in range(1, 200, 20):
            _interrupted_after(delay / 1000, lambda: list(model.stream(LONG)))
        assert list(model.stream(SHORT))[-1].completion
    finally:
        model.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_refused_and_a_spawned_one_works(smollm2_path: Path) -> None:
    model = LlamaCpp(smollm2_path, prefix_cache="off")
    try:
        list(model.stream(SHORT))
        for child in (lambda: list(model.stream(SHORT)), lambda: LlamaCpp(smollm2_path)):
            pid = os.fork()
            if pid == 0:
                try:
                    child()
                except UsageError as error:
                    os._exit(7 if "fork" in error.message else 8)
                os._exit(9)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    finally:
        model.close()
    process = multiprocessing.get_context("spawn").Process(target=_write, args=(smollm2_path,))
    process.start()
    process.join()
    assert process.exitcode == 0


def _write(path: Path) -> None:
    sys.exit(0 if list(LlamaCpp(path).stream(SHORT))[-1].completion else 1)
