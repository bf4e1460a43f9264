"""A LoRA adapter as a GGUF file: it says over its base what PEFT says, is swapped, refuses what it can't express."""

import json

import pytest
from tiny_lm import SIZES, edit, make_adapter, make_lm

torch = pytest.importorskip("torch")
pytest.importorskip("llama_cpp")

from prlm_edge.backends.llama.backend import LlamaCpp  # noqa: E402
from prlm_edge.errors import ModelError, UsageError  # noqa: E402
from prlm_edge.export import merge  # noqa: E402
from prlm_edge.export.gguf.model import About, write_gguf  # noqa: E402
from prlm_edge.export.measure import compare_gguf, hf_logprobs, probes  # noqa: E402
from prlm_edge.gguf.lora import write_lora_gguf  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A base, an adapter of it, the base's GGUF file and its config."""
    work = tmp_path_factory.mktemp("lora")
    base = make_lm(work / "base", "llama", tie_word_embeddings=True)
    write_gguf(base, work / "base.gguf", About("Tiny", False), dtype="f32")
    config = json.loads((base / "config.json").read_text())
    return base, make_adapter(base, work / "adapter"), work / "base.gguf", config


def test_it_says_over_its_base_what_peft_says(made, tmp_path):
    base, adapter, file, config = made
    out = tmp_path / "mine.gguf"
    assert write_lora_gguf(adapter, config, out) == 2 * 7
    assert [path.name for path in tmp_path.iterdir()] == ["mine.gguf"]
    generator = torch.Generator().manual_seed(0)
    wanted = probes(torch.randint(0, SIZES["vocab_size"], (2, 60), generator=generator).tolist(), per_sequence=30)
    said = list(hf_logprobs(merge.adapted(base, adapter), wanted))
    with_it, without = (compare_gguf(file, wanted, said, adapter=one).kl for one in (out, None))
    assert with_it < 1e-4 < 0.01 < without


def test_it_is_swapped_and_a_wrong_one_leaves_the_one_before(made, tmp_path):
    _, adapter, file, config = made
    write_lora_gguf(adapter, config, tmp_path / "good.gguf", tasks=("note", "title"))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nothing")
    backend = LlamaCpp(file, adapter=tmp_path / "good.gguf")
    assert backend.info.tasks == ("note", "title")
    try:
        backend.set_adapter(None)
        assert backend.info.adapter == ""
        backend.set_adapter(tmp_path / "good.gguf")
        with pytest.raises(ModelError, match="can't apply it"):
            backend.set_adapter(tmp_path / "bad.gguf")
        with pytest.raises(UsageError, match="no such adapter"):
            backend.set_adapter(tmp_path / "none.gguf")
        with pytest.raises(ModelError, match="can't apply it"):
            backend.set_adapter(file)
        assert backend.info.adapter == "good"
    finally:
        backend.close()


@pytest.mark.parametrize(
    "change", [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"peft_type": "IA3"}]
)
def test_what_the_format_cannot_express_is_refused(made, tmp_path, change):
    _, adapter, _, config = made
    for path in adapter.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    edit(tmp_path / "adapter_config.json", **change)
    with pytest.raises(ModelError, match="can't hold it"):
        write_lora_gguf(tmp_path, config, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


SOUND = '{"peft_type": "LORA", "r": 8, "lora_alpha": 16}'


@pytest.mark.parametrize(
    "config", ["[]", "{}", "[" * 100_000, SOUND.replace("8", "0"), SOUND.replace("16", "1e999"), SOUND]
)
def test_a_damaged_adapter_is_refused(tmp_path, config):
    (tmp_path / "adapter_config.json").write_text(config)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(ModelError, match="no adapter can be read there"):
        write_lora_gguf(tmp_path, {"model_type": "llama"}, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
