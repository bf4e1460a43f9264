"""Shared fixtures: the real models (never mocked), and a home of its own for every test."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from prlm_edge import models
from prlm_edge.backends import model_file, what_runs
from prlm_edge.errors import PrlmError
from prlm_edge.settings import load_settings

# A run started in the background ignores Ctrl-C, and so would the processes whose Ctrl-C the tests try.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["PRLM_DRAFTS"] = "0"  # tests that use the user's own home, for its models, keep nothing there
_USERS_HOME = os.environ.get("PRLM_HOME")  # before any test moves it
# Hypothesis does not judge by the clock: a busy machine is no fault.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _keep_to_one_core() -> None:
    """Keep this process, and what it starts, to one core; pytest-xdist's workers use the others.

    Threads of a model runtime wait for each other by spinning: on a busy machine two take ten times the CPU of one,
    and on one core sixty times. So this is done before anything imports PyTorch, which counts the cores once.
    """
    if hasattr(os, "sched_setaffinity"):
        number = int(os.environ.get("PYTEST_XDIST_WORKER", f"gw{os.getpid()}").removeprefix("gw"))
        os.sched_setaffinity(0, {sorted(_CORES)[number % len(_CORES)]})


_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
_keep_to_one_core()


def pytest_configure(config: pytest.Config) -> None:
    """The process that starts pytest-xdist's workers hands them all cores."""
    if _CORES and config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        os.sched_setaffinity(0, _CORES)


def _real_model(find: Callable[[], Path]) -> Path:
    """Where `find` finds a pulled model; skips without it, but fails in CI, which has to have it."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            if _USERS_HOME is None:
                patch.delenv("PRLM_HOME", raising=False)
            else:
                patch.setenv("PRLM_HOME", _USERS_HOME)
            return find()
    except PrlmError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error.message}: {error.hint}")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    return _real_model(lambda: model_file("smollm2-135m"))


@pytest.fixture(scope="session")
def merged_path() -> Path:
    """The default model with its adapter merged in: what runs where nothing else is asked for."""
    return _real_model(lambda: what_runs(load_settings(env={}, flags={"model": "smollm2-135m"})).model)


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    return _real_model(lambda: models.resolve("minilm", "embedder"))


@pytest.fixture(scope="session")
def original_path(smollm2_path: Path) -> Path:
    """The default model's file as it was fetched; adapters are trained over its weights."""
    return smollm2_path.parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def training_home(original_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PRLM_HOME whose cache holds the default model unpacked for training, which takes a minute: once a session."""
    from prlm_edge.train import base

    home = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRLM_HOME", str(home))
        base.resolve(str(original_path))
    return home


@pytest.fixture(scope="session")
def smollm2_folder(training_home: Path) -> Path:
    """The real default model as a Hugging Face folder."""
    return next(training_home.rglob("config.json")).parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PRLM_HOME: no settings, no cache, no models."""
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("PRLM_") and name != "PRLM_HOME"]:
        monkeypatch.delenv(name)
    return tmp_path / "home"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a socket is opened."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
