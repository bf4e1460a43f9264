"""A baked file says what the base says under the adapter, and what the merge in PyTorch says."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny_lm import SIZES, make_adapter, make_lm

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By architecture: base folder, adapter folder, base as f32 file, adapter as a file."""
    from prlm_edge.export.gguf.model import About, write_gguf
    from prlm_edge.gguf.lora import write_lora_gguf

    known = {}

    def make(arch):
        if arch not in known:
            work = tmp_path_factory.mktemp(arch)
            pre = "smollm" if arch == "llama" else "qwen2"
            folder = make_lm(work / "base", arch, pre=pre, tie_word_embeddings=arch != "qwen3")
            adapter = make_adapter(folder, work / "adapter", use_rslora=arch == "qwen2")
            write_gguf(folder, work / "base.gguf", About("Tiny", False, "apache-2.0"), dtype="f32")
            config = json.loads((folder / "config.json").read_text())
            write_lora_gguf(adapter, config, work / "adapter.gguf", reasons=True, tasks=("note",))
            known[arch] = folder, adapter, work / "base.gguf", work / "adapter.gguf"
        return known[arch]

    return make


def probes_of(n=3):
    from prlm_edge.export.measure import probes

    generator = torch.Generator().manual_seed(0)
    return probes(torch.randint(0, SIZES["vocab_size"], (n, 60), generator=generator).tolist(), per_sequence=30)


def merged(folder, adapter):
    import peft
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(base, adapter).merge_and_unload()


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_it_says_the_same(made, tmp_path, arch):
    from prlm_edge.backends.llama.backend import LlamaCpp
    from prlm_edge.export.gguf.bake import bake
    from prlm_edge.export.measure import compare, compare_gguf, gguf_logprobs, hf_logprobs

    folder, adapter, base_file, adapter_file = made(arch)
    out = tmp_path / "out" / "baked.gguf"
    assert bake(base_file, adapter_file, out, "f32") == 14
    assert [path.name for path in out.parent.iterdir()] == ["baked.gguf"]
    wanted = probes_of()
    said = list(gguf_logprobs(out, wanted))
    at_runtime = compare(wanted, list(gguf_logprobs(base_file, wanted, adapter_file)), said)
    in_pytorch = compare(wanted, list(hf_logprobs(merged(folder, adapter), wanted)), said)
    without = compare_gguf(base_file, wanted, said)
    assert at_runtime.kl_max < 1e-4 > in_pytorch.kl_max, (at_runtime, in_pytorch)
    assert without.kl > 0.1  # the adapter says something
    model = LlamaCpp(out)
    try:
        assert model.info.reasons  # as the adapter said, not the base
        assert model.info.adapter == "adapter"
        assert model.info.tasks == ("note",)
    finally:
        model.close()


