"""Retrievers: ranking, filling up, ties, seeds, errors. Scores: tests/parity; disk: tests/fault."""

import os
import subprocess
import sys

import numpy as np
import pytest

from prlm_edge import retrieve
from prlm_edge.errors import MissingError, UsageError
from prlm_edge.retrieve import RETRIEVERS, make_retriever
from prlm_edge.retrieve.bm25.retriever import MAX_QUERY_TOKENS, Bm25Retriever
from prlm_edge.retrieve.hybrid import HybridRetriever
from prlm_edge.retrieve.ranking import Match, Ranker, top
from prlm_edge.types import Item

ITEMS = [
    Item("bread", title="rye wins", text="three flours for my sourdough starter", date="2024-01"),
    Item("drain", title="the drain we should have dug", text="the allotment flooded again", date="2025-03-02"),
    Item("wheel", title="truing a wheel by ear", text="a bicycle wheel came back from the dead", date=""),
    Item("oven", title="the oven", text="sourdough needs steam, sourdough needs heat", date="2024-01"),
]
WITHOUT_MODELS = ("bm25", "recency", "random", "none")

pytestmark = pytest.mark.usefixtures("home")


def ids(hits):
    return [hit.item.id for hit in hits]


def test_bm25_finds_and_fills_up_with_the_most_recent():
    hits = make_retriever("bm25", ITEMS).search("Sourdough", 4)
    assert ids(hits) == ["oven", "bread", "drain", "wheel"]
    assert hits[0].score > hits[1].score > 0
    assert [h.score for h in hits[2:]] == [0.0, 0.0]
    assert hits[0].parts == {"bm25": hits[0].score}
    assert [dict(h.parts) for h in hits[2:]] == [{"recency_rank": 1}, {"recency_rank": 4}]


def test_bm25_of_a_single_item_is_positive():
    for n in (1, 2, 3):  # where Okapi's idf is zero or below
        hits = make_retriever("bm25", ITEMS[:n]).search("rye", 1)
        assert ids(hits) == ["bread"]
        assert hits[0].score > 0


def test_bm25_breaks_ties_by_file_order():
    same = [Item(str(i), title="same words") for i in range(50)]
    assert ids(make_retriever("bm25", same).search("words", 7)) == [str(i) for i in range(7)]


def test_bm25_repeated_query_words_count():
    docs = [Item("a", title="alpha beta beta"), Item("b", title="alpha alpha beta")]
    found = make_retriever("bm25", docs)
    assert ids(found.search("alpha alpha alpha beta", 1)) == ["b"]
    assert ids(found.search("alpha beta beta beta", 1)) == ["a"]


@pytest.mark.parametrize("fast_from", [0, 10**9])
def test_bm25_takes_a_whole_diff_as_query(fast_from):
    found = Bm25Retriever(ITEMS, fast_from=fast_from, cache=False)
    words = "unknown " * 20_000 + "sourdough " + "wheel " * MAX_QUERY_TOKENS
    assert set(ids(found.search(words, 3))[:3]) == {"bread", "oven", "wheel"}  # unknown words cost no place


@pytest.mark.parametrize("fast_from", [0, 10**9])
@pytest.mark.parametrize("items", [[], [Item("a")], [Item("a", title="!?"), Item("b", text="…")]])
def test_bm25_of_profiles_without_words(items, fast_from):
    found = Bm25Retriever(items, fast_from=fast_from, cache=False)
    assert len(found.search("anything at all", 3)) == len(items)


def test_recency():
    hits = make_retriever("recency", ITEMS).search("whatever", 9)
    assert ids(hits) == ["drain", "oven", "bread", "wheel"]  # equal dates: the later line; unknown dates last
    assert [h.score for h in hits] == [1, 1 / 2, 1 / 3, 1 / 4]
    assert ids(make_retriever("recency", [Item("a"), Item("b")]).search("", 2)) == ["b", "a"]
    odd = [Item("a", date="2024-01-05"), Item("b", date="soon"), Item("c", date="inf"), Item("d", date="2024")]
    assert ids(make_retriever("recency", odd).search("", 4)) == ["a", "d", "c", "b"]  # what is no date is no news
    assert ids(make_retriever("recency", [Item("a", date="2024-08"), Item("b", date="2024")]).search("", 1)) == ["a"]


def test_random_depends_on_seed_and_query_only():
    items = [Item(str(i)) for i in range(100)]
    first = ids(make_retriever("random", items, seed=1).search("q", 10))
    assert first == ids(make_retriever("random", items, seed=1).search("q", 10))
    assert first[:4] == ids(make_retriever("random", items, seed=1).search("q", 4))
    assert first != ids(make_retriever("random", items, seed=2).search("q", 10))
    assert first != ids(make_retriever("random", items, seed=1).search("r", 10))
    assert len(set(first)) == 10
    make_retriever("random", items).search("\ud800", 1)


