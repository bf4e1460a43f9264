"""Tiny untrained models with the real tokenizers, and rows that are ours: training in seconds."""

import json
import shutil

import pytest
from tiny import make_bert, make_llama

pytest.importorskip("torch")


@pytest.fixture(scope="session")
def tokenizer_folder(original_path, tmp_path_factory):
    """The real default model's tokenizer alone."""
    from prlm_edge.train import base

    folder = tmp_path_factory.mktemp("tokenizer")
    base.read_tokenizer(original_path).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokens(tokenizer_folder):
    """The trainer's tokenizer, with a context of 1,024."""
    from prlm_edge.train import base

    return base.load_tokens(tokenizer_folder, 1024)


@pytest.fixture(scope="module")
def runtime(smollm2_path):
    """The default model as users run it."""
    from prlm_edge.backends.llama.backend import LlamaCpp

    model = LlamaCpp(smollm2_path)
    yield model
    model.close()


@pytest.fixture(scope="session")
def tiny_folder(tokenizer_folder, tmp_path_factory):
    """A tiny model to train, with the real tokenizer."""
    sizes = {"vocab_size": 49152, "tie_word_embeddings": True, "num_hidden_layers": 1}
    folder = make_llama(tmp_path_factory.mktemp("tiny"), bos_token_id=1, eos_token_id=2, **sizes)
    for path in tokenizer_folder.iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(minilm_path, tmp_path_factory):
    """What a tiny reward model is trained from, with the real tokenizer."""
    folder = make_bert(tmp_path_factory.mktemp("bert"), vocab_size=30522)
    shutil.copyfile(minilm_path / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="session")
def encoder(minilm_path):
    from prlm_edge.rerank.reward.encoder import Encoder

    return Encoder(minilm_path / "tokenizer.json", 128)


@pytest.fixture(scope="session")
def pairs():
    from test_pairs import rows

    from prlm_edge.train.config import RewardConfig
    from prlm_edge.train.reward.pairs import make_pairs

    of = rows()
    return make_pairs(of, RewardConfig(kinds=("style", "degenerate", "neighbour", "swap"))).pairs


@pytest.fixture(scope="session")
def tokenized(pairs, encoder):
    from prlm_edge.train.reward.batches import Tokenized

    return Tokenized.of(pairs, encoder)


@pytest.fixture
def rows_file(tmp_path):
    """Twelve users with six past commits each."""
    path = tmp_path / "rows.jsonl"
    with path.open("w") as stream:
        for user in range(12):
            tag = ["docs", "ci", "core"][user % 3]
            items = [
                {
                    "id": f"u{user}-{i}",
                    "title": f"{tag}: mend part {i} of the parser",
                    "text": f"Changed files: {tag}/part{i}.py\n\nThe parser of part {i} lost its last line.",
                    "date": f"2024-0{i + 1}-01",
                }
                for i in range(7)
            ]
            *profile, last = items
            row = {
                "user_id": f"u{user}",
                "task": "commit_subject",
                "query": {"id": last["id"], "text": last["text"], "date": last["date"]},
                "target": last["title"],
                "profile": profile,
            }
            stream.write(json.dumps(row) + "\n")
    return path
