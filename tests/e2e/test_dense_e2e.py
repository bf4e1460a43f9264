"""Dense and hybrid retrieval with the real MiniLM."""

import json
import os
import shutil

import numpy as np
import pytest

from prlm_edge import models
from prlm_edge.cli import main
from prlm_edge.errors import ModelError
from prlm_edge.retrieve import make_retriever
from prlm_edge.types import Item

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytestmark = [pytest.mark.embedder, pytest.mark.usefixtures("home")]

ITEMS = [
    Item("bread", title="rye wins: three flours", text="I tried three flours for my sourdough starter."),
    Item("drain", title="the drain we should have dug", text="Heavy rain put the allotment under water again."),
    Item("wheel", title="truing a wheel by ear", text="A bent bicycle rim came back from the dead."),
    Item("swim", title="four degrees", text="Swimming outdoors in January, and what a thermometer is good for."),
    Item("python", title="asyncio without tears", text="How I learned to stop blocking the event loop."),
]


@pytest.fixture(scope="module")
def embedder(minilm_path):
    from prlm_edge.retrieve.dense.embedder import OnnxEmbedder

    return OnnxEmbedder(minilm_path)


@pytest.fixture
def installed(minilm_path):
    """The real embedder, installed in this test's home."""
    folder = models.find("minilm").folder
    folder.parent.mkdir(parents=True)
    folder.symlink_to(minilm_path, target_is_directory=True)


def test_cosines_are_those_of_the_original_model(embedder):
    # The float32 model's published answer to this example of the hosted sentence-similarity task.
    texts = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    vectors = embedder.embed(texts)
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[1:] @ vectors[0] == pytest.approx([0.69458, 0.94292, 0.25688], abs=0.01)


def test_a_vector_depends_on_its_text_alone(embedder):
    texts = [item.searchable for item in ITEMS] + ["x", "long " * 500]
    together = embedder.embed(texts)
    for text, row in zip(texts, together, strict=True):
        assert np.array_equal(embedder.embed([text])[0], row)
    assert embedder.embed([]).shape == (0, 384)


@pytest.mark.parametrize("text", ["", " ", "\ud800", "東京 🎉", "a" * 100_000, "\0", "[CLS] [SEP] [PAD]"])
def test_odd_texts_have_a_unit_vector(embedder, text):
    assert np.linalg.norm(embedder.embed([text])[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("baking loaves", "bread"),
        ("flooded garden", "drain"),
        ("repairing bikes", "wheel"),
        ("freezing lake bathing", "swim"),
        ("concurrent programming", "python"),
    ],
)
def test_meaning_is_found_without_a_common_word(installed, query, best):
    hit = make_retriever("dense", ITEMS).search(query, 1)[0]
    assert hit.item.id == best
    assert hit.parts["dense"] == hit.score > 0.1
    assert make_retriever("bm25", ITEMS).search(query, 1)[0].score == 0  # no word in common indeed
    assert make_retriever("hybrid", ITEMS).search(query, 1)[0].item.id == best


def test_hybrid_names_both_ranks(installed):
    hit = make_retriever("hybrid", ITEMS).search("rye sourdough", 1)[0]
    assert hit.item.id == "bread"
    assert hit.parts["bm25_rank"] == hit.parts["dense_rank"] == 1
    assert hit.score == pytest.approx(2 / 61)


def test_a_second_process_embeds_nothing(installed):
    make_retriever("dense", ITEMS)
    seen = []
    again = make_retriever("dense", [*ITEMS, Item("new", title="new one")], progress=lambda d, t: seen.append((d, t)))
    assert seen == [(0, 1), (1, 1)]
    assert len(again.search("anything", 10)) == 6


def test_one_session_serves_all_retrievers_until_the_model_changes(installed, minilm_path, tmp_path):
    made = [make_retriever("dense", ITEMS[:n]) for n in (3, 4)]
    assert made[0]._embedder is made[1]._embedder
    from prlm_edge.retrieve.dense.embedder import open_embedder

    copy = shutil.copytree(minilm_path, tmp_path / "copy")
    first = open_embedder(copy)
    assert first is open_embedder(copy)
    os.utime(copy / "model.onnx", ns=(0, 0))
    assert first is not open_embedder(copy)


def test_a_damaged_model_file(installed, tmp_path):
    folder = models.find("minilm").folder
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "model.onnx").write_bytes(b"not onnx")
    from prlm_edge.retrieve.dense.embedder import OnnxEmbedder

    with pytest.raises(ModelError) as error:
        OnnxEmbedder(copy)
    assert "\n" not in error.value.message
    folder.unlink()
    copy.rename(folder)
    with pytest.raises(ModelError, match="has 8 bytes instead of 22,928,619"):
        make_retriever("dense", ITEMS)


def test_the_command_line(installed, tmp_path, capsys):
    profile = tmp_path / "me.jsonl"
    profile.write_text("".join(json.dumps({"id": i.id, "title": i.title, "text": i.text}) + "\n" for i in ITEMS))
    assert main(["search", "repairing bikes", "--user", str(profile), "-r", "hybrid", "-k", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hits"][0]["id"] == "wheel"
    assert "dense_rank" in found["hits"][0]["parts"]