def test_formats(made, tmp_path):
    from gguf import GGUFReader

    from prlm_edge.export.gguf.bake import bake
    from prlm_edge.export.measure import compare_gguf, gguf_logprobs

    _, _, base_file, adapter_file = made("qwen3")
    wanted = probes_of()
    reference = list(gguf_logprobs(base_file, wanted, adapter_file))
    found = {}
    for quant in (None, "f16", "q8_0", "q4_0", "q5_k_m"):
        out = tmp_path / f"{quant}.gguf"
        bake(base_file, adapter_file, out, quant)
        found[quant] = compare_gguf(out, wanted, reference).kl
        file = GGUFReader(out)
        kinds = {tensor.name: tensor.tensor_type.name for tensor in file.tensors}
        wide = {"f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0", None: "F32"}.get(quant)
        assert wide is None or kinds["blk.0.attn_q.weight"] == wide
        assert kinds["blk.0.attn_norm.weight"] == "F32"
        assert file.get_field("tokenizer.ggml.pre").contents() == "qwen2"
        assert file.get_field("general.license").contents() == "apache-2.0"
    assert found[None] < 1e-4 and found["f16"] < 1e-4 < found["q8_0"] < found["q5_k_m"] < found["q4_0"], found
    # a quantized base keeps its format: both sums are taken from the same rounded weights
    bake(tmp_path / "q8_0.gguf", adapter_file, tmp_path / "again.gguf")
    kinds = [GGUFReader(tmp_path / name).tensors for name in ("q8_0.gguf", "again.gguf")]
    assert [tensor.tensor_type for tensor in kinds[0]] == [tensor.tensor_type for tensor in kinds[1]]
    over = list(gguf_logprobs(tmp_path / "q8_0.gguf", wanted, adapter_file))
    assert compare_gguf(tmp_path / "again.gguf", wanted, over).kl < 0.02
    bake(tmp_path / "q5_k_m.gguf", adapter_file, tmp_path / "small.gguf", "q4_0")
    both = (GGUFReader(tmp_path / name).tensors for name in ("q5_k_m.gguf", "small.gguf"))
    before, after = ({tensor.name: tensor for tensor in tensors} for tensors in both)
    assert after["output.weight"].tensor_type.name == "Q8_0"
    assert after["token_embd.weight"].tensor_type == before["token_embd.weight"].tensor_type
    assert after["token_embd.weight"].data.tobytes() == before["token_embd.weight"].data.tobytes()
    bake(tmp_path / "q5_k_m.gguf", adapter_file, tmp_path / "wide.gguf", "f16")  # numpy reads what it can't write
    over = list(gguf_logprobs(tmp_path / "q5_k_m.gguf", wanted, adapter_file))
    assert compare_gguf(tmp_path / "wide.gguf", wanted, over).kl < 0.02


def test_a_large_matrix_is_computed_some_rows_at_a_time(made, tmp_path, monkeypatch):
    from gguf import GGUFReader

    from prlm_edge.gguf import merge

    _, _, base_file, adapter_file = made("qwen2")
    merge.merge(base_file, adapter_file, tmp_path / "at_once.gguf", "f32")
    monkeypatch.setattr(merge, "_BLOCK", 1000)
    merge.merge(base_file, adapter_file, tmp_path / "in_blocks.gguf", "f32")
    files = [GGUFReader(tmp_path / name).tensors for name in ("at_once.gguf", "in_blocks.gguf")]
    for one, other in zip(*files, strict=True):
        assert one.name == other.name and np.allclose(one.data, other.data, atol=1e-5)


