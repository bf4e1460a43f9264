"""What a rollout earns: named terms over a batch.

    accuracy         ROUGE-1 + ROUGE-2 + ROUGE-L (F1) against what the user wrote           0 to 3
    format           share of: ended, reasoning ended, one line, no tags, no placeholder    0 to 1
    personalization  the reward model's score, as it is or through a sigmoid                any, or 0 to 1
    style            share of the user's steady habits that the answer keeps                0 to 1
    faithfulness     share of the reasoning's checkable claims that are true, of 3 at least 0 to 1
    length           inside the user's usual length, and the reasoning inside its budget    0 to 1

Ranges differ, so terms are weighed only after they are normalized (`reward_sum.py`). Not here: rollouts, and TRL's
function signature (`rewards_trl.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from statistics import fmean
from typing import Protocol

from prlm_edge.errors import ConfigError, did_you_mean
from prlm_edge.prompt import TAGS
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_2, rouge_l
from prlm_edge.style import Claim, Style, judge_line, observe
from prlm_edge.tasks import get_task
from prlm_edge.types import Candidate, FinishReason, Scorer, Scoring

_SOFT_FROM = 0.75  # of the reasoning budget: from there on the term falls, to 0 at the budget (DAPO's soft punishment)
_ENOUGH_CLAIMS = 3  # of different things: topic, length and a habit, as the examples' own lines make them
_CONTROL = re.compile(r"<\|[^|<>\s]{1,40}\|>")
_PLACEHOLDER = re.compile(
    r"[\W_]*|[\W_]*(n/?a|none|null|tbd|untitled|placeholder|lorem ipsum.*|"
    r"((your|the|a|an|my|insert|enter|new|user's) )*(title|headline|subject( line)?|commit message|answer|note|text)"
    r"( (goes )?here)?)[\W_]*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Rollout:
    """One sampled completion, split. Lengths are in tokens; `finish_reason` is that of the answer."""

    prompt_id: str
    reasoning: str
    answer: str
    finish_reason: FinishReason
    reasoning_truncated: bool
    n_reasoning_tokens: int
    n_answer_tokens: int


@dataclass(frozen=True)
class Ask:
    """What a prompt asked for.

    Attributes:
        query: The request's text.
        target: What the user really wrote.
        past: What the user wrote for each of the items that the prompt shows, in prompt order.
        n_items: How many items the prompt shows.
        style: What is steady in all of the user's texts.
        task: The task's name.
    """

    query: str
    target: str
    past: tuple[str, ...]
    n_items: int
    style: Style
    task: str


class RewardTerm(Protocol):
    """One thing to be rewarded: a finite number for each rollout; `asks` are as many, rollout by rollout."""

    def __call__(self, rollouts: Sequence[Rollout], asks: Sequence[Ask]) -> list[float]:
        """Score a batch; rollouts of one prompt follow each other."""
        ...


def accuracy(rollouts: Sequence[Rollout], asks: Sequence[Ask]) -> list[float]:
    """ROUGE-1 + -2 + -L, as the paper; words of any script (rouge-score sees a Greek title as empty)."""
    pairs = [(Counted(one.answer), _counted(ask.target)) for one, ask in zip(rollouts, asks, strict=True)]
    return [rouge_1(ours, theirs) + rouge_2(ours, theirs) + rouge_l(ours, theirs) for ours, theirs in pairs]


def format_(rollouts: Sequence[Rollout], asks: Sequence[Ask]) -> list[float]:
    """A fifth for each: ended by itself, reasoning within its budget, one line, no tags, no placeholder. Empty: 0."""
    return [_format(one, get_task(ask.task).multiline) for one, ask in zip(rollouts, asks, strict=True)]


def style(rollouts: Sequence[Rollout], asks: Sequence[Ask]) -> list[float]:
    """`Style.match`: 1 where the user has no steady habits, 0 for an empty answer."""
    pairs = zip(rollouts, asks, strict=True)
    return [ask.style.match(one.answer) if one.answer.strip() else 0.0 for one, ask in pairs]


def faithfulness(rollouts: Sequence[Rollout], asks: Sequence[Ask]) -> list[float]:
    """True claims of all claims, but of at least `_ENOUGH_CLAIMS`: a line that says little earns little, silence 0.

    Items named, key words and lengths count once each, by the share of them that is true; only habits count one by one:
    a list such as "[1] [2] [3]" is no reasoning. A group in which nobody claims anything has no variance, and the term
    then says nothing of it.
    """
    return [_faithfulness(one, ask) for one, ask in zip(rollouts, asks, strict=True)]


@dataclass(frozen=True)
class Length:
    """1 inside the user's usual number of words and the reasoning budget, falling linearly outside.

    Below the band to 0 at no word; above it to 0 at half as much again (3 words at least). The reasoning's part is 1 up
    to three quarters of the budget and 0 at it. The mean of both; of the answer alone where there is no reasoning.

    Attributes:
        reasoning_budget: Tokens; 0: not judged.
    """

    reasoning_budget: int = 0

    def __call__(self, rollouts: Sequence[Rollout], asks: Sequence[Ask]) -> list[float]:
        """Score a batch."""
        return [self._one(one, ask) for one, ask in zip(rollouts, asks, strict=True)]

    def _one(self, one: Rollout, ask: Ask) -> float:
        answer = _in_band(observe(one.answer).words, _band(ask))
        if not self.reasoning_budget or not (one.n_reasoning_tokens or one.reasoning_truncated):
            return answer
        used = 1.0 if one.reasoning_truncated else one.n_reasoning_tokens / self.reasoning_budget
        return (answer + min(1.0, max(0.0, (1 - used) / (1 - _SOFT_FROM)))) / 2


@dataclass(frozen=True)
class Personalization:
    """The reward model's score; one call for the rollouts of each prompt.

    An empty answer is never scored: it gets 0 through the sigmoid, else the lowest score of its prompt.

    Attributes:
        scorer: The reward model, as best-of-n uses it on the device.
        sigmoid: Squash the score into 0 to 1, as the paper does.
    """

    scorer: Scorer
    sigmoid: bool = True

    def __call__(self, rollouts: Sequence[Rollout], asks: Sequence[Ask]) -> list[float]:
        """Score a batch."""
        found: list[float] = []
        for _, run in groupby(zip(rollouts, asks, strict=True), key=lambda pair: pair[0].prompt_id):
            pairs = list(run)
            found += self._prompt([one for one, _ in pairs], pairs[0][1])
        return found

    def _prompt(self, rollouts: Sequence[Rollout], ask: Ask) -> list[float]:
        written = [
            Candidate(one.answer, one.reasoning, finish_reason=one.finish_reason)
            for one in rollouts
            if one.answer.strip()
        ]
        scoring = Scoring(ask.query, ask.task, ask.style, past=ask.past)
        scores = [float(score) for score in self.scorer.score(written, scoring)] if written else []
        if self.sigmoid:
            scores = [_sigmoid(score) for score in scores]
        lowest = 0.0 if self.sigmoid else min(scores, default=0.0)
        rest = iter(scores)
        return [next(rest) if one.answer.strip() else lowest for one in rollouts]


TERMS = ("accuracy", "format", "personalization", "style", "faithfulness", "length")
_PLAIN: dict[str, RewardTerm] = {
    "accuracy": accuracy,
    "format": format_,
    "style": style,
    "faithfulness": faithfulness,
}


def make_terms(
    weights: Mapping[str, float], *, scorer: Scorer | None = None, sigmoid: bool = True, reasoning_budget: int = 0
) -> dict[str, RewardTerm]:
    """The terms that `weights` names, in the order of `TERMS`; one of weight 0 is logged, not learned from.

    Raises:
        ConfigError: An unknown name, a weight that is no number, all weights 0, or no reward model for personalization.
    """
    for name, weight in weights.items():
        if name not in TERMS:
            hint = did_you_mean(name, TERMS, f"there are: {', '.join(TERMS)}")
            raise ConfigError(f"no reward term is called {name!r}", hint)
        if not math.isfinite(weight):
            raise ConfigError(f"the weight of reward term {name} is {weight}", "give a number")
    if not any(weights.values()):
        raise ConfigError("no reward term has a weight", "give one, such as accuracy: 1.0")
    made = dict(_PLAIN)
    made["length"] = Length(reasoning_budget)
    if scorer is not None:
        made["personalization"] = Personalization(scorer, sigmoid)
    elif "personalization" in weights:
        raise ConfigError("reward term personalization needs a reward model", "train one first, or leave the term out")
    return {name: made[name] for name in TERMS if name in weights}


def _faithfulness(one: Rollout, ask: Ask) -> float:
    said: dict[object, dict[Claim, bool]] = {}
    for claim, true in judge_line(one.reasoning, one.answer, ask.n_items, ask.style, ask.query):
        said.setdefault(claim if claim.kind == "trait" else (claim.kind, claim.of), {})[claim] = true
    return sum(fmean(claims.values()) for claims in said.values()) / max(len(said), _ENOUGH_CLAIMS)


def _format(one: Rollout, multiline: bool) -> float:
    text = one.answer.strip()
    if not text:
        return 0.0
    checks = (
        one.finish_reason == "stop",
        not one.reasoning_truncated,
        multiline or len(text.splitlines()) == 1,
        not any(tag in text for tag in TAGS) and not _CONTROL.search(text),
        not _PLACEHOLDER.fullmatch(text),
    )
    return sum(checks) / len(checks)


def _band(ask: Ask) -> tuple[int, int] | None:
    fact = ask.style.fact("words")
    if fact is not None and isinstance(fact.value, tuple):
        low, _, high = fact.value
        return int(low), int(high)
    lengths = [observe(text).words for text in ask.past if text.strip()]
    return (min(lengths), max(lengths)) if lengths else None


def _in_band(n: int, band: tuple[int, int] | None) -> float:
    if band is None or not n:
        return float(n > 0)
    low, high = band
    return n / low if n < low else max(0.0, 1 - (n - high) / max(3.0, high / 2)) if n > high else 1.0


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


@lru_cache(maxsize=4096)
def _counted(text: str) -> Counted:
    """A target: the rollouts of a group share it."""
    return Counted(text)
