"""Language models exported as ONNX say what they say in PyTorch; what can't be exported is refused in one line."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest
from helpers import filled, mounted

pytest.importorskip("torch")
pytest.importorskip("onnxruntime_genai")

import numpy as np
from tiny_onnx import exported, in_pytorch

from prlm_edge.backends.onnx.folder import read
from prlm_edge.errors import MissingError, ModelError, PrlmError, UsageError
from prlm_edge.export.measure import Probe, compare, hf_logprobs, probes
from prlm_edge.export.onnx.model import export_onnx, onnx_logprobs
from prlm_edge.models.store import hash_file

MODELS = [
    ("llama", "f32", False),
    ("llama", "int8", True),
    ("llama", "int4", True),
    ("qwen2", "f32", True),
    ("qwen2", "int8", False),
    ("qwen3", "f32", False),
    ("qwen3", "int8", True),
]


@pytest.fixture(scope="session")
def wanted():
    """Every position of two sequences, one of them longer than a call."""
    chance = np.random.default_rng(0)
    return probes([chance.integers(3, 330, n).tolist() for n in (290, 12)], 400)


@pytest.mark.parametrize(("kind", "quant", "tied"), MODELS)
def test_logits_are_those_of_the_model(root, wanted, kind, quant, tied):
    """Weights by chance suffer more from rounding than trained ones do: int8 KL .005 here."""
    source, folder = exported(root, kind, quant, tied=tied)
    theirs, ours = list(hf_logprobs(in_pytorch(source), wanted)), list(onnx_logprobs(folder, wanted))
    found = compare(wanted, theirs, ours)
    if quant == "f32":
        assert max(np.abs(a - b).max() for a, b in zip(theirs, ours, strict=True)) < 1e-3
        assert found.top1_tied == 1
    else:
        assert found.kl < {"int8": 0.01, "int4": 0.5}[quant]
        assert found.top1_tied > {"int8": 0.93, "int4": 0.6}[quant]


@pytest.mark.parametrize(("kind", "quant", "tied"), [("llama", "f32", False), ("qwen3", "f32", False)])
def test_a_token_at_a_time_says_what_one_call_says(root, kind, quant, tied):
    folder = exported(root, kind, quant, tied=tied).folder
    ids = tuple(np.random.default_rng(1).integers(3, 330, 40).tolist())
    by_token = next(onnx_logprobs(folder, [Probe(ids, tuple(range(39)))]))
    at_once = [next(onnx_logprobs(folder, [Probe(ids, (at,))]))[0] for at in (1, 20, 38)]
    assert np.abs(by_token[[1, 20, 38]] - at_once).max() < 1e-3


def test_the_folder_has_what_the_runtime_needs_and_the_licence(root):
    source, folder = exported(root, "llama", "int8", tied=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json", "LICENSE"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    model = read(folder)
    assert (model.ends, model.reasons, model.bos, model.n_ctx) == ({0, 2}, True, (), 2048)
    assert model.card["quantization"] == "int8"
    assert model.sha256 == hash_file(folder / "model.onnx.data")
    assert {path.name for path in folder.iterdir()} == {*model.card["sha256"], "prlm.json"}
    assert not list(root.glob(".*.new"))


def test_a_tied_embedding_is_stored_once(root):
    apart, once = (exported(root, "llama", "int8", tied=tied).folder / "model.onnx.data" for tied in (False, True))
    assert apart.stat().st_size - once.stat().st_size > 330 * 64 * 3  # 32-bit rows gone, of which quarters were kept


def refused(error, text, *args, **kwargs):
    with pytest.raises(error, match=text) as caught:
        export_onnx(*args, **kwargs)
    assert "\n" not in str(caught.value) and caught.value.hint


def test_what_cannot_be_exported_is_refused_before_any_work(root, tmp_path, monkeypatch):
    source = exported(root, "llama", "f32").source
    refused(UsageError, "no ONNX quantization", source, tmp_path / "out", quant="q4_0")
    refused(UsageError, "there already", source, tmp_path)
    refused(UsageError, "no Hugging Face model", tmp_path, tmp_path / "out")
    other = tmp_path / "other"
    shutil.copytree(source, other)
    (other / "tokenizer.json").unlink()
    refused(UsageError, "tokenizer.json is missing", other, tmp_path / "out")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    refused(ModelError, "bert models", other, tmp_path / "out")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(MissingError, "needs onnxruntime-genai", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_torn_weights_and_a_full_disk_leave_nothing(root, tmp_path):
    source = exported(root, "llama", "f32").source
    torn = tmp_path / "torn"
    shutil.copytree(source, torn)
    data = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(data[: len(data) // 2])
    refused(ModelError, "can't build it", torn, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torn"]
    with mounted(tmp_path / "disk", "size=1m") as disk, filled(disk, 200_000):
        refused(PrlmError, "No space left", source, disk / "out")
        assert [path.name for path in disk.iterdir()] == ["filler"]
