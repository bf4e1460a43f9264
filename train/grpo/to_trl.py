"""Our reward terms as TRL's reward functions: f(prompts, completions, completion_ids, **columns) -> a number each.

A data set for TRL needs the column "prompt_id" beside "prompt"; what was asked is looked up by it, because a `Style`
does not fit into an Arrow column. Rollouts that come apart already (our llama.cpp engine, through TRL's `rollout_func`)
give the fields of `Rollout` as columns; others are split from the text. Not here: the terms (`rewards.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from prlm_edge.errors import PrlmError
from prlm_edge.prompt import ANSWER_CLOSE, Splitter
from prlm_edge.train.grpo.terms import Ask, RewardTerm, Rollout
from prlm_edge.train.grpo.weigh import Values, zero_variance
from prlm_edge.types import FinishReason

Split = Callable[[str], tuple[str, str]]
Seen = Callable[[Sequence[Rollout], Sequence[Ask], Mapping[str, Values]], None]
RewardFunc = Callable[..., list[float]]
_FIELDS = ("reasoning", "answer", "finish_reason", "reasoning_truncated", "n_reasoning_tokens", "n_answer_tokens")


def splitter(opening: str = "") -> Split:
    """A function that splits a completion into (reasoning, answer).

    Args:
        opening: The tag that the prompt already ends with: "<think>", "<answer>" or none.
    """

    def split(text: str) -> tuple[str, str]:
        parts = {"reasoning": "", "answer": ""}
        one = Splitter()
        for channel, piece in [*one.feed(opening + text), *one.finish()]:
            parts[channel] += piece
        return parts["reasoning"].strip(), parts["answer"].strip()

    return split


def as_trl_reward_funcs(
    terms: Mapping[str, RewardTerm],
    weights: Mapping[str, float],
    asks: Mapping[str, Ask],
    *,
    group_size: int,
    split: Split,
    count: Callable[[str], int],
    stop_ids: Sequence[int] = (),
    seen: Seen | None = None,
) -> list[RewardFunc]:
    """A function for each term, named by it, in the order of `terms`; give TRL `reward_weights` in the same order.

    The first call of a batch scores all terms, and logs the metrics "zero_variance" (share of groups), "truncated" and
    "non_finite" (shares of rollouts), "reasoning_tokens" and "answer_tokens" (means). A process's batch must hold whole
    groups.

    Args:
        terms: By name, from `make_terms`.
        weights: By name.
        asks: What was asked, by prompt id.
        group_size: Rollouts a prompt.
        split: Completion -> (reasoning, answer), see `splitter`.
        count: Tokens of a text.
        stop_ids: Token ids that end a completion.
        seen: Called with each batch and what it earned, such as `RunLogCallback.see`.
    """
    batch = _Batch(terms, weights, asks, group_size, _Reader(split, count, frozenset(stop_ids)), seen)
    return [_func(name, batch) for name in terms]


def _func(name: str, batch: _Batch) -> RewardFunc:
    def reward(
        prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float]:
        return [float(value) for value in batch.terms(completions, completion_ids, columns)[name]]

    reward.__name__ = name
    return reward


class _Reader:
    """Makes a Rollout of what TRL hands over."""

    def __init__(self, split: Split, count: Callable[[str], int], stop_ids: frozenset[int]) -> None:
        self._split, self._count, self._stop_ids = split, count, stop_ids

    def read(
        self, completions: Sequence[Any], ids: Sequence[Sequence[int]], columns: Mapping[str, Any]
    ) -> list[Rollout]:
        """In the order of `completions`.

        Raises:
            PrlmError: There is no column "prompt_id".
        """
        prompt_ids = columns.get("prompt_id")
        if prompt_ids is None:
            raise PrlmError("the data set has no column 'prompt_id'", "a reward looks up by it what was asked")
        if all(field in columns for field in _FIELDS):
            rows = zip(*(columns[field] for field in _FIELDS), strict=True)
            return [Rollout(key, *row) for key, row in zip(prompt_ids, rows, strict=True)]
        return [
            self._one(key, _text(completion), these)
            for key, completion, these in zip(prompt_ids, completions, ids, strict=True)
        ]

    def _one(self, key: str, text: str, ids: Sequence[int]) -> Rollout:
        reasoning, answer = self._split(text)
        ended = ANSWER_CLOSE in text or bool(self._stop_ids.intersection(ids[-1:]))
        finish: FinishReason = "stop" if ended else "length"
        truncated = not ended and bool(reasoning) and not answer
        return Rollout(key, reasoning, answer, finish, truncated, self._count(reasoning), self._count(answer))


class _Batch:
    """Scores a batch once: TRL asks for each term on its own."""

    def __init__(
        self,
        terms: Mapping[str, RewardTerm],
        weights: Mapping[str, float],
        asks: Mapping[str, Ask],
        group_size: int,
        reader: _Reader,
        seen: Seen | None,
    ) -> None:
        self._terms, self._weights, self._asks = terms, weights, asks
        self._group_size, self._reader, self._seen = group_size, reader, seen
        self._last: tuple[Any, dict[str, Values]] | None = None

    def terms(
        self, completions: Sequence[Any], ids: Sequence[Sequence[int]], columns: Mapping[str, Any]
    ) -> dict[str, Values]:
        """Values of each term, shape (n,)."""
        if self._last is not None and self._last[0] is completions:  # kept, so no other list has its identity
            return self._last[1]
        rollouts = self._reader.read(completions, ids, columns)
        asks = [self._ask(one.prompt_id) for one in rollouts]
        found = {name: np.asarray(term(rollouts, asks), dtype=np.float64) for name, term in self._terms.items()}
        self._last = completions, found
        self._log(rollouts, found, columns.get("log_metric"))
        if self._seen is not None:
            self._seen(rollouts, asks, found)
        return found

    def _ask(self, prompt_id: str) -> Ask:
        if prompt_id not in self._asks:
            raise PrlmError(f"nothing is known of prompt {prompt_id!r}", "data set and reward functions must be of one")
        return self._asks[prompt_id]

    def _log(self, rollouts: Sequence[Rollout], found: Mapping[str, Values], log_metric: Any) -> None:
        if log_metric is None:
            return
        if len(rollouts) % self._group_size == 0:
            log_metric("zero_variance", zero_variance(found, self._weights, self._group_size))
        cut = [one.reasoning_truncated or one.finish_reason == "length" for one in rollouts]
        broken = ~np.isfinite(np.stack(list(found.values()))).all(axis=0)
        log_metric("non_finite", float(broken.mean()))  # TRL leaves NaN out of every mean, so that it can't be seen
        log_metric("truncated", sum(cut) / len(cut))
        log_metric("reasoning_tokens", sum(one.n_reasoning_tokens for one in rollouts) / len(rollouts))
        log_metric("answer_tokens", sum(one.n_answer_tokens for one in rollouts) / len(rollouts))


def _text(completion: Any) -> str:
    """A completion's text: TRL hands over messages where the prompt was a conversation."""
    return completion if isinstance(completion, str) else "".join(str(turn.get("content", "")) for turn in completion)


assert set(_FIELDS) | {"prompt_id"} == set(Rollout.__dataclass_fields__)
assert get_args(FinishReason)[:2] == ("stop", "length")
