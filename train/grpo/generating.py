"""Batched calls of Transformers' `generate`: many replies go on from their prompts, each to the end of its phase.

`generate` is set to greedy and is offered the drawn token alone, because tokens are drawn here: a reply is drawn
by its own seed, so it depends neither on its neighbours nor on PyTorch's global generator, which stays as it was. Equal
prompts are evaluated once, and their keys and values serve both phases.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from prlm_edge.backends.engine.phase import Phase
from prlm_edge.prompt import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, TO_ANSWER
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.types import Cancel, Completion, Event, Request, SampledToken, Usage
from prlm_edge.writer import Reply

PENALTY_WINDOW = 64  # tokens, as in the runtime's sampler


class Writing:
    """A reply being written in two forced phases, reasoning and answer, as llama.cpp's engine writes it.

    Args:
        prompt: Token ids of the prompt.
        request: How to answer.
        tokens: The tokenizer.

    Attributes:
        prompt: See above.
        after: Token ids that follow the prompt when the present phase begins.
        reply: What was written so far.
    """

    def __init__(self, prompt: tuple[int, ...], request: Request, tokens: Tokens) -> None:
        self.prompt, self.after = prompt, list[int]()
        self.reply = Reply(request)
        self._tags = tokens.encode_text(TO_ANSWER, trusted=True)
        self._reasoning = Phase(tokens.vocab, (THINK_CLOSE, ANSWER_OPEN), request.reasoning_tokens, multiline=True)
        self._answer = Phase(tokens.vocab, (ANSWER_CLOSE,), request.answer_tokens, multiline=request.multiline)
        self._channel: Literal["reasoning", "answer"] = "reasoning"
        self._sampled: list[SampledToken] = []
        sampling, n_most = request.sampling, request.reasoning_tokens + request.answer_tokens
        self._chances: list[float] = []
        if sampling.temperature > 0:
            own = torch.Generator().manual_seed(sampling.seed)
            self._chances = torch.rand(n_most, generator=own, dtype=torch.float64).tolist()

    @property
    def ended(self) -> bool:
        """Whether the present phase is over."""
        return self._phase.ended

    @property
    def left(self) -> int:
        """Tokens that the present phase may still take."""
        request = self.reply.request
        budget = request.reasoning_tokens if self._channel == "reasoning" else request.answer_tokens
        return budget - self._phase.n_tokens

    @property
    def chance(self) -> float | None:
        """A number in [0, 1) that decides the next token; None takes the likeliest."""
        return self._chances[len(self._sampled)] if self._chances and not self.ended else None

    def push(self, token: int, logprob: float) -> None:
        """Take the next token."""
        self._sampled.append(SampledToken(token, logprob, self._channel))
        if text := self._phase.push(token):
            self.reply.take(Event(self._channel, text=text))

    def next_phase(self) -> None:
        """End the present phase: after the reasoning come tags and the answer, after the answer the completion."""
        if self._channel == "reasoning":
            kept = [token.id for token in self._sampled[: self._reasoning.kept]]
            self.after = [*kept, *self._tags] if self.reply.request.reasoning_tokens else []
            self._channel = "answer"
            return
        n_reasoning, n_answer = self._reasoning.n_tokens, self._answer.n_tokens
        done = Completion(
            finish_reason="stop" if self._answer.stopped else "length",
            usage=Usage(len(self.prompt), reasoning_tokens=n_reasoning, answer_tokens=n_answer),
            reasoning_truncated=not self._reasoning.stopped and self.reply.request.reasoning_tokens > 0,
            tokens=tuple(self._sampled),
            n_kept=self._reasoning.kept,
        )
        self.reply.take(Event("done", completion=done))

    @property
    def _phase(self) -> Phase:
        return self._reasoning if self._channel == "reasoning" else self._answer


@contextlib.contextmanager
def drawing(policy: Any, *, mixed: bool) -> Iterator[Any]:
    """The model under a PeftModel, adapter applied, ready to draw; modes and settings are put back afterwards.

    Args:
        policy: The PeftModel.
        mixed: Whether it is trained under bfloat16 autocast; it must draw under it too.
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
    """Prompts without their last token in the model's cache; equal ones once.

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

    def write(self, rows: Sequence[Writing], *, penalty: float = 1.0, cancel: Cancel | None = None) -> None:
        """Draw tokens for `rows` until the present phase of each has ended.

        Args:
            rows: Replies to the prompts given.
            penalty: repeat_penalty of the tokens of this phase.
            cancel: Ends all phases after the token under way.
        """
        rows = [row for row in rows if not row.ended]
        if not rows:
            return
        index = torch.tensor([self._place[row.prompt] for row in rows], device=self._ids.device)
        cache = copy.deepcopy(self._cache)
        cache.batch_select_indices(index)
        # Prompts end in one column, and what follows them in another; between the two is padding, masked.
        ids, mask = _padded([(row.prompt[-1], *row.after) for row in rows], self._ids.device)
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
    """A logits processor that draws a token for each row and leaves `generate` no other choice."""

    def __init__(self, rows: Sequence[Writing], penalty: float) -> None:
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
    """A stopping criterion: a row ends with its phase."""

    def __init__(self, rows: Sequence[Writing], cancel: Cancel | None) -> None:
        self._rows, self._cancel = rows, cancel

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        every = self._cancel is not None and self._cancel.cancelled
        return torch.tensor([every or row.ended for row in self._rows], device=input_ids.device)


def choose(logprobs: torch.Tensor, chances: Sequence[float | None]) -> torch.Tensor:
    """A token for each row of `logprobs`: the one in whose share of the cumulative distribution the chance falls."""
    likeliest = logprobs.argmax(-1)
    if all(chance is None for chance in chances):
        return likeliest
    sums = logprobs.double().exp().cumsum(-1)
    at = torch.tensor([chance or 0.0 for chance in chances], dtype=sums.dtype, device=sums.device) * sums[:, -1]
    drawn = torch.searchsorted(sums, at[:, None], right=True)[:, 0].clamp(max=logprobs.shape[-1] - 1)
    greedy = torch.tensor([chance is None for chance in chances], device=sums.device)
    return torch.where(greedy, likeliest, drawn)


def penalized(scores: torch.Tensor, written: torch.Tensor, penalty: float) -> torch.Tensor:
    """`scores` with the last `PENALTY_WINDOW` written tokens made less likely, as llama.cpp does it.

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
