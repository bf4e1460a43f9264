"""A LoRA adapter in GGUF says over llama.cpp what it says over the Hugging Face model."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.model

TEXT = "The oven was cold, but the rye had risen overnight and filled the bowl; we named it"
CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none"}


@pytest.fixture(scope="module")
def adapted(smollm2_folder, tmp_path_factory):
    """The real model with a random adapter strong enough to change what it says, its folder and what it says."""
    from prlm_edge.train import base, config

    recipe = config.load("edge-cpu", ["base.precision=fp32", "lora.r=8", "lora.alpha=16"])
    torch.manual_seed(1)  # of A too
    model = base.add_adapter(base.load_model(smollm2_folder, recipe.base), recipe.lora, checkpointing=False, nf4=False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    tokens = base.load_tokens(smollm2_folder, 512).encode_text(TEXT)
    with torch.no_grad():
        said = model(torch.tensor([tokens])).logits[0].log_softmax(-1).double().numpy()
    return folder, json.loads((smollm2_folder / "config.json").read_text()), tokens, said


def llama_logprobs(backend, tokens):
    from prlm_edge.backends.llama.slots import LlamaSlots, Threads

    slots = LlamaSlots(backend._lib, backend._weights, 512, Threads(1, 1), n_batch=512)
    try:
        slots.append([(0, tokens)], wanted=range(len(tokens)))
        logits = torch.tensor(np.stack([slots.logits(row) for row in range(len(tokens))])).double()
    finally:
        slots.close()
    return logits.log_softmax(-1).numpy()


def divergence(p, q):
    """Mean KL(p || q) in nats a token."""
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def test_it_says_the_same(adapted, original_path, tmp_path):
    from prlm_edge.backends.llama.backend import LlamaCpp
    from prlm_edge.gguf.lora import write_lora_gguf

    folder, model_config, tokens, said = adapted
    file = tmp_path / "mine.gguf"
    assert write_lora_gguf(folder, model_config, file) == 30 * 7
    assert [path.name for path in tmp_path.iterdir()] == ["mine.gguf"]
    backend = LlamaCpp(original_path, adapter=file)
    try:
        assert backend.info.adapter == "mine"
        with_it = divergence(said, llama_logprobs(backend, tokens))
        backend.set_adapter(None)
        without = divergence(said, llama_logprobs(backend, tokens))
        backend.set_adapter(file)
        again = divergence(said, llama_logprobs(backend, tokens))
    finally:
        backend.close()
    assert 30 * with_it < without > 0.1, (with_it, without)  # what quantized activations differ by grows with it
    assert again == with_it


@pytest.mark.parametrize(
    "change", [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"peft_type": "IA3"}]
)
def test_what_the_format_cannot_say_is_refused(adapted, tmp_path, change):
    from prlm_edge.errors import ModelError
    from prlm_edge.gguf.lora import write_lora_gguf

    folder, model_config, _, _ = adapted
    (tmp_path / "adapter_model.safetensors").symlink_to(folder / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(ModelError, match="can't hold it"):
        write_lora_gguf(tmp_path, model_config, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_a_wrong_adapter_leaves_the_one_before(adapted, smollm2_path, tmp_path):
    from prlm_edge.backends.llama.backend import LlamaCpp
    from prlm_edge.errors import ModelError, UsageError
    from prlm_edge.gguf.lora import write_lora_gguf

    folder, model_config, _, _ = adapted
    write_lora_gguf(folder, model_config, tmp_path / "good.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nothing")
    backend = LlamaCpp(smollm2_path, adapter=tmp_path / "good.gguf")
    try:
        with pytest.raises(ModelError, match="can't apply it"):
            backend.set_adapter(tmp_path / "bad.gguf")
        with pytest.raises(UsageError, match="no such adapter"):
            backend.set_adapter(tmp_path / "none.gguf")
        with pytest.raises(ModelError, match="can't apply it"):
            backend.set_adapter(smollm2_path)
        assert backend.info.adapter == "good"
    finally:
        backend.close()
