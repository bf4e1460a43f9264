"""A model's copies for ONNX Runtime: made once, made anew where they are not of these files, and never half made."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from prlm_edge import Writer, models
from prlm_edge.backends import what_runs
from prlm_edge.errors import MissingError, PrlmError, UsageError
from prlm_edge.models import catalog, onnx_copy
from prlm_edge.settings import load_settings

pytestmark = pytest.mark.model
VOICE = catalog.registry()["smollm2-135m"].voice
assert VOICE is not None
RUN = "from prlm_edge.backends import what_runs; from prlm_edge.settings import load_settings; "
RUN += "print('ready', flush=True); print(what_runs(load_settings(flags={'engine': 'onnx'})).model)"


@pytest.fixture
def folder(home: Path, smollm2_path: Path, merged_path: Path) -> Path:
    """The real model with llama.cpp's copies of it, in an empty home."""
    folder = models.find("smollm2-135m").folder
    shutil.copytree(
        merged_path.parent, folder, copy_function=os.link, ignore=lambda _, names: {n for n in names if "onnx" in n}
    )
    return folder


def run(**flags: object) -> Path:
    return what_runs(load_settings(env={}, flags={"model": "smollm2-135m", "engine": "onnx", **flags})).model


def test_each_is_made_once_of_its_files_and_mended(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    merged, alone = run(), run(adapter="none")
    assert (merged.parent, alone.parent) == (folder, folder) and merged != alone
    before = merged.stat().st_ino
    assert run() == merged and merged.stat().st_ino == before
    assert onnx_copy.verify(folder) == []
    changed = bytearray(VOICE.read_bytes())
    changed[-4096:] = bytes(4096)
    (tmp_path / "smollm2-135m").mkdir()
    (tmp_path / "smollm2-135m" / "adapter.gguf").write_bytes(changed)
    monkeypatch.setattr(catalog, "VOICES", tmp_path)
    assert run() == merged and merged.stat().st_ino != before  # a new version of the adapter
    own = run(adapter=str(VOICE.parent / "." / "adapter.gguf"))  # as one of the user's own, from another folder
    assert own.name == "SmolLM2-135M-Instruct.adapter.Q8_0.onnx" and run(adapter=str(VOICE)) == own
    (alone / "model.onnx").write_bytes(b"damage")
    assert onnx_copy.verify(folder) == [f"{alone.name} (a copy that is run) is damaged"]
    onnx_copy.drop_damaged(folder)
    assert run(adapter="none") == alone and onnx_copy.verify(folder) == []


def test_what_can_not_be_run_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / models.find("smollm2-135m").files[0].name
    with pytest.raises(MissingError, match="not GGUF files") as caught:
        run(model=str(file))
    assert "prlm-edge[gguf]" in caught.value.hint
    with pytest.raises(UsageError, match="no such adapter"):
        run(adapter="gone.gguf")

    def full(_folder: Path, _need: int) -> None:
        raise PrlmError("no room", "free some space")

    monkeypatch.setattr("prlm_edge.gguf.to_onnx.convert.require_space", full)
    before = sorted(folder.iterdir())
    with pytest.raises(PrlmError, match="no room"):
        run()
    assert sorted(folder.iterdir()) == before


def test_a_full_disk_and_a_killed_process_leave_nothing_half_made(folder: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000,) * 2); "
    quiet = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    done = subprocess.run([sys.executable, "-c", limit + quiet + RUN], capture_output=True, text=True, check=False)
    assert done.returncode and "File too large" in done.stderr
    assert not list(folder.glob("*.onnx")) and not list(folder.glob(".*.new"))
    for how, delay in ((signal.SIGKILL, 0.3), (signal.SIGKILL, 1.0), (signal.SIGINT, 0.6)):
        process = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(how)
        process.communicate()
        assert onnx_copy.verify(folder) == []
    made = run()
    assert onnx_copy.find(folder, "q8_0", VOICE) == made
    assert [path.name for path in folder.iterdir() if path.name.startswith(".") and path.is_dir()] == []


def test_without_llama_cpp_onnx_runtime_runs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same greedy answer at first, again from the prefix cache, in a thread, and as the first of three."""
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setattr("prlm_edge.models.engine.find_spec", lambda name: None if name == "llama_cpp" else object())
    ask = partial(Writer.generate, query="title for a post on bread", task="title", temperature=0.0)
    with Writer.open(None, model="smollm2-135m") as writer, ThreadPoolExecutor(1) as pool:
        first, again, threaded = ask(writer), ask(writer), pool.submit(ask, writer).result()
        drawn = ask(writer, best_of=3)
        assert writer.load().info.name.endswith(".onnx") and writer.load().info.adapter
    assert first.answer and first.answer == again.answer == threaded.answer
    assert again.usage.cached_tokens > first.usage.cached_tokens
    assert first.answer in [candidate.answer for candidate in drawn.candidates]
