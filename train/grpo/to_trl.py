"""What TRL's GRPOTrainer calls: one function that draws, and one function for each reward term.

Rollouts stay here. TRL's columns carry ids alone: "prompt" is the id of an `Ask`, "rollout" the id of a `Rollout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prlm_edge.train.grpo.rollout import Drawer
from prlm_edge.train.grpo.terms import RewardTerm
from prlm_edge.train.types import Ask, Rollout, Values

#: Called with the rollouts of a batch and, by term, what each of them earned.
Seen = Callable[[Sequence[Rollout], Mapping[str, Values]], None]
_SAME = 1e-8  # rewards that differ by less are equal: rounding is no signal


class Exchange:
    """Draws for TRL and scores what was drawn.

    Each scored batch logs the metrics "zero_variance" (share of groups, see `zero_variance`), "truncated" and
    "non_finite" (shares of rollouts), "reasoning_tokens" and "answer_tokens" (means).

    Args:
        engine: Who draws.
        asks: By id.
        terms: The reward terms by name, from `make_terms`.
        weights: Of the terms, by name.
        group_size: Rollouts of one ask; they follow each other.
        seen: Called once with each batch.
    """

    def __init__(
        self,
        engine: Drawer,
        asks: Mapping[str, Ask],
        terms: Mapping[str, RewardTerm],
        weights: Mapping[str, float],
        group_size: int,
        seen: Seen,
    ) -> None:
        self._engine, self._asks, self._terms, self._weights = engine, asks, terms, weights
        self._group_size, self._seen = group_size, seen
        self._batch: dict[str, Rollout] = {}
        self._earned: dict[str, Values] = {}

    def draw(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """TRL's `rollout_func`: from ids of asks, each once for every rollout of its group, to what was drawn."""
        step = str(trainer.state.global_step)
        self._engine.load(trainer.accelerator.unwrap_model(trainer.model))
        found = self._engine.draw([self._asks[one] for one in prompts], step)
        self._batch, self._earned = {f"{step}/{place}": one for place, one in enumerate(found)}, {}
        return {
            "prompt_ids": [list(one.ask.ids) for one in found],
            "completion_ids": [list(one.ids) for one in found],
            "logprobs": [list(one.logprobs) for one in found],
            "env_mask": [[int(own) for own in one.drawn] for one in found],
            "rollout": list(self._batch),
        }

    @property
    def rewards(self) -> list[Callable[..., list[float]]]:
        """TRL's `reward_funcs`, named by their terms and in their order; `reward_weights` must have the same order."""
        return [self._named(name) for name in self._terms]

    def _named(self, name: str) -> Callable[..., list[float]]:
        def reward(**columns: Any) -> list[float]:
            return self._reward(name, **columns)

        reward.__name__ = name  # TRL logs it by this name
        return reward

    def _reward(self, name: str, *, rollout: Sequence[str], log_metric: Any, **_columns: Any) -> list[float]:
        if not self._earned:  # the first term of a batch scores all of them
            rollouts = list(self._batch.values())
            self._earned = {key: np.asarray(term(rollouts), np.float64) for key, term in self._terms.items()}
            self._log(rollouts, log_metric)
            self._seen(rollouts, self._earned)
        earned = dict(zip(self._batch, self._earned[name].tolist(), strict=True))
        return [earned[one] for one in rollout]

    def _log(self, rollouts: Sequence[Rollout], log_metric: Callable[[str, float], None]) -> None:
        if len(rollouts) % self._group_size == 0:
            log_metric("zero_variance", zero_variance(self._earned, self._weights, self._group_size))
        broken = ~np.isfinite(np.stack(list(self._earned.values()))).all(axis=0)
        log_metric("non_finite", float(broken.mean()))  # TRL leaves NaN out of every mean, so it would not show
        log_metric("truncated", sum(one.cut for one in rollouts) / len(rollouts))
        log_metric("reasoning_tokens", sum(one.n_reasoning for one in rollouts) / len(rollouts))
        log_metric("answer_tokens", sum(one.n_answer for one in rollouts) / len(rollouts))


def zero_variance(terms: Mapping[str, Values], weights: Mapping[str, float], group_size: int) -> float:
    """Share of the groups in which no term with a weight varies: nothing is learned from them.

    TRL's own figure (`frac_reward_zero_std`) is taken over the whole batch under "normalize_then_sum", where it stays 0
    as long as a single group varies.
    """
    values = np.stack([np.asarray(terms[name], np.float64) for name in terms if weights[name]])
    varies = np.ptp(values.reshape(len(values), -1, group_size), axis=2) > _SAME
    return float(1 - varies.any(axis=0).mean())
