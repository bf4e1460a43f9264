"""What a rollout earns: named terms over a batch.

    accuracy         ROUGE-1 + ROUGE-2 + ROUGE-L (F1) against what the user wrote           0 to 3
    format           share of: ended, reasoning ended, one line, no tags, no placeholder    0 to 1
    personalization  the reward model's score, as it is or through a sigmoid                any, or 0 to 1
    style            share of the user's steady habits that the answer keeps                0 to 1
    faithfulness     share of the reasoning's checkable claims that are true, of 3 at least 0 to 1
    length           inside the user's usual length, and the reasoning inside its budget    0 to 1
    no_echo          neither a topic said again nor a past text that the prompt shows       0 or 1
    no_invention     no name, number or identifier that neither request nor past items have 0 or 1

Ranges differ: under `grpo.aggregation: normalize_then_sum` TRL normalizes each term within its group, then weighs it.
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
from prlm_edge.evaluate.metrics import Known
from prlm_edge.prompt import TAGS
from prlm_edge.rerank import flaw
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_2, rouge_l
from prlm_edge.style import Claim, judge_line, observe
from prlm_edge.tasks import get_task
from prlm_edge.train.types import Rollout
from prlm_edge.types import Candidate, Scorer, Scoring

_SOFT_FROM = 0.75  # of the reasoning budget: from there on the term falls, to 0 at the budget (DAPO's soft punishment)
_ENOUGH_CLAIMS = 3  # of different things: topic, length and a habit, as the examples' own lines make them
_CONTROL = re.compile(r"<\|[^|<>\s]{1,40}\|>")
_PLACEHOLDER = re.compile(
    r"[\W_]*|[\W_]*(n/?a|none|null|tbd|untitled|placeholder|lorem ipsum.*|"
    r"((your|the|a|an|my|insert|enter|new|user's) )*(title|headline|subject( line)?|commit message|answer|note|text)"
    r"( (goes )?here)?)[\W_]*",
    re.IGNORECASE | re.DOTALL,
)


class RewardTerm(Protocol):
    """One thing to be rewarded: a finite number for each rollout."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Score a batch; rollouts of one ask follow each other."""
        ...


def accuracy(rollouts: Sequence[Rollout]) -> list[float]:
    """ROUGE-1 + -2 + -L, as in the paper; words of any script (rouge-score sees a Greek title as empty)."""
    pairs = [(Counted(one.said.answer), _counted(one.ask.target)) for one in rollouts]
    return [rouge_1(ours, theirs) + rouge_2(ours, theirs) + rouge_l(ours, theirs) for ours, theirs in pairs]


def format_(rollouts: Sequence[Rollout]) -> list[float]:
    """A fifth for each: ended by itself, reasoning within its budget, one line, no tags, no placeholder. Empty: 0."""
    return [_format(one.said, get_task(one.ask.scoring.task).multiline) for one in rollouts]


def style(rollouts: Sequence[Rollout]) -> list[float]:
    """`Style.match`: 1 where the user has no steady habits, 0 for an empty answer."""
    return [one.ask.scoring.style.match(one.said.answer) if one.said.answer.strip() else 0.0 for one in rollouts]


def faithfulness(rollouts: Sequence[Rollout]) -> list[float]:
    """True claims divided by all claims, or by `_ENOUGH_CLAIMS` where there are fewer: no reasoning earns 0.

    Items named, key words and lengths count once each, by the share of them that is true; only habits count one by one:
    a list such as "[1] [2] [3]" is no reasoning.
    """
    return [_faithfulness(one) for one in rollouts]


def no_echo(rollouts: Sequence[Rollout]) -> list[float]:
    """0 for an answer that best-of-n would pass over (`rerank.flaw`), and for an empty one."""
    return [float(bool(one.said.answer.strip()) and not flaw(one.said.answer, one.ask.scoring)) for one in rollouts]


def no_invention(rollouts: Sequence[Rollout]) -> list[float]:
    """0 for an answer that the metric "invention" counts, and for an empty one.

    The request is taken as the prompt has it: of a diff, the account of what changed.
    """
    found = []
    for one in rollouts:
        known = _known(one.ask.scoring.query, *(hit.item.searchable for hit in one.ask.scoring.used))
        found.append(float(bool(one.said.answer.strip()) and not known.invented(one.said.answer)))
    return found


