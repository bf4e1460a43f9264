"""A merge says what the adapter says over its base; of two bases the one that was trained on is chosen."""

import hashlib
import json

import pytest
from helpers import filled, mounted
from tiny_lm import SIZES, make_adapter, make_lm

torch = pytest.importorskip("torch")

from prlm_edge.errors import ModelError, PrlmError, UsageError  # noqa: E402
from prlm_edge.export import merge as merging  # noqa: E402
from prlm_edge.export.measure import compare, hf_logprobs, probes  # noqa: E402
from prlm_edge.train.config import BaseConfig  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Base and adapter; small updates, as training makes them."""
    work = tmp_path_factory.mktemp("merge")
    folder = make_lm(work / "base", "llama", tie_word_embeddings=True, std=0.1)
    return folder, make_adapter(folder, work / "adapter")


@pytest.fixture(scope="module")
def wanted():
    generator = torch.Generator().manual_seed(0)
    return probes(torch.randint(0, SIZES["vocab_size"], (3, 60), generator=generator).tolist(), per_sequence=30)


def policy(made, precision="fp32"):
    return merging.trained_policy(*made, BaseConfig(precision=precision))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_folder_says_what_the_policy_says(made, wanted, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = tmp_path / "merged"
    target.mkdir()
    (target / "old").touch()
    merging.merge(*made, target)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert not (target / "old").exists()
    config = json.loads((target / "config.json").read_text())
    assert (config["dtype"], config["use_cache"]) == ("float16", True)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert digest(target / name) == digest(made[0] / name)
    assert AutoTokenizer.from_pretrained(target).eos_token == "<|im_end|>"
    said = list(hf_logprobs(AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32), wanted))
    trained = list(hf_logprobs(policy(made), wanted))
    assert compare(wanted, trained, said).kl_max < 1e-5
    in_memory = compare(wanted, hf_logprobs(merging.merged(*made), wanted), said)
    assert in_memory.kl_max < 1e-9
    in_bf16 = merging.merged(*made).to(torch.bfloat16).to(torch.float32)
    assert compare(wanted, trained, hf_logprobs(in_bf16, wanted)).kl > 1e-5  # why not so


@pytest.mark.parametrize(("precision", "nearer"), [("fp32", "original"), ("nf4", "nf4")])
def test_the_base_that_was_trained_on_is_chosen(made, wanted, precision, nearer):
    choice = merging.choose(*made, BaseConfig(precision=precision), wanted)
    assert choice.base == nearer
    farther = next(of for of in merging.BASES if of != nearer)
    assert 20 * choice.found[nearer].kl < choice.found[farther].kl
    assert choice.found[nearer].positions == 90


def test_repacked_weights_are_refused(made):
    from bitsandbytes.functional import _convert_weight_packed_for_cpu
    from bitsandbytes.nn import Linear4bit

    from prlm_edge.train import base

    model = base.load_model(made[0], BaseConfig(precision="nf4"))
    if model.device.type != "cpu":
        pytest.skip("bitsandbytes repacks on CPUs")
    before = merging.dequantized(model)
    layer = next(one for one in model.modules() if isinstance(one, Linear4bit))
    layer.weight.data, layer.weight.quant_state = _convert_weight_packed_for_cpu(
        layer.weight.data, layer.weight.quant_state
    )
    with pytest.raises(ModelError, match=r"q_proj\.weight: repacked by bitsandbytes"):
        merging.dequantized(model)
    assert "lm_head.weight" not in before
    assert before["model.layers.1.mlp.down_proj.weight"].shape == (64, 128)


def test_an_adapter_of_another_model(made, tmp_path):
    other = make_lm(tmp_path / "other", "llama", intermediate_size=96)
    with pytest.raises(UsageError, match="does not fit this model"):
        merging.merge(other, made[1], tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_too_large_for_sixteen_bits(made, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(made[1] / "adapter_model.safetensors")
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name][0] = 1e7
    (tmp_path / "adapter").mkdir()
    save_file(tensors, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_bytes((made[1] / "adapter_config.json").read_bytes())
    with pytest.raises(ModelError, match="too large for 16 bits"):
        merging.merge(made[0], tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_full_disk(made, tmp_path):
    """Every step that writes says it in one line and leaves nothing behind."""
    from prlm_edge.export.gguf.bake import bake
    from prlm_edge.export.gguf.model import About, write_gguf
    from prlm_edge.export.gguf.quantize import quantize
    from prlm_edge.gguf.lora import write_lora_gguf

    about = About("Tiny", False)
    base, adapter = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    write_gguf(made[0], base, about)
    write_lora_gguf(made[1], json.loads((made[0] / "config.json").read_text()), adapter)
    steps = {
        "merge": lambda out: merging.merge(*made, out),
        "gguf": lambda out: write_gguf(made[0], out, about, dtype="f32"),
        "adapter": lambda out: write_lora_gguf(made[1], json.loads((made[0] / "config.json").read_text()), out),
        "quantize": lambda out: quantize(base, out, "q8_0"),
        "bake": lambda out: bake(base, adapter, out, "f32"),
    }
    with mounted(tmp_path / "small", "size=2m") as disk:
        for name, step in steps.items():
            with filled(disk, spare=20 * 1024), pytest.raises(PrlmError, match=r"No space left|MB are needed") as error:
                step(disk / "out")
            assert "\n" not in error.value.message
            assert list(disk.iterdir()) == [], name
            step(disk / "out")
            assert (disk / "out").exists()
            if (disk / "out").is_dir():
                for path in (disk / "out").iterdir():
                    path.unlink()
                (disk / "out").rmdir()
            else:
                (disk / "out").unlink()
