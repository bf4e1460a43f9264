"""Shared fixtures: the real models (never mocked), and a home of its own for every test."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from prlm_edge import models
from prlm_edge.errors import PrlmError

# A run started in the background ignores Ctrl-C, and so would the processes whose Ctrl-C the tests try.
signal.signal(signal.SIGINT, signal.default_int_handler)
_USERS_HOME = os.environ.get("PRLM_HOME")  # before any test moves it


def pytest_configure(config: pytest.Config) -> None:
    """Keep each process that runs tests, and what it starts, to one core.

    Threads of a model runtime wait for each other by spinning: on a busy machine two of them take ten times the CPU
    time of one. pytest-xdist's workers use the other cores.
    """
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    starts_workers = not worker and config.getoption("numprocesses", None)
    if hasattr(os, "sched_setaffinity") and not starts_workers:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw") or os.getpid()) % len(cores)]})


def _real_model(name: str, kind: str) -> Path:
    """Where the pulled model is; skips without it, but fails in CI, which has to have it."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            if _USERS_HOME is None:
                patch.delenv("PRLM_HOME", raising=False)
            else:
                patch.setenv("PRLM_HOME", _USERS_HOME)
            return models.resolve(name, kind)
    except PrlmError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error.message}: {error.hint}")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    return _real_model("smollm2-135m", "llm")


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    return _real_model("minilm", "embedder")


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
