"""The table of metrics, and the scores of one answer.

To add a metric, give it a line in `METRICS` and a value in `score_answer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from prlm_edge.evaluate.metrics.manner import copy_rate, faithfulness, format_ok, grounded, is_copy, style_match
from prlm_edge.evaluate.metrics.target import overlap, paper
from prlm_edge.evaluate.records import Answer
from prlm_edge.style import Style


class Metric(NamedTuple):
    """What a metric means; `better` is 1 where more is better, -1 where less is, 0 where neither."""

    about: str
    better: int
    headline: bool = False


METRICS: dict[str, Metric] = {
    "rouge1": Metric("words shared with what the user wrote (F1)", 1, True),
    "rouge2": Metric("pairs of words shared (F1)", 1),
    "rougeL": Metric("longest common run of words, gaps allowed (F1)", 1, True),
    "bleu": Metric("sentence BLEU (sacrebleu)", 1),
    "chrf": Metric("shared runs of characters (chrF2, sacrebleu)", 1),
    "similarity": Metric("cosine of the sentence embeddings of answer and target", 1),
    "style_match": Metric("share of the user's steady style facts that the answer keeps", 1, True),
    "target_style_match": Metric("the same of what the user really wrote: the ceiling", 0),
    "copy_rate": Metric("share of words in runs of four copied from the user's past titles", -1, True),
    "copied": Metric("share of answers that are a past title word for word", -1),
    "query_copy": Metric("share of words in runs of four copied from the request", 0),
    "length_ratio": Metric("words of the answer / words of what the user wrote", 0),
    "format_ok": Metric("share of answers that ended by themselves and hold no tags", 1, True),
    "reasoning_truncated": Metric("share of reasonings that ran into their budget", -1),
    "faithfulness": Metric("share of the reasoning's claims that hold", 1),
    "grounded": Metric("share of its style claims that hold of the user's past texts", 1),
    "paper_rouge1": Metric("ROUGE-1 as the paper computes it (jieba tokens, sets)", 1),
    "paper_rouge2": Metric("ROUGE-2 as the paper computes it", 1),
    "paper_rougeL": Metric("ROUGE-L as the paper computes it", 1),
    "paper_bleu": Metric("BLEU as the paper computes it (characters, smoothed)", 1),
}


def score_answer(answer: Answer, style: Style, past: Sequence[str]) -> dict[str, float | None]:
    """Every metric but "similarity", for which `similarities` takes many answers at a time.

    Args:
        answer: The answer.
        style: Of the user's own past texts, whatever profile the answer was shown.
        past: The user's own past texts.

    Returns:
        By name; None where a metric does not apply.
    """
    text, target = answer.answer, answer.target
    n_target = len(target.split())
    return {
        **overlap(text, target),
        "style_match": style_match(text, style),
        "target_style_match": style_match(target, style),
        "copy_rate": copy_rate(text, past),
        "copied": float(is_copy(text, past)),
        "query_copy": copy_rate(text, [answer.query]),
        "length_ratio": len(text.split()) / n_target if n_target else None,
        "format_ok": float(format_ok(answer)),
        "reasoning_truncated": float(answer.reasoning_truncated) if answer.reasoning else None,
        "faithfulness": faithfulness(answer, style),
        "grounded": grounded(answer, style),
        **paper(text, target),
    }
