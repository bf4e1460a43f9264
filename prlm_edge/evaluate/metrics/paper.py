"""The metrics of the paper (PrLM, arXiv 2508.07342, section 5.1), so that its figures can be set beside ours.

ROUGE over jieba's tokens with sets of n-grams, as rouge-chinese computes it, and sentence BLEU over characters with
NIST's geometric smoothing, as nltk does; both lower-cased. Own code, equal to both libraries on real answers
(tests/parity): nltk's takes milliseconds a pair. They read higher than the usual ones: characters match easily.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cache, lru_cache
from typing import Any

from prlm_edge.rerank.overlap import longest_common
from prlm_edge.storage import cache_dir, private_dir

_MAX_ORDER = 4
_EPSILON = 1e-8  # rouge-chinese's guard against a division by nothing


def paper(answer: str, target: str) -> dict[str, float]:
    """paper_rouge1, paper_rouge2, paper_rougeL and paper_bleu, each from 0 to 1; an empty text scores 0."""
    a, b = tokens(answer), tokens(target)
    return {
        "paper_rouge1": _set_f1(_grams(a, 1), _grams(b, 1)),
        "paper_rouge2": _set_f1(_grams(a, 2), _grams(b, 2)),
        "paper_rougeL": _f1(longest_common(b, a), len(a), len(b)),
        "paper_bleu": char_bleu(answer.lower(), target.lower()),
    }


@lru_cache(4096)
def tokens(text: str) -> tuple[str, ...]:
    """The lower-cased text as jieba cuts it, white space left out."""
    return tuple(token for token in _jieba().cut(text.lower()) if token.strip())


def char_bleu(answer: str, target: str) -> float:
    """BLEU over single characters, up to four in a row; an order without a match counts as 1/2, 1/4 ... of a match."""
    precisions, halvings = [], 0
    for n in range(1, _MAX_ORDER + 1):
        ours, theirs = Counter(_grams(answer, n)), Counter(_grams(target, n))
        matches, total = (ours & theirs).total(), max(ours.total(), 1)
        if n == 1 and not matches:
            return 0.0
        if not matches:
            halvings += 1
        precisions.append((matches or 0.5**halvings) / total)
    brevity = 1.0 if len(answer) > len(target) else math.exp(1 - len(target) / len(answer))
    return brevity * math.exp(math.fsum(map(math.log, precisions)) / _MAX_ORDER)


def _grams(parts: Sequence[str], n: int) -> list[Hashable]:
    return [tuple(parts[i : i + n]) for i in range(len(parts) - n + 1)]


def _set_f1(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    ours, theirs = set(a), set(b)
    return _f1(len(ours & theirs), len(ours), len(theirs))


def _f1(shared: int, n_a: int, n_b: int) -> float:
    precision, recall = shared / n_a if n_a else 0.0, shared / n_b if n_b else 0.0
    return 2 * precision * recall / (precision + recall + _EPSILON)


@cache
def _jieba() -> Any:
    import jieba

    jieba.setLogLevel(logging.WARNING)  # it announces its dictionary on stderr
    jieba.dt.tmp_dir = str(private_dir(cache_dir() / "jieba"))  # it unmarshals a file that it finds in there
    return jieba