@dataclass(frozen=True)
class Length:
    """1 inside the user's usual number of words and the reasoning budget, falling linearly outside.

    Below the band to 0 at no word; above it to 0 at half as much again (3 words at least). The reasoning's part is 1 up
    to three quarters of the budget and 0 at it. The mean of both; of the answer alone where there is no reasoning.

    Attributes:
        reasoning_budget: Tokens; 0: not judged.
    """

    reasoning_budget: int = 0

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Score a batch."""
        return [self._one(one) for one in rollouts]

    def _one(self, one: Rollout) -> float:
        answer = _in_band(observe(one.said.answer).words, _band(one.ask.scoring))
        if not self.reasoning_budget or not (one.n_reasoning or one.said.reasoning_truncated):
            return answer
        used = 1.0 if one.said.reasoning_truncated else one.n_reasoning / self.reasoning_budget
        return (answer + min(1.0, max(0.0, (1 - used) / (1 - _SOFT_FROM)))) / 2


@dataclass(frozen=True)
class Personalization:
    """The reward model's score; one call for the rollouts of each ask.

    An empty answer is never scored: it gets 0 through the sigmoid, else the lowest score of its group.

    Attributes:
        scorer: The reward model, as best-of-n uses it on the device.
        sigmoid: Squash the score into 0 to 1, as the paper does.
    """

    scorer: Scorer
    sigmoid: bool = True

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Score a batch."""
        groups = (list(group) for _, group in groupby(rollouts, key=lambda one: one.ask.id))
        return [value for group in groups for value in self._group(group)]

    def _group(self, rollouts: Sequence[Rollout]) -> list[float]:
        written = [one.said for one in rollouts if one.said.answer.strip()]
        scores = [float(score) for score in self.scorer.score(written, rollouts[0].ask.scoring)] if written else []
        if self.sigmoid:
            scores = [_sigmoid(score) for score in scores]
        lowest = 0.0 if self.sigmoid else min(scores, default=0.0)
        rest = iter(scores)
        return [next(rest) if one.said.answer.strip() else lowest for one in rollouts]


TERMS = ("accuracy", "format", "personalization", "style", "faithfulness", "length", "no_echo", "no_invention")
_PLAIN: dict[str, RewardTerm] = {
    "accuracy": accuracy,
    "format": format_,
    "style": style,
    "faithfulness": faithfulness,
    "no_echo": no_echo,
    "no_invention": no_invention,
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


def _faithfulness(one: Rollout) -> float:
    of, said = one.ask.scoring, dict[object, dict[Claim, bool]]()
    for claim, true in judge_line(one.said.reasoning, one.said.answer, len(of.past), of.style, of.query):
        said.setdefault(claim if claim.kind == "trait" else (claim.kind, claim.of), {})[claim] = true
    return sum(fmean(claims.values()) for claims in said.values()) / max(len(said), _ENOUGH_CLAIMS)


def _format(one: Candidate, multiline: bool) -> float:
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


def _band(of: Scoring) -> tuple[int, int] | None:
    fact = of.style.fact("words")
    if fact is not None and isinstance(fact.value, tuple):
        low, _, high = fact.value
        return int(low), int(high)
    lengths = [observe(text).words for text in of.past if text.strip()]
    return (min(lengths), max(lengths)) if lengths else None


def _in_band(n: int, band: tuple[int, int] | None) -> float:
    if band is None or not n:
        return float(n > 0)
    low, high = band
    return n / low if n < low else max(0.0, 1 - (n - high) / max(3.0, high / 2)) if n > high else 1.0


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


@lru_cache(maxsize=64)
def _known(*texts: str) -> Known:
    """What a request's answers may name, read once for all rollouts of a group."""
    return Known(*texts)


@lru_cache(maxsize=4096)
def _counted(text: str) -> Counted:
    """A target, counted once for all rollouts of a group."""
    return Counted(text)
