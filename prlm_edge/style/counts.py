"""Finds the steady facts of a writer's style by counting what `observe` sees in their texts.

`style_of(titles).facts` holds only what is steady, the most telling first. `Counts` can be stored and go on counting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from prlm_edge.style.facts import IMPLIES, TRAITS, Fact, Style, plural
from prlm_edge.style.observe import carries_meaning, long_words, observe, usual_length_share

STEADY = 0.6  # the least share, smoothed by PRIOR_WEIGHT texts of the usual share, that makes a fact
PRIOR_WEIGHT = 2
MIN_GAIN = 0.02  # nats; a trait that everybody has says nothing about this writer
N_RECURRING = 12
STYLE_VERSION = 1  # raise it when texts are observed or counted in another way: stored counts are then made again


def style_of(texts: Sequence[str]) -> Style:
    """Count the style of one writer's texts (titles, subjects, posts); blank ones don't count.

    A trait becomes a fact when its share is at least 0.6 after two texts of the usual share are added: so one text
    shows nothing, three equal ones do, and in a long list more than half must agree.
    """
    counts = Counts()
    counts.add(texts)
    return counts.style(lambda words: n_with_any(words, texts))


@dataclass
class Counts:
    """What `style_of` counts. Counting may go on later, and gives the same as counting all texts at once.

    Attributes:
        n: Number of texts that were not blank.
        lengths: Texts by number of words.
        traits: Texts by trait.
        tags: Texts by literal tag.
        firsts: Texts by first word.
        words: Texts by word.
    """

    n: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    traits: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    firsts: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)

    def add(self, texts: Sequence[str]) -> None:
        """Count these too."""
        # One update() with all texts: a call for each text would cost as much as observing it.
        texts = [text for text in texts if text and not text.isspace()]
        seen = list(map(observe, texts))
        self.n += len(seen)
        self.lengths.update(one.words for one in seen)
        self.traits.update(chain.from_iterable(one.traits for one in seen))
        self.tags.update(one.tag for one in seen if one.tag)
        self.firsts.update(one.first for one in seen if one.first)
        self.words.update(chain.from_iterable(map(set, map(long_words, texts))))

    def style(self, n_with_any: Callable[[tuple[str, ...]], int]) -> Style:
        """The style of all texts so far; `n_with_any(words)` says how many of them hold any of the words."""
        n = self.n
        if not n:
            return Style()
        recurring = tuple(_recurring(self.words))
        facts = [
            _length_fact(self.lengths, n),
            *_trait_facts(self.traits, n),
            *_literal_facts(self.tags, self.firsts, n),
            *_vocabulary_fact(n_with_any, recurring, n),
        ]
        silent = set().union(*(IMPLIES.get(fact.key, ()) for fact in facts))
        kept = [fact for fact in facts if fact.key not in silent]
        return Style(tuple(sorted(kept, key=lambda fact: -fact.gain)), n, recurring)

    def to_json(self) -> list[Any]:
        """What `from_json` takes. The order of counting is kept: among equal counts the first one wins."""
        counters = (self.lengths, self.traits, self.tags, self.firsts, self.words)
        return [self.n, *([list(counter), list(counter.values())] for counter in counters)]

    @classmethod
    def from_json(cls, value: list[Any]) -> Counts:
        """The counts that `to_json` made.

        Raises:
            ValueError, TypeError: `value` is something else.
        """
        n, *counters = value
        return cls(n, *(Counter(dict(zip(keys, counts, strict=True))) for keys, counts in counters))


def n_with_any(words: tuple[str, ...], texts: Iterable[str]) -> int:
    """How many of `texts` hold any of the words."""
    wanted = set(words)
    return sum(1 for text in texts if not wanted.isdisjoint(long_words(text)))


def _fact(
    name: str, value: str | tuple[int, int, int] | tuple[str, ...], count: int, n: int, phrase: str, usual: float
) -> Iterator[Fact]:
    drawn = (count + PRIOR_WEIGHT * usual) / (n + PRIOR_WEIGHT)
    gain = drawn * math.log(drawn / usual)
    if n > 1 and drawn >= STEADY and gain >= MIN_GAIN:
        yield Fact(name, value, count / n, n, phrase, gain)


def _length_fact(lengths: Counter[int], n: int) -> Fact:
    ordered = sorted(lengths.items())

    def quantile(q: float) -> int:
        """The nearest-rank quantile."""
        passed = 0
        for length, count in ordered:
            passed += count
            if passed >= q * n:
                return length
        return ordered[-1][0]

    low, middle, high = quantile(0.1), quantile(0.5), quantile(0.9)
    inside = sum(count for length, count in ordered if low <= length <= high)
    usual = usual_length_share(low, high)
    drawn = (inside + PRIOR_WEIGHT * usual) / (n + PRIOR_WEIGHT)
    phrase = f"about {plural(middle)}" if high - low <= max(2, middle // 3) else f"{low} to {high} words"
    return Fact("words", (low, middle, high), inside / n, n, phrase, drawn * math.log(drawn / usual))


def _trait_facts(traits: Counter[str], n: int) -> Iterator[Fact]:
    for key, (phrase, usual) in TRAITS.items():
        name, value = key.split(":")
        yield from _fact(name, value, traits[key], n, phrase, usual)


def _literal_facts(tags: Counter[str], firsts: Counter[str], n: int) -> Iterator[Fact]:
    for tag, count in tags.most_common(1):
        yield from _fact("tag", tag, count, n, f"tag '{tag}'", 0.01)
    for first, count in firsts.most_common(1):
        yield from _fact("first word", first, count, n, f"'{first}' first", 0.02)


def _recurring(words: Counter[str]) -> Iterator[tuple[str, int]]:
    common = ((word, count) for word, count in words.items() if count > 1 and carries_meaning(word))
    yield from sorted(common, key=lambda pair: (-pair[1], pair[0]))[:N_RECURRING]


def _vocabulary_fact(
    n_with_any: Callable[[tuple[str, ...]], int], recurring: Sequence[tuple[str, int]], n: int
) -> Iterator[Fact]:
    top = [pair for pair in recurring[:4] if pair[1] >= max(2, n / 8)]
    if sum(count for _, count in top) < STEADY * n:
        return  # even without overlap they are in too few texts: no second pass is needed
    chosen = tuple(word for word, _ in top)
    phrase = "says " + " or ".join(f"'{word}'" for word in chosen)
    yield from _fact("vocabulary", chosen, n_with_any(chosen), n, phrase, 0.2)