def test_without_torch(made, tmp_path):
    _, _, base_file, adapter_file = made("llama")
    code = (
        "import sys; [sys.modules.__setitem__(n, None) for n in ('torch', 'transformers', 'peft', 'llama_cpp')];"
        "from pathlib import Path; from prlm_edge.export.gguf.bake import bake\n"
        "from prlm_edge.errors import MissingError\n"
        "base, adapter, out, wide = map(Path, sys.argv[1:])\n"
        "print(bake(base, adapter, out, 'q8_0'))\n"
        "try: bake(base, adapter, wide, 'q4_k_m')\n"
        "except MissingError as error: print(error.hint)"
    )
    arguments = [base_file, adapter_file, tmp_path / "q8.gguf", tmp_path / "none.gguf"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["14", 'pip install "prlm-edge[gguf]"'], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["q8.gguf"]


def test_what_does_not_fit_is_refused(made, tmp_path):
    from prlm_edge.errors import ModelError, UsageError
    from prlm_edge.export.gguf.bake import bake

    _, _, base_file, adapter_file = made("llama")
    _, _, other_base, other = made("qwen3")
    out = tmp_path / "out.gguf"
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(adapter_file.read_bytes()[:-500])
    no_text = tmp_path / "no_text.gguf"
    no_text.write_bytes(base_file.read_bytes().replace(b"apache-2.0", b"apache-2.\xff"))
    for base, adapter, message in (
        (base_file, other, "an adapter of qwen3 models"),
        (base_file, base_file, "not a LoRA adapter"),
        (adapter_file, adapter_file, "an adapter, not a model"),
        (base_file, torn, "not a GGUF file, or a damaged one"),
        (no_text, adapter_file, "not a GGUF file, or a damaged one"),
        (other_base, adapter_file, "an adapter of llama models"),
    ):
        with pytest.raises(ModelError, match=message) as error:
            bake(base, adapter, out)
        assert "\n" not in error.value.message
    with pytest.raises(UsageError, match="unknown format"):
        bake(base_file, adapter_file, out, "q2")
    with pytest.raises(UsageError, match="no such file"):
        bake(tmp_path / "none.gguf", adapter_file, out)
    mine = shutil.copy(base_file, tmp_path / "mine.gguf")
    with pytest.raises(UsageError, match="one of the files"):
        bake(mine, adapter_file, mine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.gguf", "no_text.gguf", "torn.gguf"]


def test_an_adapter_of_a_larger_model(made, tmp_path):
    from prlm_edge.errors import ModelError
    from prlm_edge.export.gguf.bake import bake
    from prlm_edge.export.gguf.model import About, write_gguf

    folder = make_lm(tmp_path / "other", "llama", intermediate_size=96)
    write_gguf(folder, tmp_path / "other.gguf", About("Other", False))
    with pytest.raises(ModelError, match=r"does not fit .*ffn_.* is \("):
        bake(tmp_path / "other.gguf", made("llama")[3], tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_numpy_rounds_as_llama_cpp_does(made, tmp_path):
    """The eight-bit file made here is, weight for weight, the one that llama.cpp makes."""
    from gguf import GGUFReader

    from prlm_edge.export.gguf.bake import bake
    from prlm_edge.export.gguf.quantize import quantize

    _, _, base_file, adapter_file = made("qwen2")
    bake(base_file, adapter_file, tmp_path / "f32.gguf", "f32")
    bake(base_file, adapter_file, tmp_path / "ours.gguf", "q8_0")
    quantize(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", "q8_0")
    ours, theirs = ({t.name: t for t in GGUFReader(tmp_path / n).tensors} for n in ("ours.gguf", "theirs.gguf"))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.tensor_type == theirs[name].tensor_type
        assert np.mean(tensor.data == theirs[name].data) > 0.999, name  # rounding halves apart


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_an_adapter_comes_back_as_the_folder_it_was(made, tmp_path, arch):
    from safetensors.torch import load_file

    from prlm_edge.gguf.lora import write_lora_gguf, write_peft

    folder, adapter, _, adapter_file = made(arch)
    config = json.loads((folder / "config.json").read_text())
    half = tmp_path / "half.gguf"
    write_lora_gguf(adapter, config, half, dtype="f16")
    before = load_file(adapter / "adapter_model.safetensors")
    for file, dtype in ((adapter_file, torch.float32), (half, torch.float16)):
        write_peft(file, config, tmp_path / "again")
        after = load_file(tmp_path / "again" / "adapter_model.safetensors")
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key], before[key].to(dtype).float()) for key in before)
        says = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
        assert says["r"] == 4 and len(says["target_modules"]) == 7
    wanted = probes_of(1)
    from prlm_edge.export.measure import compare, hf_logprobs

    both = [list(hf_logprobs(merged(folder, one), wanted)) for one in (adapter, tmp_path / "again")]
    assert compare(wanted, *both).kl_max < 1e-4  # alpha too, in the plain scale
    write_lora_gguf(tmp_path / "again", config, tmp_path / "again.gguf", reasons=True, tasks=("note",), dtype="f16")
    write_lora_gguf(adapter, config, half, reasons=True, tasks=("note",), dtype="f16")
    assert (tmp_path / "again.gguf").read_bytes() == half.read_bytes()


def test_a_folder_is_written_of_an_adapter_of_this_model_alone(made, tmp_path):
    from prlm_edge.errors import ModelError
    from prlm_edge.gguf.lora import write_peft

    folder, _, base_file, _ = made("llama")
    config = json.loads((folder / "config.json").read_text())
    for file, why in ((made("qwen3")[3], "an adapter of qwen3 models"), (base_file, "not a LoRA adapter")):
        with pytest.raises(ModelError, match=why):
            write_peft(file, config, tmp_path / "out")
        assert not (tmp_path / "out").exists()
