"""How near an answer is to what the user wrote: ROUGE, BLEU, chrF, the paper's own variants, and nearness in meaning.

- ROUGE as LaMP computes it: rouge-score, F1, no stemming. BLEU is sacrebleu's sentence BLEU (13a tokens, exponential
  smoothing, effective order), from 0 to 1 here; chrF is sacrebleu's chrF2.
- The paper's (PrLM, arXiv 2508.07342, section 5.1): ROUGE over jieba's tokens with sets of n-grams, as rouge-chinese
  computes it, and sentence BLEU over characters with NIST's geometric smoothing, as nltk does; both lower-cased. It is
  our own code, equal to both libraries (tests/parity), since nltk takes milliseconds a pair. The figures are higher
  than the usual ones: characters match easily.
- Meaning: the cosine of MiniLM's sentence embeddings.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any

from prlm_edge import models
from prlm_edge.errors import PrlmError
from prlm_edge.rerank.overlap import longest_common
from prlm_edge.storage import cache_dir, own_dir

_MAX_ORDER = 4  # BLEU counts runs of up to four
_EPSILON = 1e-8  # rouge-chinese's guard against a division by zero
_BATCH = 64  # texts embedded at a time


def overlap(answer: str, target: str) -> dict[str, float]:
    """rouge1, rouge2, rougeL, bleu and chrf, each from 0 to 1."""
    rouge = _rouge().score(target, answer)
    bleu, chrf = _sacrebleu()
    return {
        **{name: float(rouge[name].fmeasure) for name in ("rouge1", "rouge2", "rougeL")},
        "bleu": bleu.sentence_score(answer, [target]).score / 100,
        "chrf": chrf.sentence_score(answer, [target]).score / 100,
    }


def paper(answer: str, target: str) -> dict[str, float]:
    """paper_rouge1, paper_rouge2, paper_rougeL and paper_bleu, each from 0 to 1; an empty text scores 0."""
    a, b = _tokens(answer), _tokens(target)
    return {
        "paper_rouge1": _set_f1(_grams(a, 1), _grams(b, 1)),
        "paper_rouge2": _set_f1(_grams(a, 2), _grams(b, 2)),
        "paper_rougeL": _f1(longest_common(b, a), len(a), len(b)),
        "paper_bleu": _char_bleu(answer.lower(), target.lower()),
    }


def similarities(pairs: Sequence[tuple[str, str]]) -> list[float | None]:
    """The cosine of each (answer, target), -1 to 1; None for all where the embedder isn't installed or pulled."""
    if any(find_spec(package) is None for package in ("onnxruntime", "tokenizers")):
        return [None] * len(pairs)
    try:
        folder = models.resolve("minilm", kind="embedder")
    except PrlmError:
        return [None] * len(pairs)
    from prlm_edge.retrieve.dense.embedder import OnnxEmbedder

    embedder = OnnxEmbedder(folder)
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors: dict[str, Any] = {}
    for start in range(0, len(texts), _BATCH):
        some = texts[start : start + _BATCH]
        vectors.update(zip(some, embedder.embed(some), strict=True))
    return [float(vectors[a] @ vectors[b]) if a.strip() else 0.0 for a, b in pairs]


@lru_cache(4096)
def _tokens(text: str) -> tuple[str, ...]:
    """The lower-cased text as jieba cuts it, white space left out."""
    return tuple(token for token in _jieba().cut(text.lower()) if token.strip())


def _char_bleu(answer: str, target: str) -> float:
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
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)


@cache
def _sacrebleu() -> tuple[Any, Any]:
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(effective_order=True), CHRF()


@cache
def _jieba() -> Any:
    import jieba

    jieba.setLogLevel(logging.WARNING)  # it announces its dictionary on stderr
    jieba.dt.tmp_dir = str(own_dir(cache_dir() / "jieba"))  # it unmarshals a file that it finds in there
    return jieba
