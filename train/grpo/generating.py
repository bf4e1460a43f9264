"""Batched calls of Transformers' `generate`: many rows go on from their prompts, each to the end of its phase.

Tokens are drawn here: `generate`, told to be greedy, is offered the drawn token alone. A row is drawn by its own seed,
so that it depends neither on its neighbours nor on PyTorch's global generator, which stays as it was. Equal prompts are
evaluated once, and their keys and values serve both phases. Not here: what the phases are (`rollout_hf.py`).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from prlm_edge.types import Cancel

PENALTY_WINDOW = 64  # tokens, as in the runtime's sampler


class Row(Protocol):
    """What is written behind one prompt.

    Attributes:
        prompt: Token ids of the prompt.
        behind: Those that stand behind it already.
        left: Tokens that its phase may still take.
        ended: Whether its phase is over.
        chance: A number in [0, 1) that decides the next token; None takes the likeliest.
    """

    @property
    def prompt(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def behind(self) -> Sequence[int]: ...  # noqa: D102

    @property
    def left(self) -> int: ...  # noqa: D102

    @property
    def ended(self) -> bool: ...  # noqa: D102

    @property
    def chance(self) -> float | None: ...  # noqa: D102

    def push(self, token: int, logprob: float) -> None:
        """Take the next token."""


@contextlib.contextmanager
def drawing(policy: Any, *, mixed: bool) -> Iterator[Any]:
    """The model under a PeftModel, adapter applied, ready to draw; afterwards all is as it was before.

    Args:
        policy: The PeftModel.
        mixed: Whether it is trained under bfloat16 autocast: what is drawn must be drawn so too.
    """
    model = policy.get_base_model()
    modes = [(module, module.training) for module in policy.modules()]
    own = model.generation_config
    model.generation_config = GenerationConfig()  # a model's own may hold penalties, which would distort the draws
    policy.eval()
    try:
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=mixed):
            yield model
    finally:
        model.generation_config = own
        for module, mode in modes:
            module.training = mode


class Evaluated:
    """Prompts in the model's cache but for their last token; equal ones once.

    Args:
        model: See `drawing`.
        prompts: Token ids.
    """

    def __init__(self, model: Any, prompts: Sequence[tuple[int, ...]]) -> None:
        self._model = model
        self._place = {ids: place for place, ids in enumerate(dict.fromkeys(prompts))}
        self._ids, self._mask = _padded([ids[:-1] for ids in self._place], model.device)
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)
        done = model(
            input_ids=self._ids, attention_mask=self._mask, position_ids=positions, use_cache=True, logits_to_keep=1
        )
        self._cache = done.past_key_values

    def write(self, rows: Sequence[Row], *, penalty: float = 1.0, cancel: Cancel | None = None) -> None:
        """Draw tokens for `rows`, of the prompts given, until the phases of all have ended.

        Args:
            rows: What goes on.
            penalty: repeat_penalty of the tokens of this phase.
            cancel: Ends all of them after the token under way.
        """
        rows = [row for row in rows if not row.ended]
        if not rows:
            return
        index = torch.tensor([self._place[row.prompt] for row in rows], device=self._ids.device)
        cache = copy.deepcopy(self._cache)
        cache.batch_select_indices(index)
        # Prompts end in one column, and what stands behind them in another; between the two is padding, masked.
        ids, mask = _padded([(row.prompt[-1], *row.behind) for row in rows], self._ids.device)
        self._model.generate(
            input_ids=torch.cat([self._ids[index], ids], 1),
            attention_mask=torch.cat([self._mask[index], mask], 1),
            past_key_values=cache,
            generation_config=GenerationConfig(
                max_new_tokens=max(row.left for row in rows), do_sample=False, use_cache=True
            ),
            logits_processor=LogitsProcessorList([_Draw(rows, penalty)]),
            stopping_criteria=StoppingCriteriaList([_Ended(rows, cancel)]),
        )


class _Draw:
    """A logits processor that chooses, notes what it chose, and leaves `generate` no choice."""

    def __init__(self, rows: Sequence[Row], penalty: float) -> None:
        self._rows, self._penalty = rows, penalty
        self._begun = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._begun = self._begun or input_ids.shape[1]
        if self._penalty != 1.0:
            scores = penalized(scores, input_ids[:, self._begun :], self._penalty)
        logprobs = scores.log_softmax(-1)
        tokens = choose(logprobs, [row.chance for row in self._rows])
        values = logprobs.gather(1, tokens[:, None])[:, 0]
        for row, token, value in zip(self._rows, tokens.tolist(), values.tolist(), strict=True):
            if not row.ended:
                row.push(token, value)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


class _Ended:
    """A stopping criterion: each row ends with its phase."""

    def __init__(self, rows: Sequence[Row], cancel: Cancel | None) -> None:
        self._rows, self._cancel = rows, cancel

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        every = self._cancel is not None and self._cancel.cancelled
        return torch.tensor([every or row.ended for row in self._rows], device=input_ids.device)


def choose(logprobs: torch.Tensor, chances: Sequence[float | None]) -> torch.Tensor:
    """A token of each row of `logprobs`: the one whose share of the cumulative distribution holds the row's chance."""
    likeliest = logprobs.argmax(-1)
    if all(chance is None for chance in chances):
        return likeliest
    sums = logprobs.double().exp().cumsum(-1)
    at = torch.tensor([chance or 0.0 for chance in chances], dtype=sums.dtype, device=sums.device) * sums[:, -1]
    drawn = torch.searchsorted(sums, at[:, None], right=True)[:, 0].clamp(max=logprobs.shape[-1] - 1)
    greedy = torch.tensor([chance is None for chance in chances], device=sums.device)
    return torch.where(greedy, likeliest, drawn)


def penalized(scores: torch.Tensor, written: torch.Tensor, penalty: float) -> torch.Tensor:
    """`scores` with what was `written` lately made less likely, as llama.cpp does it.

    Transformers' own penalty reaches back through the whole prompt, past writing and request included.
    """
    seen = written[:, -PENALTY_WINDOW:]
    found = scores.gather(1, seen)
    return scores.scatter(1, seen, torch.where(found <= 0, found * penalty, found / penalty))


def _padded(rows: Sequence[Sequence[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, padded on the left."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
