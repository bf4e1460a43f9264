"""ROUGE, BLEU and chrF of an answer against what the user wrote, by the field's own libraries.

ROUGE as LaMP computes it: rouge-score, F1, no stemming. BLEU is sacrebleu's sentence BLEU (13a tokens, exponential
smoothing, effective order), from 0 to 1 here. Not here: the paper's own variants (`paper.py`).
"""

from __future__ import annotations

from functools import cache
from typing import Any


def overlap(answer: str, target: str) -> dict[str, float]:
    """rouge1, rouge2, rougeL, bleu and chrf, each from 0 to 1."""
    rouge = _rouge().score(target, answer)
    bleu, chrf = _sacrebleu()
    return {
        **{name: float(rouge[name].fmeasure) for name in ("rouge1", "rouge2", "rougeL")},
        "bleu": bleu.sentence_score(answer, [target]).score / 100,
        "chrf": chrf.sentence_score(answer, [target]).score / 100,
    }


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)


@cache
def _sacrebleu() -> tuple[Any, Any]:
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(effective_order=True), CHRF()
