"""Importance matrices are what they say, quantizing uses them and prints nothing, and the choice follows its rule."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from tiny_lm import SIZES, make_lm

torch = pytest.importorskip("torch")
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "head_dim": 64, "std": 0.07}


def ids(n, length=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, SIZES["vocab_size"], (n, length), generator=generator).tolist()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model wide enough for K-quants: its folder, itself, an f32 file."""
    from transformers import AutoModelForCausalLM

    from prlm_edge.export.gguf.model import About, write_gguf

    folder = make_lm(tmp_path_factory.mktemp("tiny"), "llama", tie_word_embeddings=True, **WIDE)
    write_gguf(folder, folder / "f32.gguf", About("Tiny", False), dtype="f32")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():  # a few columns matter much more than others, as in trained models
        for name, weight in model.named_parameters():
            if name.endswith("layernorm.weight"):
                weight[::8] *= 8
    model.save_pretrained(folder)
    write_gguf(folder, folder / "f32.gguf", About("Tiny", False), dtype="f32")
    return folder, model, folder / "f32.gguf"


@pytest.fixture(scope="module")
def matrix(tiny):
    from prlm_edge.export.gguf.imatrix import collect

    return collect(tiny[1], ids(4))


def test_the_matrix_is_the_mean_square_of_what_layers_read(tiny, matrix):
    _, model, _ = tiny
    tokens = torch.tensor(ids(4))
    with torch.no_grad():
        x = model.model.layers[0].input_layernorm(model.model.embed_tokens(tokens))
    expected = x.square().mean((0, 1)).numpy()
    for name in ("attn_q", "attn_k", "attn_v"):
        assert np.allclose(matrix[f"blk.0.{name}.weight"], expected, rtol=1e-4)
    assert len(matrix) == 2 * 7 + 1
    assert matrix["blk.1.ffn_down.weight"].shape == (512,)
    with torch.no_grad():
        last = model.model(tokens).last_hidden_state.square().mean((0, 1)).numpy()
    assert np.allclose(matrix["token_embd.weight"], last, rtol=1e-4)
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_it_is_kept(tmp_path, matrix):
    from prlm_edge.export.gguf.imatrix import load, save

    save(tmp_path / "im.npz", matrix)
    found = load(tmp_path / "im.npz")
    assert all(np.array_equal(found[name], matrix[name]) for name in matrix) and len(found) == len(matrix)


@pytest.fixture(scope="module")
def judged(tiny, matrix, tmp_path_factory):
    """Agreement of each format with the model, with and without the matrix."""
    from prlm_edge.export.gguf.quantize import FTYPES, quantize
    from prlm_edge.export.measure import compare_gguf, hf_logprobs, probes

    _, model, file = tiny
    wanted = probes(ids(4, seed=1), per_sequence=40)
    reference = list(hf_logprobs(model, wanted))
    work, found = tmp_path_factory.mktemp("quants"), {}
    for quant in FTYPES:
        for importances in (None, matrix):
            target = work / f"{quant}-{importances is not None}.gguf"
            quantize(file, target, quant, importances)
            agreement = compare_gguf(target, wanted, reference)
            found[quant, importances is not None] = agreement.kl, target.stat().st_size
    assert len(list(work.iterdir())) == 2 * len(FTYPES)
    return found


def test_smaller_files_diverge_more(judged):
    kl = {quant: value for (quant, with_it), (value, _) in judged.items() if not with_it}
    size = {quant: value for (quant, with_it), (_, value) in judged.items() if not with_it}
    assert size["f16"] > size["q8_0"] > size["q5_k_m"] > size["q4_k_m"]
    assert size["q8_0"] > size["q4_0"]
    assert kl["f16"] < 1e-4 < kl["q8_0"] < kl["q5_k_m"] < min(kl["q4_k_m"], kl["q4_0"]), kl


def test_the_matrix_is_used(judged):
    for quant in ("q4_0", "q4_k_m", "q5_k_m"):
        assert judged[quant, True][0] < 0.9 * judged[quant, False][0], judged
        assert judged[quant, True][1] == judged[quant, False][1]


