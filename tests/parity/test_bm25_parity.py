"""rank_bm25, bm25s's own builder and ours give the same BM25, bit for bit; random corpora and real text."""

import random
import string
from itertools import pairwise

import numpy as np
import pytest
from evaluation import sample
from rank_bm25 import BM25Plus

from prlm_edge.retrieve.bm25 import Bm25Retriever
from prlm_edge.retrieve.bm25.engine import K1, B, PlainEngine
from prlm_edge.retrieve.bm25.index import Bm25Index, Part, Terms
from prlm_edge.retrieve.bm25.postings import build_postings, hashes_of
from prlm_edge.retrieve.ranking import top
from prlm_edge.retrieve.tokens import tokenize
from prlm_edge.types import Item

bm25s = pytest.importorskip("bm25s")
WORDS = [a + b for a in string.ascii_lowercase for b in ("", "o", "é", "京", "_x")]


def random_items(rng, n):
    # Skewed word use, so that some words are in most items and some in one; some items are empty.
    return [
        Item(
            str(i),
            text=" ".join(
                rng.choice(WORDS[: rng.choice((3, 30, len(WORDS)))]) for _ in range(rng.choice((0, 1, 5, 80)))
            ),
        )
        for i in range(n)
    ]


def postings_of(items, old=None):
    return build_postings(items, hashes_of(items), old)


def index_of(*parts):
    made = map(postings_of, parts)
    return Bm25Index([Part(postings, Terms.of(postings.terms)) for postings in made])


def assert_equal_scores(index, items, rng, words):
    """Of random queries, every bit; asked twice, since scores of common words are remembered."""
    documents = [tokenize(item.searchable) for item in items]
    reference, plain = BM25Plus(documents, k1=K1, b=B, delta=0), PlainEngine(documents)
    for _ in range(20):
        query = tokenize(" ".join(rng.choices(words, k=rng.choice((1, 3, 40)))))
        known = [token for token in query if token in reference.idf]
        assert index.known(query) == plain.known(query) == known
        if known:
            scores = reference.get_scores(known)
            assert plain.scores(known) == scores.tolist()
            assert top(plain.scores(known), 5, positive=True) == top(scores, 5, positive=True)
            assert top(plain.scores(known), 5, positive=False) == top(scores, 5, positive=False)
            assert np.array_equal(index.scores(known), scores)
            assert np.array_equal(index.scores(known), scores)
            assert (scores >= 0).all()


@pytest.mark.parametrize("seed", range(40))
def test_scores_of_random_corpora_are_equal(seed):
    rng = random.Random(seed)
    items = [*random_items(rng, rng.choice((1, 2, 3, 17, 150))), Item("words", text="one ox and a fox")]
    assert_equal_scores(index_of(items), items, rng, [*WORDS, "unknown"])


@pytest.mark.parametrize("seed", range(5))
def test_bm25s_builds_the_same_matrix(seed):
    items = [*random_items(random.Random(seed), 120), Item("words", text="one ox and a fox")]
    postings, index = postings_of(items), index_of(items)
    number = {term.decode(): i for i, term in enumerate(postings.terms)}
    theirs = bm25s.BM25(k1=K1, b=B, method="atire", idf_method="bm25+", dtype="float64")
    theirs.index(
        ([[number[t] for t in tokenize(i.searchable)] for i in items], number),
        create_empty_token=False,
        show_progress=False,
    )
    scores = [
        index.scores([term])[postings.places[a:b]]
        for term, (a, b) in zip(number, pairwise(postings.starts), strict=True)
    ]
    assert np.array_equal(theirs.scores["data"], np.concatenate(scores))
    assert np.array_equal(theirs.scores["indices"], postings.places)
    assert np.array_equal(theirs.scores["indptr"], postings.starts)


def test_what_bm25s_calls_bm25plus_is_the_same_formula_in_float32():
    items = [*random_items(random.Random(7), 60), Item("words", text="one ox and a fox")]
    docs = [tokenize(item.searchable) for item in items]
    theirs = bm25s.BM25(k1=K1, b=B, delta=0, method="bm25+")
    theirs.index([d or [""] for d in docs], show_progress=False)
    query = ["a", "b", "fox"]
    expected = BM25Plus([d or [""] for d in docs], k1=K1, b=B, delta=0).get_scores(query)
    assert np.allclose(theirs.get_scores(query), expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_an_index_built_from_an_older_one_is_the_same_as_a_new_one(seed):
    rng = random.Random(seed)
    before = random_items(rng, 80)
    kept = [item for item in before if rng.random() < 0.7]
    rng.shuffle(kept)
    after = [*kept[:20], *random_items(rng, rng.choice((0, 1, 15))), *kept[20:], *kept[:2]]  # two items twice
    old, new = postings_of(before), postings_of(after)
    again = postings_of(after, old)
    assert again.terms == new.terms
    for name in ("starts", "places", "counts", "lengths", "hashes"):
        assert np.array_equal(getattr(again, name), getattr(new, name)), name


@pytest.mark.parametrize("seed", range(20))
def test_an_index_with_a_tail_scores_like_one_built_at_once(seed):
    rng = random.Random(seed)
    items = [*random_items(rng, 60), Item("words", text="one ox and a fox"), *random_items(rng, 9), Item("t", "zzz")]
    cut = rng.choice((61, 65, 70))
    assert_equal_scores(index_of(items[:cut], items[cut:]), items, rng, [*WORDS, "zzz", "unknown"])


@pytest.fixture(scope="module")
def real():
    """(query, items) of real users."""
    rows = [row for task in ("acl_title", "commit_subject", "release_note") for row in sample(task)]
    return [
        (row["query"]["text"], [Item(p["id"], p["text"], p["title"], p.get("date", "")) for p in row["profile"]])
        for row in rows
    ]


def found(retriever, query, k):
    return [(hit.item.id, hit.score) for hit in retriever.search(query, k)]


def test_rankings_of_real_text_are_the_same(real):
    for query, items in real:
        slow, quick = (Bm25Retriever(items, cache=False, fast_from=n) for n in (10**9, 0))
        assert found(quick, query, 10) == found(slow, query, 10)


def test_the_ranking_of_one_large_real_profile_is_the_same(home, real):
    items = list({item.content_hash: item for _, items in real for item in items}.values())
    slow, quick = Bm25Retriever(items, fast_from=10**9), Bm25Retriever(items, fast_from=0)
    again = Bm25Retriever(items, fast_from=0)  # from the disk now
    for query, _ in real[::5]:
        assert found(quick, query, 25) == found(again, query, 25) == found(slow, query, 25)
