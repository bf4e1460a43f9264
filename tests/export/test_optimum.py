"""Optimum's exporter in the environment of its own that optimum.txt lists: a tiny encoder, really exported there."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from tiny_reward import write_tokenizer

from prlm_edge.errors import MissingError, ModelError, UsageError
from prlm_edge.export.onnx import optimum_env


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """An untrained BERT of two layers."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    size = write_tokenizer(folder / "tokenizer.json")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=size, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def environment():
    """The real one, installed once on a machine; skips without a network, but fails in CI, which has to have one."""
    try:
        return optimum_env.prepare()
    except MissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)


def test_it_is_laid_over_this_environment_and_changes_nothing_in_it(environment):
    code = "import transformers, torch; print(transformers.__version__, torch.__file__)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(environment)},
        capture_output=True,
        text=True,
        check=True,
    )
    version, torch = run.stdout.split()
    assert version == "4.57.6" != importlib.metadata.version("transformers")
    assert str(environment) not in torch


@pytest.mark.slow
def test_an_encoder_is_exported_and_its_vectors_are_pytorchs(environment, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(optimum_env, "prepare", lambda: environment)
    cosine = optimum_env.export_encoder(encoder, tmp_path / "out")
    assert cosine > 0.99
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.onnx", "tokenizer.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(ModelError, match="its vectors differ"):
        optimum_env.export_encoder(encoder, tmp_path / "other", min_cosine=1.1)
    assert not (tmp_path / "other").exists()


def test_what_it_cannot_do_is_one_clear_error(encoder, tmp_path, monkeypatch):
    def refused(error, text, *args):
        with pytest.raises(error, match=text) as caught:
            optimum_env.export_encoder(*args)
        assert "\n" not in str(caught.value) and caught.value.hint

    refused(UsageError, "there already", encoder, tmp_path)
    refused(UsageError, "no encoder", tmp_path, tmp_path / "out")
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    refused(MissingError, "pip can't install optimum", encoder, tmp_path / "out")
    torn = tmp_path / "torn"
    shutil.copytree(encoder, torn)
    (torn / "model.safetensors").write_bytes(b"torn")
    monkeypatch.setattr(optimum_env, "prepare", lambda: tmp_path / "nothing")
    refused(ModelError, "optimum can't export it", torn, tmp_path / "out")
    assert not (tmp_path / "out").exists()