def test_what_cannot_be_made(tiny, matrix, tmp_path):
    from prlm_edge.errors import ModelError, UsageError
    from prlm_edge.export.gguf.quantize import quantize

    with pytest.raises(UsageError, match="unknown format 'q3'"):
        quantize(tiny[2], tmp_path / "x.gguf", "q3")
    with pytest.raises(UsageError, match="no such model file"):
        quantize(tmp_path / "none.gguf", tmp_path / "x.gguf", "q4_0")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(ModelError, match="can't make q4_0 of it"):
        quantize(tmp_path / "bad.gguf", tmp_path / "x.gguf", "q4_0")
    others = {name: values[:32] for name, values in matrix.items()}
    with pytest.raises(ModelError, match="can't make q4_0 of it"):
        quantize(tiny[2], tmp_path / "x.gguf", "q4_0", others)
    assert [one.name for one in tmp_path.iterdir()] == ["bad.gguf"]


def test_nothing_is_printed(tiny, tmp_path):
    code = (
        "import sys; from pathlib import Path; from prlm_edge.export.gguf.quantize import quantize;"
        "quantize(Path(sys.argv[1]), Path(sys.argv[2]), 'q4_k_m')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny[2]), str(tmp_path / "q.gguf")], capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (tmp_path / "q.gguf").stat().st_size > 100_000


def test_a_row_is_measured(tiny):
    from prlm_edge.export.gguf.quantize import measured
    from prlm_edge.export.measure import hf_logprobs, probes

    _, model, file = tiny
    wanted = probes(ids(2))
    row = measured("f32", file, wanted, list(hf_logprobs(model, wanted)), ids(1, length=300)[0])
    assert row.size == file.stat().st_size and row.kl < 1e-4 and row.top1 > 0.95
    assert row.prompt_tps > 0 and row.decode_tps > 0


def test_the_choice():
    from prlm_edge.errors import PrlmError, UsageError
    from prlm_edge.export.gguf.quantize import FormatRow, choose

    f16 = FormatRow("f16", 270, 0.0001, 1.0, 9.0, 300.0, 40.0)
    q8 = FormatRow("q8_0", 145, 0.004, 0.97, 9.1, 700.0, 70.0)
    q4 = FormatRow("q4_0", 92, 0.2, 0.8, 11.0, 800.0, 90.0)
    k4 = FormatRow("q4_k_m", 105, 0.05, 0.9, 9.5, 300.0, 80.0)
    rows = [f16, q8, q4, k4]
    assert choose(rows, 0.5) == q4  # the fastest
    assert choose(rows, 0.1) == q8  # faster than the smaller one
    assert choose(rows, 0.001) == f16
    slower = dataclasses.replace(q4, prompt_tps=670.0, decode_tps=65.0)
    assert choose([q8, slower], 0.5) == slower  # nearly as fast, and smaller
    worse = dataclasses.replace(q4, rougeL=0.2, rougeL_low=-0.1, rougeL_high=-0.01)
    assert choose([q8, worse], 0.5) == q8  # answers less well, by more than chance
    by_chance = dataclasses.replace(worse, rougeL_high=0.01)
    assert choose([q8, by_chance], 0.5) == by_chance
    hardly = dataclasses.replace(worse, rougeL_low=-0.017, rougeL_high=-0.0004)
    assert choose([q8, hardly], 0.5) == hardly  # no more than rounding to 16 bits may do
    with pytest.raises(PrlmError, match=r"writes worse .* q4_0 with ROUGE-L 0\.200"):
        choose([worse, dataclasses.replace(k4, kl=0.9)], 0.5)
    with pytest.raises(PrlmError, match=r"nearest is f16 with 0\.0001"):
        choose(rows, 0.00001)
    with pytest.raises(PrlmError):
        choose([dataclasses.replace(q8, kl=float("nan"))], 1.0)
    with pytest.raises(UsageError):
        choose([], 0.1)
