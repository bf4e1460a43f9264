"""Rollouts by the batched llama.cpp engine: before each draw it is given the policy's adapter as a GGUF file.

What is drawn is drawn as in use: the same engine, prompts and forced format, at temperature 1 without penalties and
cut-offs, so that the engine's log-probabilities are those of what was drawn from. llama.cpp and PyTorch differ a little
(quantized base, other kernels): GRPO's ratio is taken against the engine's own log-probabilities, which corrects it.
Not here: rewards, the trainer (`grpo.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prlm_edge import models
from prlm_edge.backends.llamacpp import LlamaCpp
from prlm_edge.errors import ConfigError, PrlmError
from prlm_edge.export.adapter import write_lora_gguf
from prlm_edge.reasoning import THINK_CLOSE, TO_ANSWER
from prlm_edge.train.config import Recipe
from prlm_edge.train.prompts import PLAIN, Prompt
from prlm_edge.train.rewards import Rollout
from prlm_edge.train.tokens import Tokens
from prlm_edge.types import Cancel, Request, Sampling
from prlm_edge.writer_draw import Reply


@dataclass(frozen=True)
class Written:
    """A completion as the model's context holds it.

    Attributes:
        ids: Token ids.
        logprobs: The engine's, of the tokens that were drawn; 0 for the others.
        drawn: Which the model chose; the tags that the forced format puts there teach nothing.
        rollout: The same, split into reasoning and answer.
    """

    ids: list[int]
    logprobs: list[float]
    drawn: list[bool]
    rollout: Rollout


def written(prompt: Prompt, reply: Reply, tokens: Tokens) -> Written:
    """What a finished reply left in the context."""
    done, candidate = reply.completion, reply.candidate
    parts: list[tuple[int, float, bool]] = []
    thought = [token for token in done.tokens if token.channel == "reasoning"]
    if prompt.request.reasoning_tokens:
        parts += [(token.id, token.logprob, True) for token in thought[: done.n_kept]]
        forgotten = thought[done.n_kept :]
        n_close = len(tokens.encode_text(THINK_CLOSE, trusted=True))
        for place, tag in enumerate(tokens.encode_text(TO_ANSWER, trusted=True)):
            own = place < n_close and place < len(forgotten) and forgotten[place].id == tag
            parts.append((tag, forgotten[place].logprob if own else 0.0, own))
    parts += [(token.id, token.logprob, True) for token in done.tokens if token.channel == "answer"]
    ids, logprobs, drawn = (list(column) for column in zip(*parts, strict=True))
    rollout = Rollout(
        prompt.id,
        candidate.reasoning,
        candidate.answer,
        done.finish_reason,
        done.reasoning_truncated,
        done.usage.reasoning_tokens,
        done.usage.answer_tokens,
    )
    return Written(ids, logprobs, drawn, rollout)


def open_engine(recipe: Recipe, source: Path, folder: Path, tokens: Tokens) -> Engine:
    """The engine for a recipe.

    Args:
        recipe: Resolved.
        source: Its base as a Hugging Face folder (`base.resolve`).
        folder: For the adapter's file.
        tokens: The base's tokenizer.

    Raises:
        ConfigError: There is no GGUF file of the very weights that are trained.
    """
    if recipe.base.precision == "nf4":
        raise ConfigError(
            "rollouts by llama.cpp need the very weights that are trained, and NF4's can't be had in GGUF yet",
            "--set base.precision=bf16",
        )
    if Path(recipe.base.model).expanduser().is_dir():
        raise ConfigError(
            f"{recipe.base.model} is a Hugging Face folder, and rollouts need a GGUF file", "name the model's GGUF file"
        )
    config = json.loads((source / "config.json").read_text("utf-8"))
    model = models.resolve(recipe.base.model, make=True)
    return Engine(model, config, folder, tokens, n_ctx=recipe.data.max_tokens, seed=recipe.seed)


class Engine:
    """The policy in llama.cpp.

    Args:
        model: GGUF of the base.
        model_config: The base's config.json.
        folder: For the adapter's file.
        tokens: The base's tokenizer.
        n_ctx: Tokens of prompt and answer at most.
        seed: Of all draws.
    """

    def __init__(
        self, model: Path, model_config: Mapping[str, Any], folder: Path, tokens: Tokens, *, n_ctx: int, seed: int
    ) -> None:
        self._engine = LlamaCpp(model, n_ctx=n_ctx, prefix_cache="off")
        self._config, self._folder, self._tokens, self._seed = model_config, folder, tokens, seed

    def close(self) -> None:
        """Free the model. Idempotent."""
        self._engine.close()

    def load(self, policy: Any) -> None:
        """Take over the adapter of a PeftModel."""
        work = self._folder / "policy"
        shutil.rmtree(work, ignore_errors=True)
        policy.save_pretrained(work)
        self.load_folder(work)

    def load_folder(self, adapter: Path) -> None:
        """Take over the adapter in a folder."""
        write_lora_gguf(adapter, self._config, self._folder / "policy.gguf")
        self._engine.set_adapter(self._folder / "policy.gguf")

    def draw(self, prompts: Sequence[Prompt], salt: str, cancel: Cancel | None = None) -> list[Written]:
        """A completion of each of `prompts`; equal ones should stand together, and differ by their place alone."""
        requests = [
            replace(one.request, sampling=replace(PLAIN, seed=self._draw_seed(f"{salt}\0{place}\0{one.id}")))
            for place, one in enumerate(prompts)
        ]
        return [
            written(one, reply, self._tokens) for one, reply in zip(prompts, self._ask(requests, cancel), strict=True)
        ]

    def best(self, prompts: Sequence[Prompt], sampling: Sampling, cancel: Cancel | None = None) -> list[Rollout]:
        """The answers that a user would get with `sampling`."""
        requests = [replace(one.request, sampling=sampling, logprobs=False) for one in prompts]
        found = []
        for one, reply in zip(prompts, self._ask(requests, cancel), strict=True):
            done, said = reply.completion, reply.candidate
            lengths = done.usage.reasoning_tokens, done.usage.answer_tokens
            found.append(
                Rollout(one.id, said.reasoning, said.answer, done.finish_reason, done.reasoning_truncated, *lengths)
            )
        return found

    def _ask(self, requests: Sequence[Request], cancel: Cancel | None) -> list[Reply]:
        replies = [Reply(request) for request in requests]
        for place, event in self._engine.stream_many(requests, cancel):
            replies[place].take(event)
        if any(reply.cancelled for reply in replies):
            raise PrlmError("stopped", "the same command goes on")
        return replies

    def _draw_seed(self, text: str) -> int:
        return int.from_bytes(blake2b(f"{self._seed}\0{text}".encode(), digest_size=4).digest(), "big")
