"""The default model, converted: its logits, its tokens and the metadata of the file it came from."""

import gzip
import json
from pathlib import Path

import pytest
from tiny_lm import TEXTS

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(1800)]
DATA = Path(__file__).parents[3] / "shared" / "data"
SAID = (
    "The oven was cold, but the rye had risen overnight and filled the bowl; we named it after the river.\n",
    "def mend(parser):\n    # 2024: the parser lost its last line\n    return parser.lines[:-1]\n",
)


@pytest.fixture(scope="module")
def converted(smollm2_path, tmp_path_factory):
    """The base's folder and its f16 file."""
    from prlm_edge.export.gguf.model import About, write_gguf
    from prlm_edge.train import base

    folder = base.resolve("default")
    file = tmp_path_factory.mktemp("real") / "smollm2.gguf"
    write_gguf(folder, file, About("SmolLM2", False, "apache-2.0"))
    return folder, file


def texts():
    """500 real texts where the data sets lie beside the clone."""
    found = []
    for task in ("acl_title", "commit_subject", "release_note") if DATA.is_dir() else ():
        with gzip.open(DATA / task / "dev.jsonl.gz", "rt", encoding="utf-8") as stream:
            for line in stream:
                row = json.loads(line)
                found += [row["query"]["text"], row["target"], *(item["title"] for item in row["profile"][:3])]
                if len(found) % 170 > 165:
                    break
    return [*TEXTS, *found[:500]]


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
        some = texts()
        assert [text for text in some if tokens.encode_text(text) != backend._vocab.encode_text(text)] == []
    finally:
        backend.close()


def test_the_tokenizer_is_that_of_the_file_it_came_from(converted, smollm2_path):
    from gguf import GGUFReader

    original = GGUFReader(smollm2_path.parent / "SmolLM2-135M-Instruct.Q4_1.gguf")
    ours = GGUFReader(converted[1])
    keys = [key for key in original.fields if key.startswith(("tokenizer.", "llama."))]
    assert len(keys) > 15
    for key in keys:
        assert ours.get_field(key).contents() == original.get_field(key).contents(), key
    names = {tensor.name: tuple(tensor.shape) for tensor in original.tensors}
    assert {tensor.name: tuple(tensor.shape) for tensor in ours.tensors} == names
