"""The int8 scan names every vector that can be among the nearest, so that dense ranking is that of a float32 scan."""

import sys

import numpy as np
import pytest

from prlm_edge.retrieve.dense import retriever as dense
from prlm_edge.retrieve.dense.retriever import DenseRetriever
from prlm_edge.types import Item

pytest.importorskip("numkong")


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def vectors_of(kind, rng):
    rows = rng.standard_normal((3000, 96))
    if kind == "close":  # all within what rounding to int8 hides
        rows = rows[:1] + 1e-3 * rows
    elif kind == "spiky":  # one large component: the others round to next to nothing
        rows[:, 0] = 60
    elif kind == "copies":
        rows[1::2] = rows[::2]
    elif kind == "axes":
        rows = np.eye(96)[rng.integers(96, size=3000)]
    return unit(rows)


@pytest.mark.parametrize("kind", ["any", "close", "spiky", "copies", "axes"])
@pytest.mark.parametrize("k", [1, 8, 40, 2999, 3000, 5000])
def test_the_nearest_are_among_the_candidates(kind, k):
    from prlm_edge.retrieve.dense.int8_scan import Int8Scan

    rng = np.random.default_rng(k)
    vectors = vectors_of(kind, rng)
    scan = Int8Scan(vectors)
    for query in (vectors[5], unit(rng.standard_normal((1, 96)))[0], -vectors[7]):
        exact = vectors.astype(np.float64) @ query
        found = scan.candidates(query, k)
        assert set(np.flatnonzero(exact >= np.sort(exact)[-min(k, 3000)])) <= set(found.tolist())
        assert (np.diff(found) > 0).all()


def test_candidates_are_few():
    from prlm_edge.retrieve.dense.int8_scan import Int8Scan

    vectors = vectors_of("any", np.random.default_rng(0))
    assert len(Int8Scan(vectors).candidates(vectors[5], 8)) < 1000


class Hashed:
    """Vectors drawn from a text's own random numbers."""

    key, dim = "0" * 64, 96

    def embed(self, texts):
        return unit(np.stack([np.random.default_rng([*text.encode()]).standard_normal(96) for text in texts]))


ITEMS = [Item(str(i), title=f"loaf {i % 900}") for i in range(1000)] + [Item("empty", text=" ")]


def test_a_later_query_ranks_as_a_first(monkeypatch):
    monkeypatch.setattr(dense, "INT8_FROM", 1000)
    found = DenseRetriever(ITEMS, Hashed(), cache=False)
    for _ in range(dense.INT8_AFTER):
        found.rank("warm up", 1)
        assert "_scan" not in vars(found)
    found.rank("one more", 1)
    assert vars(found)["_scan"] is not None
    for query in ("loaf 12", "rye", "loaf 7"):  # the first of two equal items comes first
        once = DenseRetriever(ITEMS, Hashed(), cache=False).rank(query, 9)
        again = found.rank(query, 9)
        assert [match.index for match in again] == [match.index for match in once]
        assert [match.score for match in again] == pytest.approx([match.score for match in once], abs=1e-6)
    assert [match.index for match in found.rank("loaf 12", 2)] == [12, 912]
    assert len(found.rank("rye", 2000)) == 1000


@pytest.mark.parametrize("why", ["small profile", "no numkong"])
def test_the_plain_scan_serves_where_the_copy_does_not(monkeypatch, why):
    if why == "no numkong":
        monkeypatch.setattr(dense, "INT8_FROM", 1000)
        monkeypatch.setattr(dense, "INT8_AFTER", 0)
        monkeypatch.setattr(dense, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "prlm_edge.retrieve.dense.int8_scan", None)  # importing it fails
    found = DenseRetriever(ITEMS, Hashed(), cache=False)
    assert found.rank("loaf 12", 2) == found.rank("loaf 12", 2) != []
