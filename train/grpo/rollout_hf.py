"""Rollouts by Transformers: the very model that is trained draws, in NF4, on a GPU or on a CPU, of any architecture.

Reasoning and answer are drawn in two batched calls of `generate`; where each ends is for the runtime's own `Phase` to
say, and what stands in the context for `rollout.written`, so that a completion is what llama.cpp's engine would make of
the same tokens. Log-probabilities are the policy's at temperature 1, in float32: the ratio against them is 1 up to
rounding. The penalty of dev answers is llama.cpp's (`generating.penalized`), not Transformers'.

vLLM is not used: TRL's `use_vllm` draws a completion in one call. That can be held to a regular expression, but
reasoning gets no budget of its own, and the tags, which the format puts there, would count as drawn. Two calls of vLLM
from `rollout_func` could do it; where this was written there is no GPU to try that on. Not here: one call of `generate`
(`generating.py`), a token's text (`backends/fast_vocab.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from prlm_edge.backends.engine.phase import Phase
from prlm_edge.errors import PrlmError
from prlm_edge.prompt import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, TO_ANSWER
from prlm_edge.train import base
from prlm_edge.train.config import Recipe
from prlm_edge.train.data.prompts import Prompt
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.generating import Evaluated, drawing
from prlm_edge.train.grpo.rollout import Written, rollout_of, seeded, written
from prlm_edge.train.grpo.terms import Rollout
from prlm_edge.types import Cancel, Completion, Event, Request, SampledToken, Sampling, Usage
from prlm_edge.writer import Reply

_ROWS = 4  # times the micro-batch of training at a time: without gradients a row takes far less memory


class TransformersEngine:
    """The policy itself.

    Args:
        recipe: Resolved.
        source: Its base as a Hugging Face folder, for `load_folder`.
        tokens: The base's tokenizer.
    """

    def __init__(self, recipe: Recipe, source: Path, tokens: Tokens) -> None:
        self._recipe, self._source, self._tokens = recipe, source, tokens
        self._vocab = tokens.vocab
        self._policy: Any = None

    def close(self) -> None:
        """Let go of the model. Idempotent."""
        self._policy = None

    def load(self, policy: Any) -> None:
        """Draw with a PeftModel as it is at each draw."""
        self._policy = policy

    def load_folder(self, adapter: Path) -> None:
        """Draw with the base and the adapter in a folder."""
        self._policy = base.resume_adapter(base.load_model(self._source, self._recipe.base), adapter)

    def draw(self, prompts: Sequence[Prompt], salt: str, cancel: Cancel | None = None) -> list[Written]:
        """A completion of each of `prompts`; equal ones should stand together, and differ by their place alone."""
        replies = self._ask(prompts, seeded(prompts, self._recipe.seed, salt), cancel)
        return [written(one, reply, self._tokens) for one, reply in zip(prompts, replies, strict=True)]

    def best(self, prompts: Sequence[Prompt], sampling: Sampling, cancel: Cancel | None = None) -> list[Rollout]:
        """The answers that a user would get with `sampling`, whose top-k, top-p and min-p are not known here."""
        replies = self._ask(prompts, [replace(one.request, sampling=sampling) for one in prompts], cancel)
        return [rollout_of(one, reply) for one, reply in zip(prompts, replies, strict=True)]

    def _ask(self, prompts: Sequence[Prompt], requests: Sequence[Request], cancel: Cancel | None) -> list[Reply]:
        rows = [Writing(*asked, self._vocab, self._tokens) for asked in zip(prompts, requests, strict=True)]
        at_once = _ROWS * self._recipe.grpo.micro_batch
        ordered = sorted(rows, key=lambda row: len(row.prompt))  # less padding
        with drawing(self._policy, mixed=base.autocasts(self._recipe.base)) as model:
            for start in range(0, len(rows), at_once):
                some = ordered[start : start + at_once]
                evaluated = Evaluated(model, [row.prompt for row in some])
                for _ in ("reasoning", "answer"):
                    evaluated.write(some, penalty=requests[0].sampling.repeat_penalty, cancel=cancel)
                    for row in some:
                        row.next_phase()
                if cancel is not None and cancel.cancelled:
                    raise PrlmError("stopped", "the same command goes on")
        return [row.reply for row in rows]


class Writing:
    """A reply being written in two forced phases: a `generating.Row`, the counterpart of llama.cpp's `Decoding`.

    Args:
        prompt: What it answers.
        request: How.
        vocab: The vocabulary.
        tokens: The tokenizer.
    """

    def __init__(self, prompt: Prompt, request: Request, vocab: Any, tokens: Tokens) -> None:
        self.prompt, self.behind = prompt.ids, list[int]()
        self.reply = Reply(request)
        self._tags = tokens.encode_text(TO_ANSWER, trusted=True)
        self._reasoning = Phase(vocab, (THINK_CLOSE, ANSWER_OPEN), request.reasoning_tokens, multiline=True)
        self._answer = Phase(vocab, (ANSWER_CLOSE,), request.answer_tokens, multiline=request.multiline)
        self._channel: Literal["reasoning", "answer"] = "reasoning"
        self._sampled: list[SampledToken] = []
        sampling, n_most = request.sampling, request.reasoning_tokens + request.answer_tokens
        self._chances: list[float] = []
        if sampling.temperature > 0:
            own = torch.Generator().manual_seed(sampling.seed)
            self._chances = torch.rand(n_most, generator=own, dtype=torch.float64).tolist()

    @property
    def ended(self) -> bool:
        """Whether its phase is over."""
        return self._phase.ended

    @property
    def left(self) -> int:
        """Tokens that its phase may still take."""
        request = self.reply.request
        budget = request.reasoning_tokens if self._channel == "reasoning" else request.answer_tokens
        return budget - self._phase.n_tokens

    @property
    def chance(self) -> float | None:
        """What decides the next token."""
        return self._chances[len(self._sampled)] if self._chances and not self.ended else None

    def push(self, token: int, logprob: float) -> None:
        """Take the next token."""
        self._sampled.append(SampledToken(token, logprob, self._channel))
        if text := self._phase.push(token):
            self.reply.take(Event(self._channel, text=text))

    def next_phase(self) -> None:
        """Behind the reasoning the tags are put there, and the answer begins; behind the answer all is said."""
        if self._channel == "reasoning":
            kept = [token.id for token in self._sampled[: self._reasoning.kept]]
            self.behind = [*kept, *self._tags] if self.reply.request.reasoning_tokens else []
            self._channel = "answer"
            return
        n_tokens = self._reasoning.n_tokens, self._answer.n_tokens
        self.reply.take(
            Event(
                "done",
                completion=Completion(
                    "stop" if self._answer.stopped else "length",
                    Usage(len(self.prompt), reasoning_tokens=n_tokens[0], answer_tokens=n_tokens[1]),
                    not self._reasoning.stopped and self.reply.request.reasoning_tokens > 0,
                    tuple(self._sampled),
                    self._reasoning.kept,
                ),
            )
        )

    @property
    def _phase(self) -> Phase:
        return self._reasoning if self._channel == "reasoning" else self._answer
