"""The table of metrics, and the scores of one answer.

To add a metric, give it a line in `METRICS` and a value in `score_answer`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prlm_edge.evaluate.metrics.manner import copy_rate, faithfulness, format_ok, grounded, style_match
from prlm_edge.evaluate.metrics.request import Known
from prlm_edge.evaluate.metrics.target import overlap, paper
from prlm_edge.evaluate.records import Answer
from prlm_edge.rerank import echo, is_copy
from prlm_edge.style import Style


class Metric(NamedTuple):
    """What a metric means.

    Attributes:
        about: For people.
        better: 1 where more is better, -1 where less is, 0 where neither.
        headline: Whether every table has it.
        percent: Whether it is true or false of an answer, so that its mean is a share of the answers.
    """

    about: str
    better: int
    headline: bool = False
    percent: bool = False


METRICS: dict[str, Metric] = {
    "rouge1": Metric("words shared with what the user wrote (F1)", 1, True),
    "rouge2": Metric("pairs of words shared (F1)", 1),
    "rougeL": Metric("longest common run of words, gaps allowed (F1)", 1),
    "bleu": Metric("sentence BLEU (sacrebleu)", 1, True),
    "chrf": Metric("shared runs of characters (chrF2, sacrebleu)", 1),
    "similarity": Metric("cosine of the sentence embeddings of answer and target", 1),
    "style_match": Metric("share of the user's steady style facts that the answer keeps", 1, True),
    "target_style_match": Metric("the same of what the user really wrote: the ceiling", 0),
    "copy_rate": Metric("share of words in runs of four copied from the user's past titles", -1),
    "echo": Metric("share of answers that are the request again", -1, True, True),
    "invention": Metric(
        "share of answers with a name, number or identifier that neither request nor shown items have", -1, True, True
    ),
    "carried": Metric(
        "share of answers with a name, number or identifier of the shown items that the request lacks", -1, False, True
    ),
    "target_invention": Metric("share of what users really wrote with a name that neither has", 0, False, True),
    "copied": Metric("share of answers that are a past title again, but for small words", -1, True, True),
    "cut_off": Metric("share of answers that ran into their budget of tokens", -1, True, True),
    "query_copy": Metric("share of words in runs of four copied from the request", 0),
    "length_ratio": Metric("words of the answer / words of what the user wrote", 0),
    "format_ok": Metric("share of answers that ended by themselves and hold no tags", 1, False, True),
    "reasoning_truncated": Metric("share of reasonings that ran into their budget", -1, False, True),
    "faithfulness": Metric("share of the reasoning's claims that hold", 1),
    "grounded": Metric("share of its style claims that hold of the user's past texts", 1),
    "paper_rouge1": Metric("ROUGE-1 as the paper computes it (jieba tokens, sets)", 1),
    "paper_rouge2": Metric("ROUGE-2 as the paper computes it", 1),
    "paper_rougeL": Metric("ROUGE-L as the paper computes it", 1),
    "paper_bleu": Metric("BLEU as the paper computes it (characters, smoothed)", 1),
}


def cell(name: str, found: Mapping[str, float] | None) -> str:
    """An estimate of the metric `name` ± half its 95% interval, such as ".284 ±.047" or "22% ±8"; "-" for none."""
    if not found:
        return "-"
    mean, half = found["mean"], (found["high"] - found["low"]) / 2
    if name in METRICS and METRICS[name].percent:
        return f"{mean:.0%} ±{100 * half:.0f}"
    return re.sub(r"\b0\.", ".", f"{mean:.3f} ±{half:.3f}")


def score_answer(
    answer: Answer, style: Style, past: Sequence[str], request: str, shown: Sequence[str]
) -> dict[str, float | None]:
    """Every metric but "similarity", for which `similarities` takes many answers at a time.

    Args:
        answer: The answer.
        style: Of the user's own past texts, whatever profile the answer was shown.
        past: The user's own past texts.
        request: The whole of what was asked; a diff as it is.
        shown: The texts of the past items that the prompt showed, titles and all.

    Returns:
        By name; None where a metric does not apply.
    """
    text, target = answer.answer, answer.target
    n_target = len(target.split())
    asked, known = Known(request), Known(request, *shown)
    invented = known.invented(text)
    return {
        **overlap(text, target),
        "style_match": style_match(text, style),
        "target_style_match": style_match(target, style),
        "copy_rate": copy_rate(text, past),
        "copied": float(is_copy(text, past)),
        "echo": float(echo(text, request)),
        "invention": float(bool(invented)),
        "carried": float(len(asked.invented(text)) > len(invented)),
        "target_invention": float(bool(known.invented(target))),
        "cut_off": float(answer.finish_reason == "length") if answer.finish_reason else None,  # baselines have none
        "query_copy": copy_rate(text, [request]),
        "length_ratio": len(text.split()) / n_target if n_target else None,
        "format_ok": float(format_ok(answer)),
        "reasoning_truncated": float(answer.reasoning_truncated) if answer.reasoning else None,
        "faithfulness": faithfulness(answer, style, request),
        "grounded": grounded(answer, style),
        **paper(text, target),
    }
