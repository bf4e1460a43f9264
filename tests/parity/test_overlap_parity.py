"""ROUGE and chrF are those of rouge-score and sacrebleu: on real titles where the data is, and on random text."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from evaluation import sample
from helpers import EXAMPLE

from prlm_edge.rerank.overlap import Counted, chrf, rouge_1, rouge_2, rouge_l

rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
sacrebleu = pytest.importorskip("sacrebleu.metrics")
KINDS = {"rouge1": rouge_1, "rouge2": rouge_2, "rougeL": rouge_l}


def check(pairs: list[tuple[str, str]]) -> None:
    rouge, char_f = rouge_scorer.RougeScorer(list(KINDS)), sacrebleu.CHRF()
    for a, b in pairs:
        one, other = Counted(a), Counted(b)
        if a.isascii() and b.isascii():  # rouge-score knows no other letters
            theirs = rouge.score(b, a)
            for kind, measure in KINDS.items():
                assert measure(one, other) == pytest.approx(theirs[kind].fmeasure, abs=1e-12), (kind, a, b)
        assert chrf(one, other) == pytest.approx(char_f.sentence_score(a, [b]).score / 100, abs=1e-12), (a, b)


@pytest.mark.parametrize("task", ["acl_title", "commit_subject", "release_note"])
def test_on_pairs_of_real_titles(task: str) -> None:
    found = [
        item["title"].strip()
        for row in sample(task)
        for item in (*row["profile"], {"title": row["target"]})
        if item.get("title")
    ]
    rng = random.Random(task)
    near = list(itertools.pairwise(found))  # of one user: they share words
    pairs = [*rng.sample(near, min(300, len(near))), *((rng.choice(found), rng.choice(found)) for _ in range(200))]
    check(pairs)


def test_on_the_example_profile() -> None:
    lines = EXAMPLE.read_text("utf-8").splitlines()
    found = [json.loads(line)["title"] for line in lines]
    check([(a, b) for a in found for b in found])


def test_on_random_text_with_repeats_signs_and_other_scripts() -> None:
    rng = random.Random(3)
    alphabet = [*"aab c  d_-:.,!?()[]{}'\"0129XYZ\t", "word ", "the ", "é", "京", "ζ", "🎉", "fooBar", "a a a "]
    texts = ["".join(rng.choices(alphabet, k=rng.choice((1, 2, 5, 12, 40)))) for _ in range(400)]
    plain = ["".join(c for c in text if c.isascii()) for text in texts]
    # Ours is 1 for equal texts that are nothing but signs: the reference has nothing to compare there.
    check([(a, b) for a, b in zip(texts, reversed(texts), strict=True) if a != b])
    check([(a, b) for a, b in zip(plain, reversed(plain), strict=True) if a != b])
