"""Exports become models of their own names: whole, verified ones alone."""

import json

import pytest

from prlm_edge import models
from prlm_edge.errors import ModelError, UsageError
from prlm_edge.models import store as model_store
from prlm_edge.models.install import install, read_export
from prlm_edge.models.store import installed_export


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "home"))


@pytest.fixture
def export(tmp_path):
    """An export as `export.manifest` writes it, of two small files."""

    def make(kind="llm", ok=True, name="my-voice"):
        folder = tmp_path / "export"
        folder.mkdir(exist_ok=True)
        (folder / "model.gguf").write_bytes(b"GGUF" + b"weights" * 10)
        (folder / "extra.json").write_bytes(b"{}")
        (folder / "README.md").write_text("# my-voice\n")
        files = [
            {"name": path.name, "size": path.stat().st_size, "sha256": model_store.hash_file(path)}
            for path in (folder / "extra.json", folder / "model.gguf")
        ]
        manifest = {"version": 1, "name": name, "kind": kind, "licence": "Apache-2.0", "files": files}
        (folder / "export.json").write_text(json.dumps({**manifest, "verification": {"ok": ok, "checks": []}}))
        return folder

    return make


def test_installed_it_is_a_model_by_its_name(export, tmp_path, monkeypatch):
    folder = export()
    manifest = install(folder)
    assert (manifest.name, manifest.source) == ("my-voice", "export")
    path = models.resolve("my-voice")
    assert path.read_bytes() == (folder / "model.gguf").read_bytes()
    assert (path.parent / "README.md").is_file()
    assert models.find("my-voice").kind == "llm"
    assert model_store.verify(path.parent, "my-voice") == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-voice").mkdir()  # a folder of that name does not hide it
    assert models.resolve("my-voice") == path


def test_a_later_one_takes_its_place(export):
    install(export())
    folder = export()
    (folder / "model.gguf").write_bytes(b"GGUF other")
    manifest = json.loads((folder / "export.json").read_text())
    manifest["files"][1] |= {"size": 10, "sha256": model_store.hash_file(folder / "model.gguf")}
    (folder / "export.json").write_text(json.dumps(manifest))
    install(folder)
    assert models.resolve("my-voice").read_bytes() == b"GGUF other"


def test_an_onnx_model_is_its_folder(export):
    install(export(kind="onnx-llm"), "little")
    assert models.resolve("little").is_dir()
    with pytest.raises(UsageError, match="not an embedder"):
        models.resolve("little", "embedder")


def test_the_exports_own_folder_can_be_run_too(export):
    folder = export()
    assert models.resolve(str(folder)) == folder / "model.gguf"


def test_what_was_not_verified_or_is_not_what_was_is_refused(export):
    with pytest.raises(UsageError, match="its verification failed"):
        install(export(ok=False))
    folder = export()
    (folder / "model.gguf").write_bytes(b"GGUF" + b"Weights" * 10)
    with pytest.raises(ModelError, match="not the file that was verified"):
        install(folder)
    (folder / "model.gguf").unlink()
    with pytest.raises(ModelError, match="missing"):
        install(folder)
    with pytest.raises(UsageError, match="no export"):
        read_export(folder.parent)
    assert installed_export("my-voice") is None


@pytest.mark.parametrize("name", ["default", "smollm2-135m", "../up", ".hidden", "a b"])
def test_names_that_can_not_be_had(export, name):
    with pytest.raises(UsageError):
        install(export(), name)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["files"][0].update(name="../evil"),
        lambda m: m["files"][0].update(name=".hidden"),
        lambda m: m["files"][0].update(name="README.md"),
        lambda m: m["files"][0].update(size="3"),
        lambda m: m["files"].clear(),
        lambda m: m["files"].append(5),
        *(lambda m, key=key: m.pop(key) for key in ("version", "name", "kind", "licence", "files", "verification")),
        *(lambda m, key=key: m["files"][0].pop(key) for key in ("name", "size", "sha256")),
        *(lambda m, key=key: m.update({key: [1]}) for key in ("name", "kind", "licence", "files", "verification")),
    ],
)
def test_a_manifest_that_no_export_wrote_is_refused(export, change):
    folder = export()
    manifest = json.loads((folder / "export.json").read_text())
    change(manifest)
    (folder / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError):
        install(folder)


def test_links_are_not_followed(export, tmp_path):
    folder = export()
    secret = tmp_path / "secret"
    secret.write_text("my key")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(secret)
    install(folder)
    assert not (models.find("my-voice").folder / "README.md").exists()
    (folder / "model.gguf").rename(tmp_path / "model.gguf")
    (folder / "model.gguf").symlink_to(tmp_path / "model.gguf")
    with pytest.raises(ModelError, match="missing"):
        install(folder)


def test_a_wrong_name_has_a_near_one(export):
    install(export())
    with pytest.raises(UsageError, match=r"unknown model") as caught:
        models.find("my-voise")
    assert "my-voice" in caught.value.hint