def test_random_is_the_same_in_every_process():
    code = (
        "from prlm_edge.retrieve import make_retriever; from prlm_edge.types import Item;"
        "print([h.item.id for h in make_retriever('random', [Item(str(i)) for i in range(9)]).search('q', 9)])"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_none_finds_nothing():
    assert make_retriever("none", ITEMS).search("sourdough", 3) == []


@pytest.mark.parametrize("name", WITHOUT_MODELS)
def test_k(name):
    found = make_retriever(name, ITEMS)
    for k in (0, -1):
        with pytest.raises(UsageError, match="k must be 1 or more"):
            found.search("sourdough", k)
    hits = found.search("sourdough", 100)
    assert sorted(ids(hits)) == ([] if name == "none" else ["bread", "drain", "oven", "wheel"])
    assert found.name == name


@pytest.mark.parametrize("name", WITHOUT_MODELS)
@pytest.mark.parametrize("query", ["", "   ", "?!", "\0", "\ud800", "x" * 100_000, "soûrdough 東京 <|im_end|>"])
def test_odd_queries(name, query):
    for items in ([], ITEMS):
        assert len(make_retriever(name, items).search(query, 2)) == (0 if name == "none" else min(2, len(items)))


def test_later_changes_of_the_list_are_not_seen():
    items = list(ITEMS)
    found = make_retriever("bm25", items)
    items.clear()
    assert len(found.search("sourdough", 4)) == 4


def test_unknown_names():
    with pytest.raises(UsageError) as error:
        make_retriever("BM-25", ITEMS)
    assert "did you mean bm25?" in error.value.hint
    with pytest.raises(UsageError, match="unknown retriever 'faiss'"):
        make_retriever("faiss", ITEMS)


def test_the_settings_know_the_same_names():
    from prlm_edge.settings import KEYS

    assert KEYS["retriever"].choices == RETRIEVERS


@pytest.mark.parametrize("name", ["dense", "hybrid"])
def test_dense_says_what_is_missing(name, monkeypatch):
    with pytest.raises(MissingError) as error:
        make_retriever(name, ITEMS)
    assert error.value.hint == "prlm-edge model pull minilm"
    monkeypatch.setattr(retrieve, "find_spec", lambda package: None if package == "tokenizers" else object())
    with pytest.raises(MissingError) as error:
        make_retriever(name, ITEMS)
    assert error.value.hint == 'pip install "prlm-edge[onnx]"'


class Fixed(Ranker):
    """A ranking given by hand."""

    def __init__(self, items, name, order):
        super().__init__(items)
        self.name, self.order = name, order

    def rank(self, query, k):
        return [Match(i, 1.0, {self.name: 1.0}) for i in self.order[:k]]


def test_hybrid_is_reciprocal_rank_fusion():
    found = HybridRetriever(ITEMS, [Fixed(ITEMS, "bm25", [2, 0]), Fixed(ITEMS, "dense", [0, 1, 2, 3])])
    hits = found.search("q", 4)
    assert ids(hits) == ["bread", "wheel", "drain", "oven"]
    expected = [1 / 62 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62, 1 / 64]
    assert [h.score for h in hits] == pytest.approx(expected)
    assert hits[0].parts == {"bm25_rank": 2, "dense_rank": 1, "bm25": 1.0, "dense": 1.0}
    assert hits[2].parts == {"dense_rank": 2, "dense": 1.0}
    assert ids(found.search("q", 2)) == ids(hits)[:2]


def test_hybrid_ties_are_by_file_order_and_it_fills_up():
    found = HybridRetriever(ITEMS, [Fixed(ITEMS, "a", [1]), Fixed(ITEMS, "b", [0])])
    assert ids(found.search("q", 4)) == ["bread", "drain", "oven", "wheel"]


def test_top_agrees_with_sorting():
    rng = np.random.default_rng(0)
    for _ in range(300):
        scores = rng.integers(-1, 4, rng.integers(0, 30)).astype(float)
        k = int(rng.integers(1, 12))
        for positive in (True, False):
            places = [i for i in range(len(scores)) if scores[i] > 0 or not positive]
            assert top(scores, k, positive=positive) == sorted(places, key=lambda i: (-scores[i], i))[:k]


def test_progress_is_reported():
    for fast_from in (0, 10**9):
        seen = []
        items = [Item(str(i), title=f"item {i}") for i in range(1200)]
        Bm25Retriever(items, cache=False, fast_from=fast_from, progress=lambda d, t, seen=seen: seen.append((d, t)))
        assert seen[0] == (0, 1200)
        assert seen[-1] == (1200, 1200)
        assert len(seen) >= 3
