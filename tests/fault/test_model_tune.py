"""The tuned copy of a model: made once, refused when it is not of this source, remade, and never half made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prlm_edge import models
from prlm_edge.backends import model_file
from prlm_edge.backends.llama import tuned
from prlm_edge.errors import PrlmError
from prlm_edge.models import store as model_store
from prlm_edge.models import tuned_copy

pytestmark = pytest.mark.model
COMMAND = [sys.executable, "-m", "prlm_edge", "model"]


@pytest.fixture
def folder(home: Path, smollm2_path: Path) -> Path:
    """The real model, as it is pulled, in an empty home."""
    folder = models.find("default").folder
    folder.mkdir(parents=True)
    source = smollm2_path.with_name(models.find("default").files[0].name)
    os.link(source, folder / source.name)
    shutil.copy(source.with_name(model_store.MANIFEST), folder)
    return folder


def cli(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=120, check=False)


def test_the_copy_is_run_and_the_pulled_file_stays(folder: Path) -> None:
    original = models.resolve("default")
    assert original.name.endswith("Q4_1.gguf")
    copy = model_file("default")
    assert copy == folder / "SmolLM2-135M-Instruct.Q8_0.gguf" == models.resolve("default")
    assert models.resolve("default", original=True) == original
    assert model_file(str(original)) == original  # a file is run as it is
    assert copy.stat().st_mode & 0o777 == 0o600
    assert tuned_copy.verify(folder) == []
    assert not list(folder.glob(".tune-*"))
    assert cli("path").stdout.strip() == str(copy)
    assert cli("path", "--original").stdout.strip() == str(original)
    before = copy.stat().st_mtime_ns
    assert model_file("default").stat().st_mtime_ns == before


def test_a_copy_of_another_source_or_size_is_made_anew(folder: Path) -> None:
    copy = model_file("default")
    sound = json.loads((folder / tuned_copy.RECORD).read_text())
    for wrong in ({"source_sha256": "0" * 64}, {"format": "q4_0"}, {"size": 7}, {"file": "../manifest.json"}):
        (folder / tuned_copy.RECORD).write_text(json.dumps(sound | wrong))
        assert models.resolve("default").name.endswith("Q4_1.gguf")
    for junk in ("", "[]", "{", '{"file": "x"}'):
        (folder / tuned_copy.RECORD).write_text(junk)
        assert models.resolve("default").name.endswith("Q4_1.gguf")
    assert model_file("default") == copy
    assert json.loads((folder / tuned_copy.RECORD).read_text()) == sound  # byte for byte the same file again


def test_verify_sees_a_changed_copy(folder: Path) -> None:
    copy = model_file("default")
    with copy.open("r+b") as stream:
        stream.seek(1_000_000)
        stream.write(b"damage")
    result = cli("verify", "default")
    assert result.returncode != 0
    assert "tuned.json" in result.stdout
    (folder / tuned_copy.RECORD).unlink()
    assert model_file("default") == copy
    assert cli("verify", "default").returncode == 0


def test_what_can_not_be_made_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_folder: Path, _need: int) -> None:
        raise PrlmError("no room", "free some space")

    monkeypatch.setattr(model_store, "require_space", full)
    assert model_file("default").name.endswith("Q4_1.gguf")
    with pytest.raises(PrlmError, match="no room"):
        tuned.make(folder, "q8_0")


def test_killed_while_it_is_made(folder: Path) -> None:
    script = "from prlm_edge.backends import model_file; print('ready', flush=True); model_file('default')"
    for delay in (0.15, 0.3, 0.5):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = models.resolve("default")
        assert found.name.endswith("Q4_1.gguf") or tuned_copy.verify(folder) == []
    assert model_file("default").name.endswith("Q8_0.gguf")
    assert tuned_copy.verify(folder) == []
    (folder / tuned_copy.RECORD).unlink()
    model_file("default")
    assert not list(folder.glob(".tune-*"))


def test_two_at_once(folder: Path) -> None:
    script = "from prlm_edge.backends import model_file; print(model_file('default'))"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [str(models.resolve("default"))] * 2
    assert tuned_copy.verify(folder) == []


def test_rm_removes_it_too(folder: Path) -> None:
    model_file("default")
    assert cli("rm", "default", "--yes").returncode == 0
    assert not folder.exists()
