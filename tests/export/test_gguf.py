"""A GGUF file says and tokenizes what the Hugging Face model does; what it can't say is refused."""

import json
import shutil

import pytest
from tiny_lm import SIZES, TEXTS, edit, make_lm, make_tokenizer

torch = pytest.importorskip("torch")

CASES = {
    "llama": ("llama", {"tie_word_embeddings": True}),
    "llama-untied": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "head_dim": 32}),
    "llama-bias": ("llama", {"attention_bias": True}),
    "llama-linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}}),
    "llama3": (
        "llama",
        {
            "pre": "llama-bpe",
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 1000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "qwen2": ("qwen2", {"pre": "qwen2", "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"pre": "qwen2", "head_dim": 32}),
}


def about(**values):
    from prlm_edge.export.gguf.model import About

    return About(**{"name": "Tiny", "reasons": True, "licence": "apache-2.0", "base_model": "SmolLM2", **values})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A maker of (folder, f32 GGUF file) by the name of a case; each is made once."""
    from prlm_edge.export.gguf.model import write_gguf

    known = {}

    def make(case):
        if case not in known:
            arch, values = CASES[case]
            folder = make_lm(tmp_path_factory.mktemp(case), arch, **values)
            target = folder / "out" / "model.gguf"
            write_gguf(folder, target, about(), dtype="f32")
            assert [path.name for path in target.parent.iterdir()] == ["model.gguf"]
            known[case] = folder, target
        return known[case]

    return make


def probes_of(folder, n=3):
    from prlm_edge.export.measure import probes

    generator = torch.Generator().manual_seed(0)
    return probes(torch.randint(0, SIZES["vocab_size"], (n, 90), generator=generator).tolist(), per_sequence=40)


def hf(folder, **options):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)


@pytest.mark.parametrize("case", CASES)
def test_it_says_the_same(made, case):
    from prlm_edge.export.measure import compare_gguf, hf_logprobs

    folder, file = made(case)
    wanted = probes_of(folder)
    reference = list(hf_logprobs(hf(folder), wanted))
    found = compare_gguf(file, wanted, reference)
    spread = reference[0].std()
    assert spread > 1  # it has something to say
    assert found.positions == 120
    assert found.kl_max < 1e-4, found  # llama.cpp keeps keys and values in 16 bits
    assert found.top1_tied == 1
    assert abs(found.perplexity / found.reference_perplexity - 1) < 1e-2


def test_rows_out_of_place_would_show(made, monkeypatch):
    """What the tolerance of `test_it_says_the_same` is worth."""
    from prlm_edge.export.gguf import model as writer
    from prlm_edge.export.measure import compare_gguf, hf_logprobs

    folder, _ = made("llama")
    monkeypatch.setattr(writer, "rows_for_llama", lambda module, rows, config: rows)
    writer.write_gguf(folder, folder / "wrong.gguf", about(), dtype="f32")
    wanted = probes_of(folder)
    assert compare_gguf(folder / "wrong.gguf", wanted, hf_logprobs(hf(folder), wanted)).kl > 0.01


@pytest.mark.parametrize("case", ["llama", "qwen2", "llama3"])
def test_token_ids_are_equal(made, case):
    from prlm_edge.backends.llama.backend import LlamaCpp
    from prlm_edge.train.base import load_tokens

    folder, file = made(case)
    theirs = load_tokens(folder, 512)
    ours = LlamaCpp(file)
    try:
        for text in TEXTS:
            for trusted in (False, True):
                wanted = theirs.encode_text(text, trusted=trusted)
                assert ours._vocab.encode_text(text, trusted=trusted) == wanted, text
        assert len(theirs.encode_text("<|im_end|><think>", trusted=True)) == 2
    finally:
        ours.close()


def test_what_it_says_of_itself(made):
    from gguf import GGUFReader, TokenType

    from prlm_edge.backends.llama.backend import LlamaCpp

    _, file = made("qwen3")
    says = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    assert (says["general.name"], says["general.license"]) == ("Tiny", "apache-2.0")
    assert says["general.base_model.0.name"] == "SmolLM2"
    assert says["qwen3.rope.freq_base"] == 10000
    assert says["qwen3.attention.key_length"] == 32
    assert says["tokenizer.chat_template"].startswith("{% for message in messages %}<|im_start|>")
    assert says["tokenizer.ggml.pre"] == "qwen2"
    kinds = says["tokenizer.ggml.token_type"]
    spelled = says["tokenizer.ggml.tokens"]
    assert len(kinds) == len(spelled) == SIZES["vocab_size"]
    assert kinds[2] == TokenType.CONTROL
    assert kinds[spelled.index("<think>")] == TokenType.USER_DEFINED
    assert kinds[-1] == TokenType.UNUSED
    model = LlamaCpp(file)
    try:
        assert model.info.reasons
        assert [id for id in range(SIZES["vocab_size"]) if model._vocab.is_end(id)] == [0, 2]
    finally:
        model.close()


def test_every_end_of_turn_is_known(tmp_path):
    from prlm_edge.backends.llama.backend import LlamaCpp
    from prlm_edge.errors import ModelError
    from prlm_edge.export.gguf.model import write_gguf

    folder = make_lm(tmp_path / "m", "qwen2", pre="qwen2")
    edit(folder / "generation_config.json", eos_token_id=[2, 7, 9])
    write_gguf(folder, tmp_path / "m.gguf", about(reasons=False))
    model = LlamaCpp(tmp_path / "m.gguf")
    try:
        assert not model.info.reasons
        assert all(model._vocab.is_end(id) for id in (2, 7, 9))
        assert not model._vocab.is_end(8)
    finally:
        model.close()
    edit(folder / "generation_config.json", eos_token_id=[2, 7, 9, 11])
    with pytest.raises(ModelError, match="4 tokens end a turn"):
        write_gguf(folder, tmp_path / "n.gguf", about())
    assert not list(tmp_path.glob("*n.gguf*"))


def test_sixteen_bits(made, tmp_path):
    from prlm_edge.errors import ModelError
    from prlm_edge.export.gguf.model import write_gguf
    from prlm_edge.export.measure import compare_gguf, hf_logprobs

    folder, file = made("qwen3")
    write_gguf(folder, tmp_path / "half.gguf", about())
    assert (tmp_path / "half.gguf").stat().st_size < 0.6 * file.stat().st_size
    wanted = probes_of(folder)
    assert compare_gguf(tmp_path / "half.gguf", wanted, hf_logprobs(hf(folder), wanted)).kl < 1e-4
    model = hf(folder)
    with torch.no_grad():
        model.lm_head.weight[3, 3] = 1e5
    model.save_pretrained(tmp_path / "large")
    for path in folder.glob("*token*"):
        shutil.copy(path, tmp_path / "large")
    (tmp_path / "large" / "chat_template.jinja").write_text("x")
    with pytest.raises(ModelError, match="too large for 16 bits"):
        write_gguf(tmp_path / "large", tmp_path / "large.gguf", about())
    assert not list(tmp_path.glob("*large.gguf*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "gpt2 models can't be exported yet"),
        ({"hidden_act": "gelu"}, "activation gelu"),
        (
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 1e4,
                    "factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
            "rotation yarn",
        ),
        ({"vocab_size": 300}, "embeds 300"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
    ],
)
def test_what_cannot_be_said_is_refused(made, tmp_path, change, message):
    from prlm_edge.errors import ModelError
    from prlm_edge.export.gguf.model import write_gguf

    folder = shutil.copytree(made("llama")[0], tmp_path / "m")
    edit(folder / "config.json", **change)
    with pytest.raises(ModelError, match=message) as error:
        write_gguf(folder, tmp_path / "m.gguf", about())
    assert "\n" not in error.value.message
    assert not list(tmp_path.glob("*.gguf*"))


def test_unknown_tokenizers_are_refused():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    from prlm_edge.errors import ModelError
    from prlm_edge.export.gguf.tokenizer import pre_name

    def table(backend):
        return json.loads(backend.to_str())

    assert pre_name(table(make_tokenizer("smollm").backend_tokenizer)) == "smollm"
    with pytest.raises(ModelError, match="SentencePiece"):
        pre_name(table(Tokenizer(models.Unigram([("a", 0.0)], 0))))
    with pytest.raises(ModelError, match="SentencePiece"):
        pre_name(table(Tokenizer(models.BPE(byte_fallback=True))))
    backend = make_tokenizer("smollm").backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(ModelError, match=r"no name for the way this tokenizer splits texts \(ByteLevel\)"):
        pre_name(table(backend))
    backend = make_tokenizer("qwen2").backend_tokenizer
    backend.normalizer = normalizers.Lowercase()
    with pytest.raises(ModelError, match="Lowercase"):
        pre_name(table(backend))


def test_a_torn_weight_file(made, tmp_path):
    from prlm_edge.errors import ModelError
    from prlm_edge.export.gguf.model import write_gguf

    folder = shutil.copytree(made("llama")[0], tmp_path / "m")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="damaged"):
        write_gguf(folder, tmp_path / "m.gguf", about())
    assert not list(tmp_path.glob("*.gguf*"))
