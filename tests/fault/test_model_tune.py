"""The tuned copies of a model, alone and with our adapter merged in: made once, remade when they are not of these
files, and never half made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from prlm_edge import models
from prlm_edge.backends import model_file, what_runs
from prlm_edge.backends.llama import tuned
from prlm_edge.backends.speed import measure
from prlm_edge.errors import PrlmError
from prlm_edge.models import catalog, choice, tuned_copy
from prlm_edge.models import store as model_store
from prlm_edge.settings import load_settings

pytestmark = pytest.mark.model
COMMAND = [sys.executable, "-m", "prlm_edge"]
ALONE, MERGED = "SmolLM2-135M-Instruct.Q8_0.gguf", "SmolLM2-135M-Instruct.voice.Q8_0.gguf"
VOICE = catalog.registry()["smollm2-135m"].voice
assert VOICE is not None
RUN = "from prlm_edge.backends import what_runs; from prlm_edge.settings import load_settings; "
RUN += "print(what_runs(load_settings(flags={'adapter': sys.argv[1] or None})).model)"
COPIES = [pytest.param(tuned_copy.RECORD, "none", id="alone"), pytest.param(tuned_copy.BAKED, None, id="merged")]


@pytest.fixture
def folder(home: Path, smollm2_path: Path) -> Path:
    """The real model, as it is pulled, in an empty home."""
    folder = models.find("small").folder
    folder.mkdir(parents=True)
    source = smollm2_path.with_name(models.find("small").files[0].name)
    os.link(source, folder / source.name)
    shutil.copy(source.with_name(model_store.MANIFEST), folder)
    return folder


@pytest.fixture
def made(folder: Path, smollm2_path: Path, merged_path: Path) -> Path:
    """The same with both copies."""
    for name in (ALONE, MERGED, tuned_copy.RECORD, tuned_copy.BAKED):
        shutil.copy(smollm2_path.with_name(name), folder)
    return folder


def cli(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=120, check=False)


def run(adapter: str | None, **flags: object) -> tuned.Run:
    return what_runs(load_settings(env={}, flags={"adapter": adapter, **flags}))


def test_what_is_run(made: Path) -> None:
    original, alone, merged = made / models.find("small").files[0].name, made / ALONE, made / MERGED
    assert models.resolve("small") == model_file("small") == run("none").model == alone
    assert run(None) == run(None, model="smollm2-135m") == (merged, None, "")
    assert run(str(VOICE)) == (alone, VOICE, "")  # as any other that is named
    assert models.resolve("small", original=True) == original
    assert run(None, model=str(original)) == (original, None, "")  # a file is run as it is
    assert cli("model", "path").stdout.strip() == str(merged)
    assert cli("model", "path", "--original").stdout.strip() == str(original)
    assert "with its adapter merged in: " in cli("doctor").stdout


@pytest.mark.parametrize(("record", "adapter"), COPIES)
def test_a_copy_of_other_files_or_size_is_made_anew(made: Path, record: str, adapter: str | None) -> None:
    sound, copy = json.loads((made / record).read_text()), (made / MERGED) if adapter is None else made / ALONE
    merged = None if adapter else VOICE
    wrong: tuple[dict[str, object], ...] = (
        *({"source_sha256": "0" * 64}, {"adapter_sha256": "0" * 64}, {"format": "q4_0"}),
        *({"size": 7}, {"size": "7"}, {"file": "../x"}, {"x": "y"}),
    )
    for text in (*(json.dumps(sound | one) for one in wrong), "", "[]", "{", '{"file": "x"}'):
        (made / record).write_text(text)
        assert tuned_copy.find(made, "q8_0", merged) is None
    assert run(adapter).model == copy
    remade = tuned_copy.read(made, record)
    assert remade and asdict(remade) == {"adapter_sha256": "", **sound}  # byte for byte the same file again
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_new_adapter_is_merged_in_once(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (made / MERGED).read_bytes()
    changed = bytearray(VOICE.read_bytes())
    changed[-4096:] = bytes(4096)
    (tmp_path / "smollm2-135m").mkdir()
    (tmp_path / "smollm2-135m" / "adapter.gguf").write_bytes(changed)
    monkeypatch.setattr(catalog, "VOICES", tmp_path)
    steps: list[tuple[int, int]] = []
    for _ in range(2):
        found = what_runs(load_settings(env={}), lambda done, total: steps.append((done, total)))
        assert found.model == made / MERGED and found.model.read_bytes() != before
    assert len(steps) == steps[-1][1] + 1


@pytest.mark.parametrize(("record", "adapter"), COPIES)
def test_pull_mends_a_changed_copy(made: Path, record: str, adapter: str | None) -> None:
    copy = run(adapter).model
    sound = copy.read_bytes()
    with copy.open("r+b") as stream:
        stream.seek(1_000_000)
        stream.write(b"damage")
    for verb in (["model", "verify", "small"], ["doctor"]):
        result = cli(*verb)
        assert result.returncode != 0
        assert copy.name in result.stdout and "prlm-edge model pull" in result.stdout + result.stderr
    assert cli("model", "pull", "small").returncode == 0
    assert cli("model", "verify", "small").returncode == 0
    assert run(adapter).model.read_bytes() == sound


@pytest.mark.parametrize(("record", "adapter"), COPIES)
def test_what_can_not_be_made_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, record: str, adapter: str | None
) -> None:
    def full(_folder: Path, _need: int) -> None:
        raise PrlmError("no room", "free some space")

    monkeypatch.setattr(model_store, "require_space", full)
    found = run(adapter)
    assert found.model.name.endswith("Q4_1.gguf")
    assert found.adapter == (None if adapter else VOICE)
    assert ("no room; free some space" in found.note) == (adapter is None)
    with pytest.raises(PrlmError, match="no room"):
        tuned.make(folder, "q8_0", found.adapter)


def test_without_gguf_the_adapter_is_laid_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    found = run(None)
    assert found[:2] == (folder / ALONE, VOICE)
    assert "gguf package is not installed" in found.note and "pip install" in found.note


@pytest.mark.parametrize(("record", "adapter"), COPIES)
def test_stopped_while_it_is_made(folder: Path, record: str, adapter: str | None) -> None:
    script = "import sys; print('ready', flush=True); " + RUN
    for how, delay in ((signal.SIGKILL, 0.3), (signal.SIGKILL, 0.6), (signal.SIGINT, 1.0)):
        command = [sys.executable, "-c", script, adapter or ""]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(how)
        process.communicate()
        merged = None if adapter else VOICE
        assert (folder / record).exists() == (tuned_copy.find(folder, "q8_0", merged) is not None)
        assert tuned_copy.verify(folder) == []
    assert how == signal.SIGINT and (adapter or not list(folder.glob(".tune-*")))  # llama.cpp can't be interrupted
    run(adapter)
    assert tuned_copy.verify(folder) == [] and (folder / record).exists()
    assert not list(folder.glob(".tune-*"))


@pytest.mark.parametrize(("record", "adapter"), COPIES)
def test_two_at_once(folder: Path, record: str, adapter: str | None) -> None:
    command = [sys.executable, "-c", "import sys; " + RUN, adapter or ""]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [str(folder / (ALONE if adapter else MERGED))] * 2
    assert tuned_copy.verify(folder) == []
    assert not (folder / (MERGED if adapter else ALONE)).exists()  # 145 MB that nobody asked for


def test_a_model_from_before_gets_its_copy_at_the_first_request(folder: Path) -> None:
    model_file("small")  # what an earlier version made
    ask = ["generate", "--answer-tokens", "4", "title for a post on bread"]
    said = [cli(*ask) for _ in range(2)]
    assert [one.returncode for one in said] == [0, 0], said
    assert said[0].stdout == said[1].stdout
    assert ["that is run, once" in one.stderr for one in said] == [True, False]
    assert all("written with the adapter that comes with prlm-edge" in one.stderr for one in said)
    assert "written with" not in cli(*ask, "--base").stderr


def test_of_a_format_that_is_used_no_more_nothing_is_left(folder: Path) -> None:
    for format in ("q4_0", "q8_0"):
        made = tuned.make(folder, format)
        assert made is not None and made.name == f"SmolLM2-135M-Instruct.{format.upper()}.gguf"
    assert [path.name for path in sorted(folder.glob("*.gguf"))] == ["SmolLM2-135M-Instruct.Q4_1.gguf", ALONE]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("SmolLM2-135M-Instruct.Q4_1", "SmolLM2-135M-Instruct"),
        ("qwen2.5-coder-0.5b-instruct-q4_k_m", "qwen2.5-coder-0.5b-instruct"),
        ("x-IQ2_XXS", "x"),
        ("x.bf16", "x"),
        ("qwen2.5-0.5b", "qwen2.5-0.5b"),
        ("q4-model", "q4-model"),
    ],
)
def test_a_copy_is_named_without_the_format_of_its_source(name: str, stem: str) -> None:
    assert tuned_copy.stem_of(f"{name}.gguf") == stem


def test_speed_is_measured_and_kept_where_that_can_be(made: Path) -> None:
    measure(made / MERGED)
    speed = choice.speed_of(made)
    assert speed is not None and speed.file == MERGED and speed.seconds > 0
    (made / ALONE).write_bytes(b"GGUF")
    measure(made / ALONE)
    assert choice.speed_of(made) == speed


def test_rm_removes_them_too(made: Path) -> None:
    assert cli("model", "rm", "small", "--yes").returncode == 0
    assert not made.exists()
