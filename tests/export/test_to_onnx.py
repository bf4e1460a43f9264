"""A GGUF file as an ONNX folder (`prlm_edge.gguf.to_onnx`): the same numbers and token ids, and llama.cpp's answers."""

import json

import numpy as np
import pytest
from test_gguf import CASES, about, probes_of
from tiny_lm import TEXTS, make_lm

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

FORMATS = ("f32", "q8_0", "q4_0")
#: Matrices of the graph -> the tensors that stand in them, one above the other.
STACKED = {"qkv": ("attn_q", "attn_k", "attn_v")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A maker of (Hugging Face folder, GGUF file, ONNX folder) by a case and a format; each is made once."""
    from prlm_edge.export.gguf.model import write_gguf
    from prlm_edge.export.gguf.quantize import quantize
    from prlm_edge.gguf.to_onnx.convert import convert

    known = {}

    def make(case, format):
        if (case, format) not in known:
            arch, values = CASES[case]
            folder = make_lm(tmp_path_factory.mktemp(case), arch, **values)
            write_gguf(folder, folder / "f32.gguf", about(), dtype="f32")
            if format != "f32":
                quantize(folder / "f32.gguf", folder / f"{format}.gguf", format)
            convert(folder / f"{format}.gguf", folder / "onnx")
            known[case, format] = folder, folder / f"{format}.gguf", folder / "onnx"
        return known[case, format]

    return make


def dequantized(node, tensors):
    """A `MatMulNBits` node's matrix, as ONNX Runtime's documentation describes the bytes."""
    how = {one.name: one.i for one in node.attribute}
    numbers, scales = (tensors[name] for name in node.input[1:3])
    if how["bits"] == 4:
        numbers = np.stack([numbers & 15, numbers >> 4], axis=-1)
    values = numbers.reshape(how["N"], -1, 32).astype(np.float32) - 2 ** (how["bits"] - 1)
    return (values * scales.reshape(how["N"], -1, 1)).reshape(how["N"], how["K"])


@pytest.mark.parametrize("format", ["q8_0", "q4_0"])
@pytest.mark.parametrize("case", ["llama", "llama-untied", "qwen2"])
def test_weights_are_those_of_the_file(made, case, format):
    import gguf

    _, file, folder = made(case, format)
    read = {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in gguf.GGUFReader(file).tensors}
    model = onnx.load(folder / "model.onnx")
    tensors = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    for node in products:
        block, _, part = node.name.removesuffix(".product").rpartition(".")
        parts = STACKED.get(part, (part,))
        names = [f"{block}.{one}.weight" if block else "output.weight" for one in parts]
        if names == ["output.weight"] and names[0] not in read:
            names = ["token_embd.weight"]
        np.testing.assert_array_equal(dequantized(node, tensors), np.concatenate([read.pop(name) for name in names]))
        if len(node.input) > 5:
            bias = [read.pop(f"{block}.{one}.bias") for one in parts]
            np.testing.assert_array_equal(tensors[node.input[5]], np.concatenate(bias))
    rows, scales = tensors["embedding_rows"], tensors["embedding_scales"]
    lookup = next(node for node in model.graph.node if node.op_type == "GatherBlockQuantized")
    bits = next(one.i for one in lookup.attribute if one.name == "bits")
    if bits == 4:
        rows = np.stack([rows & 15, rows >> 4], axis=-1)
    embedding = (rows.reshape(*scales.shape, 32).astype(np.float32) - 2 ** (bits - 1)) * scales[..., None]
    tied = read.pop("token_embd.weight", None)
    assert tied is None or np.array_equal(embedding.reshape(len(rows), -1), tied)
    for name in [name for name in read if "norm" in name]:
        np.testing.assert_array_equal(tensors[name], read.pop(name))
    assert not read


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("case", ["llama", "llama-untied", "llama3", "qwen2"])
def test_it_says_the_same(made, case, format):
    """Both round what they multiply with the blocks to 8 bits, each in its way."""
    from prlm_edge.export.measure import compare, gguf_logprobs
    from prlm_edge.export.onnx.model import onnx_logprobs

    folder, file, target = made(case, format)
    wanted = probes_of(folder)
    found = compare(wanted, gguf_logprobs(file, wanted), onnx_logprobs(target, wanted))
    assert found.kl < 0.01, found
    assert abs(found.perplexity / found.reference_perplexity - 1) < 0.02


@pytest.mark.parametrize("case", ["llama", "qwen2", "llama3"])
def test_token_ids_and_card_are_equal(made, case):
    from prlm_edge.backends.llama.backend import LlamaCpp
    from prlm_edge.backends.onnx.backend import Onnx

    _, file, target = made(case, "q8_0")
    theirs, ours = LlamaCpp(file), Onnx(target)
    for text in TEXTS:
        for trusted in (False, True):
            wanted = theirs._vocab.encode_text(text, trusted=trusted)
            assert ours._vocab.encode_text(text, trusted=trusted) == wanted, text
            assert [ours._vocab.piece(one) for one in wanted] == [theirs._vocab.piece(one) for one in wanted]
    assert ours._vocab.with_bos([5]) == theirs._vocab.with_bos([5])
    assert [ours._vocab.is_end(one) for one in range(400)] == [theirs._vocab.is_end(one) for one in range(400)]
    same = ("n_ctx_max", "reasons", "tasks", "adapter", "n_parameters")
    assert [getattr(ours.info, one) for one in same] == [getattr(theirs.info, one) for one in same]


@pytest.mark.parametrize(
    ("case", "said"),
    [("qwen3", "qwen3 models"), ("llama-linear", "of this kind"), ("llama-bias", "attn_output.bias")],
)
def test_what_the_graph_has_not_is_refused(made, case, said):
    from prlm_edge.errors import ModelError

    with pytest.raises(ModelError, match=said) as caught:
        made(case, "q8_0")
    assert "prlm-edge[gguf]" in caught.value.hint


def test_a_damaged_file_leaves_nothing(made, tmp_path):
    from prlm_edge.errors import ModelError
    from prlm_edge.gguf.to_onnx.convert import convert

    whole = made("qwen2", "q8_0")[1].read_bytes()
    for cut in (3, len(whole) // 4, len(whole) - 5000):
        (tmp_path / "torn.gguf").write_bytes(whole[:cut])
        with pytest.raises(ModelError):
            convert(tmp_path / "torn.gguf", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["torn.gguf"]


def test_the_card_knows_its_files(made):
    from prlm_edge.backends.onnx import folder as onnx_folder
    from prlm_edge.errors import ModelError

    target = made("llama", "q4_0")[2]
    card = json.loads((target / "prlm.json").read_text())
    assert set(card["sha256"]) == {path.name for path in target.iterdir()} - {"prlm.json"}
    weights = bytearray((target / "model.onnx.data").read_bytes())
    weights[-1] ^= 1
    (target / "model.onnx.data").write_bytes(weights)
    with pytest.raises(ModelError, match="not the file"):
        onnx_folder.read(target)
