"""What training draws and judges: `Ask`, a request with what its user really wrote, and `Rollout`, an answer to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prlm_edge.types import Candidate, Request, Scoring

#: Called with (things done, things in all).
Progress = Callable[[int, int], None]
#: What the rollouts of a batch earned, shape (rollouts,).
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Ask:
    """One request of a data set.

    Attributes:
        id: Unique in a run.
        request: What the backend is asked, as in use.
        ids: Token ids of the whole prompt, the opening tag included.
        scoring: What an answer is judged with: request, task, style, the past items shown.
        target: What the user really wrote.
    """

    id: str
    request: Request
    ids: tuple[int, ...]
    scoring: Scoring
    target: str


@dataclass(frozen=True)
class Rollout:
    """One answer that was drawn.

    Attributes:
        ask: What it answers.
        said: Its reasoning and answer, and how they ended.
        ids: Token ids after the prompt, as the model's context holds them; empty where they were not asked for.
        logprobs: As many: the drawing engine's log-probabilities (nats) of the tokens that it drew, 0 for the others.
        drawn: As many: whether the model chose the token. The forced format puts tags there itself.
        n_reasoning: Tokens of the reasoning.
        n_answer: Tokens of the answer.
    """

    ask: Ask
    said: Candidate
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    drawn: tuple[bool, ...] = ()
    n_reasoning: int = 0
    n_answer: int = 0

    @property
    def cut(self) -> bool:
        """Whether its answer or its reasoning ran into the budget."""
        return self.said.reasoning_truncated or self.said.finish_reason == "length"
