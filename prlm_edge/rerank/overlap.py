"""How much two texts share: ROUGE-1, -2 and -L (F1) and chrF, all from 0 to 1, without stemming.

This is our own code because rouge-score would bring nltk and absl into an install on a device, and sacrebleu more; it
is equal to both where they apply (tests/parity). One difference: rouge-score knows only words of a-z and 0-9, so a
Greek title is empty for it. Here a word is a run of letters, digits and marks of any script, and each character counts
as a word in scripts written without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

CHAR_ORDER = 6  # chrF counts runs of up to six characters
BETA = 2  # how much more recall weighs than precision in chrF
# Thai, Lao, Myanmar, Khmer, kana and Han: written without spaces.
_UNSPACED = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"
)


def words(text: str) -> list[str]:
    """The lower-case words that ROUGE counts."""
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        text = _UNSPACED.sub(r" \g<0> ", text)
    return "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text).split()


@dataclass(frozen=True)
class Counted:
    """A text whose words and n-grams are counted once, to be compared with many."""

    text: str

    @cached_property
    def words(self) -> list[str]:
        """Its words."""
        return words(self.text)

    @cached_property
    def unigrams(self) -> Counter[str]:
        """Its words with their counts."""
        return Counter(self.words)

    @cached_property
    def bigrams(self) -> Counter[tuple[str, str]]:
        """Its pairs of neighbouring words with their counts."""
        return Counter(zip(self.words, self.words[1:], strict=False))

    @cached_property
    def chars(self) -> tuple[Counter[str], ...]:
        """For each n from 1 to `CHAR_ORDER` its runs of n characters with their counts; white space is left out."""
        line = "".join(self.text.split())
        orders = range(1, CHAR_ORDER + 1)
        return tuple(Counter(line[i : i + n] for i in range(len(line) - n + 1)) for n in orders)


def rouge_1(a: Counted, b: Counted) -> float:
    """F1 of shared words."""
    return _f1(_shared(a.unigrams, b.unigrams), a.unigrams.total(), b.unigrams.total())


def rouge_2(a: Counted, b: Counted) -> float:
    """F1 of shared pairs of neighbouring words."""
    return _f1(_shared(a.bigrams, b.bigrams), a.bigrams.total(), b.bigrams.total())


def rouge_l(a: Counted, b: Counted) -> float:
    """F1 of the longest common subsequence of words."""
    return _f1(longest_common(a.words, b.words), len(a.words), len(b.words))


def rouge(a: Counted, b: Counted) -> float:
    """The mean of ROUGE-1, -2 and -L; symmetric. Equal texts score 1, also those too short to have a pair of words."""
    return 1.0 if a.text == b.text else (rouge_1(a, b) + rouge_2(a, b) + rouge_l(a, b)) / 3


def chrf(a: Counted, b: Counted) -> float:
    """ChrF2 of `a` against the reference `b`; not symmetric. Equal texts score 1."""
    if a.text == b.text:
        return 1.0
    precision = recall = 0.0
    n_orders = 0
    for ours, theirs in zip(a.chars, b.chars, strict=True):
        if ours and theirs:
            shared = _shared(ours, theirs)
            precision += shared / ours.total()
            recall += shared / theirs.total()
            n_orders += 1
    if not precision + recall:
        return 0.0
    precision, recall = precision / n_orders, recall / n_orders
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _shared(a: Mapping[Any, int], b: Mapping[Any, int]) -> int:
    if len(b) < len(a):
        a, b = b, a
    return sum(min(count, b[key]) for key, count in a.items() if key in b)


def _f1(shared: int, n_a: int, n_b: int) -> float:
    return 2 * shared / (n_a + n_b) if shared else 0.0


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence of two lists of words."""
    # the usual table of lengths, row by row, each row held as the bits of one number
    where: dict[str, int] = {}
    for i, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << i
    row = full = (1 << len(a)) - 1
    for word in b:
        hits = row & where.get(word, 0)
        row = (row + hits) | (row - hits)
    return (~row & full).bit_count()
