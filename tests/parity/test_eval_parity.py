"""The paper's metrics against rouge-chinese and nltk; baselines against the figures stated with the data."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator

import jieba
import pytest
from evaluation import sample, shared
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_chinese import Rouge

from prlm_edge.evaluate.baselines import answer
from prlm_edge.evaluate.data import load
from prlm_edge.evaluate.metrics.target import overlap, paper

ODD = [
    "a",
    "ab",
    "Fix a? b! c......d",
    "你好世界",
    "你好 世界？好",
    "🙂 b",
    "ÉTUDE  of\ttabs",
    "-",
    "1.2.3",
    "x" * 50,
    "don't",
    "[api] a: b",
]


def theirs(hypothesis: str, reference: str) -> tuple[float, ...]:
    """As the paper's evaluation calls them: lower-cased, jieba's tokens joined by blanks, BLEU over characters."""
    hypothesis, reference = hypothesis.lower(), reference.lower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bleu = sentence_bleu([list(reference)], list(hypothesis), smoothing_function=SmoothingFunction().method3)
        rouge = Rouge().get_scores(" ".join(jieba.cut(hypothesis)), " ".join(jieba.cut(reference)))[0]
    return (*(rouge[name]["f"] for name in ("rouge-1", "rouge-2", "rouge-l")), bleu)


def ours(hypothesis: str, reference: str) -> tuple[float, ...]:
    return tuple(paper(hypothesis, reference).values())


def titles() -> Iterator[str]:
    for task in ("acl_title", "commit_subject", "release_note"):
        for row in sample(task):
            yield from (item["title"] for item in row["profile"])


def test_the_papers_metrics_on_a_thousand_real_pairs() -> None:
    jieba.setLogLevel(30)
    dice, real = random.Random(0), list(titles())
    pairs = [(dice.choice(real), dice.choice(real)) for _ in range(800)]
    pairs += [(a[: dice.randrange(1, len(a) + 1)], a) for a in dice.sample(real, 200)]
    assert len(pairs) == 1000
    assert sum(0 < ours(*pair)[0] < 1 for pair in pairs) > 300  # they do share words, and not all
    for pair in pairs:
        assert ours(*pair) == pytest.approx(theirs(*pair), abs=1e-12), pair


@pytest.mark.parametrize("hypothesis", ODD)
def test_the_papers_metrics_on_odd_texts(hypothesis: str) -> None:
    for reference in ODD:
        assert ours(hypothesis, reference) == pytest.approx(theirs(hypothesis, reference), abs=1e-12), reference


def test_an_empty_answer_scores_nothing() -> None:
    assert set(ours("", "a title")) == {0.0}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("acl_title", {"first_sentence": 0.221, "copy": 0.104, "oracle_own": 0.247}),
        ("release_note", {"first_sentence": 0.379, "copy": 0.389, "oracle_own": 0.300}),
    ],
)
def test_baselines_reach_the_figures_stated_with_the_data(task: str, expected: dict[str, float]) -> None:
    data = load(shared(task, "test.jsonl.gz"))
    for name, rouge1 in expected.items():
        found = [overlap(answer(name, row, data), row.target)["rouge1"] for row in data.rows]
        assert sum(found) / len(found) == pytest.approx(rouge1, abs=0.0015), name
