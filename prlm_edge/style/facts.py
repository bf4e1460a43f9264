"""What a fact of a writer's style is, how it is worded, and whether a text keeps it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from prlm_edge.style.observe import Observation, long_words, observe

# Trait -> (its wording, the share of titles in general that have it). The shares are rounded from some 50,000 paper
# titles and commit subjects by a few thousand writers; they only decide which facts come first.
TRAITS: dict[str, tuple[str, float]] = {
    "case:lower": ("lower case", 0.1),
    "case:title": ("title case", 0.4),
    "case:sentence": ("sentence case", 0.4),
    "case:capitals": ("all capitals", 0.01),
    "start:lower": ("starts lower-case", 0.2),
    "tag:word": ("one word and a colon first", 0.25),
    "tag:scope": ("a tag with a scope first", 0.02),
    "tag:bracket": ("a tag in brackets first", 0.03),
    "colon:yes": ("a colon", 0.4),
    "colon:no": ("no colon", 0.6),
    "end:period": ("ends with a period", 0.1),
    "end:question": ("ends with a question mark", 0.02),
    "end:exclamation": ("ends with an exclamation mark", 0.01),
    "end:ellipsis": ("ends with an ellipsis", 0.01),
    "period:no": ("no final period", 0.9),
    "verb:imperative": ("an imperative verb first", 0.25),
    "verb:past": ("a past-tense verb first", 0.02),
    "verb:third": ("a third-person verb first", 0.02),
    "verb:ing": ("an -ing verb first", 0.04),
    "person:first": ("first person", 0.05),
    "number:yes": ("a number", 0.15),
    "quotes:yes": ("quotation marks", 0.02),
    "dash:yes": ("a dash", 0.02),
    "ampersand:yes": ("an ampersand", 0.01),
    "parentheses:yes": ("parentheses", 0.05),
    "comma:yes": ("a comma", 0.08),
    "code:yes": ("code in backquotes", 0.03),
    "hashtag:yes": ("a hashtag", 0.01),
    "emoji:yes": ("an emoji", 0.01),
}
# A trait or fact -> the traits it implies, which are then not said.
IMPLIES = {
    "case:lower": {"start:lower"},
    "tag": {"tag:word", "tag:scope", "tag:bracket", "colon:yes", "parentheses:yes"},
    "tag:word": {"colon:yes"},
    "tag:scope": {"colon:yes", "parentheses:yes"},
    "end:question": {"period:no"},
    "end:exclamation": {"period:no"},
    "end:ellipsis": {"period:no"},
}


@dataclass(frozen=True)
class Fact:
    """One steady habit of a writer.

    Attributes:
        name: What it is about: "words", "case", "start", "tag", "colon", "end", "period", "verb", "first word",
            "vocabulary", "person" or a sign such as "number".
        value: What holds: a (low, median, high) number of words, a literal tag or word, a tuple of words, or the
            trait's value, such as "lower" of "case".
        share: The fraction of the texts that keep it, 0 to 1.
        n: Number of texts counted.
        phrase: The fact as a short clause.
        gain: How much it distinguishes this writer from others, in nats: p * ln(p / usual share), where p is the share
            after smoothing towards the usual one.
    """

    name: str
    value: str | tuple[int, int, int] | tuple[str, ...]
    share: float
    n: int
    phrase: str
    gain: float = 0.0

    def seen_in(self, seen: Observation, text: str) -> bool:
        """Whether `text`, of which `seen` is the observation, keeps this fact."""
        if self.name == "words":
            return self.value[0] <= seen.words <= self.value[2]  # type: ignore[operator]
        if self.name == "vocabulary":
            return not set(self.value).isdisjoint(long_words(text))
        if self.name == "first word":
            return seen.first == self.value
        return seen.tag == self.value if self.key == "tag" else self.key in seen.traits

    @cached_property
    def key(self) -> str:
        """The trait it stands for ("case:lower"), or its name where it is none."""
        trait = f"{self.name}:{self.value}"
        return trait if trait in TRAITS else self.name


@dataclass(frozen=True)
class Style:
    """What is steady in a writer's texts.

    Attributes:
        facts: Steady facts, the most telling first.
        n: Number of texts that were not blank.
        recurring: Content words in two texts or more with the number of texts, most frequent first.
        crossed_out: Keys of the facts that are left out because the writer said so.
    """

    facts: tuple[Fact, ...] = ()
    n: int = 0
    recurring: tuple[tuple[str, int], ...] = ()
    crossed_out: frozenset[str] = frozenset()

    def fact(self, name: str) -> Fact | None:
        """The fact called `name`, None where that isn't steady."""
        return next((fact for fact in self.facts if fact.name == name), None)

    def without(self, keys: Collection[str]) -> Style:
        """This style without the facts of these keys; without "vocabulary" no words recur either."""
        if not keys:
            return self
        facts = tuple(fact for fact in self.facts if fact.key not in keys)
        recurring = () if "vocabulary" in keys else self.recurring
        return replace(self, facts=facts, recurring=recurring, crossed_out=frozenset(keys))

    def match(self, text: str) -> float:
        """Share of the facts that `text` keeps, each weighted by its steadiness; 1.0 where there are no facts."""
        total = sum(fact.share for fact in self.facts)
        return sum(fact.share for fact in self.judge(text)[0]) / total if total else 1.0

    def judge(self, text: str) -> tuple[list[Fact], list[Fact]]:
        """The facts that `text` keeps, and those that it breaks, the most telling first."""
        seen = observe(text)
        kept: list[Fact] = []
        broken: list[Fact] = []
        for fact in self.facts:
            (kept if fact.seen_in(seen, text) else broken).append(fact)
        return kept, broken


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as a sentence has them: "a, b and c"; `last` stands before the last one."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def plural(n: int) -> str:
    """Such as "1 word" or "2 words"."""
    return f"{n} word" if n == 1 else f"{n} words"
