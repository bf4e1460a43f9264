"""The default model, converted: its logits, its tokens and the metadata of the file it came from."""

import pytest
from evaluation import real_texts
from tiny_lm import TEXTS

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(1800)]
SAID = (
    "The oven was cold, but the rye had risen overnight and filled the bowl; we named it after the river.\n",
    "def mend(parser):\n    # 2024: the parser lost its last line\n    return parser.lines[:-1]\n",
)


@pytest.fixture(scope="module")
def converted(smollm2_folder, tmp_path_factory):
    """The base's folder and its f16 file."""
    from prlm_edge.export.gguf.model import About, write_gguf

    file = tmp_path_factory.mktemp("real") / "smollm2.gguf"
    write_gguf(smollm2_folder, file, About("SmolLM2", False, "apache-2.0"))
    return smollm2_folder, file


def test_it_says_and_tokenizes_the_same(converted):
    from transformers import AutoModelForCausalLM

    from prlm_edge.backends.llama.backend import LlamaCpp
    from prlm_edge.export.measure import compare_gguf, hf_logprobs, probes
    from prlm_edge.train.base import load_tokens

    folder, file = converted
    tokens = load_tokens(folder, 1024)
    wanted = probes([tokens.encode_text(text) for text in SAID], per_sequence=20)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = compare_gguf(file, wanted, hf_logprobs(model, wanted))
    print(found)
    assert found.kl_max < 1e-3 and found.top1_tied == 1, found
    backend = LlamaCpp(file)
    try:
        assert [
            text for text in [*TEXTS, *real_texts()] if tokens.encode_text(text) != backend._vocab.encode_text(text)
        ] == []
    finally:
        backend.close()


def test_the_tokenizer_is_that_of_the_file_it_came_from(converted, original_path):
    from gguf import GGUFReader

    original = GGUFReader(original_path)
    ours = GGUFReader(converted[1])
    keys = [key for key in original.fields if key.startswith(("tokenizer.", "llama."))]
    assert len(keys) > 15
    for key in keys:
        assert ours.get_field(key).contents() == original.get_field(key).contents(), key
    names = {tensor.name: tuple(tensor.shape) for tensor in original.tensors}
    assert {tensor.name: tuple(tensor.shape) for tensor in ours.tensors} == names
