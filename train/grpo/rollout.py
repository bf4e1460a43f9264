"""Who draws answers (`Drawer`), what was drawn (`Written`), and drawing by the batched llama.cpp engine (`Engine`).

Before each draw llama.cpp is given the policy's adapter as a GGUF file. What is drawn is drawn as in use: the same
engine, prompts and forced format, at temperature 1 without penalties and cut-offs, so that the engine's
log-probabilities are those of what was drawn from. llama.cpp and PyTorch differ a little (quantized base, other
kernels): GRPO's ratio is taken against the engine's own log-probabilities, which corrects it. llama.cpp needs the
trained weights in a GGUF file and runs on the CPU; for all else there is `rollout_hf.py`.
Not here: rewards, the trainer (`grpo.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol

from prlm_edge import models
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.errors import ConfigError, PrlmError
from prlm_edge.gguf.lora import write_lora_gguf
from prlm_edge.prompt import THINK_CLOSE, TO_ANSWER
from prlm_edge.train import base
from prlm_edge.train.config import Recipe
from prlm_edge.train.data.prompts import PLAIN, Prompt
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.terms import Rollout
from prlm_edge.types import Cancel, Request, Sampling
from prlm_edge.writer import Reply


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
    done = reply.completion
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
    return Written(ids, logprobs, drawn, rollout_of(prompt, reply))


def rollout_of(prompt: Prompt, reply: Reply) -> Rollout:
    """A finished reply, split into reasoning and answer."""
    done, said = reply.completion, reply.candidate
    return Rollout(
        prompt.id,
        said.reasoning,
        said.answer,
        done.finish_reason,
        done.reasoning_truncated,
        done.usage.reasoning_tokens,
        done.usage.answer_tokens,
    )


def seeded(prompts: Sequence[Prompt], seed: int, salt: str) -> list[Request]:
    """What to ask for a draw: plain sampling, by a seed of the run's, the salt and the place, whoever draws."""
    found = []
    for place, one in enumerate(prompts):
        text = f"{seed}\0{salt}\0{place}\0{one.id}".encode()
        own = int.from_bytes(blake2b(text, digest_size=4).digest(), "big")
        found.append(replace(one.request, sampling=replace(PLAIN, seed=own)))
    return found


class Drawer(Protocol):
    """Draws answers with the policy."""

    def load(self, policy: Any) -> None:
        """Take over a PeftModel as it is now."""

    def load_folder(self, adapter: Path) -> None:
        """Take over the adapter in a folder.

        Raises:
            PrlmError: It is of a model that tokenizes otherwise.
        """

    def draw(self, prompts: Sequence[Prompt], salt: str, cancel: Cancel | None = None) -> list[Written]:
        """A completion of each of `prompts`, by seeds of the salt and of its place.

        Raises:
            PrlmError: Stopped by `cancel`.
        """

    def best(self, prompts: Sequence[Prompt], sampling: Sampling, cancel: Cancel | None = None) -> list[Rollout]:
        """The answers that a user would get with `sampling`; raises as `draw` does."""

    def close(self) -> None:
        """Free the model. Idempotent."""


def who_draws(recipe: Recipe) -> Literal["llamacpp", "transformers"]:
    """What `grpo.rollouts` means for a recipe on this machine."""
    if recipe.grpo.rollouts != "auto":
        return recipe.grpo.rollouts
    import torch

    in_gguf = recipe.base.precision != "nf4" and not _is_folder(recipe)
    return "llamacpp" if in_gguf and not torch.cuda.is_available() else "transformers"


def open_engine(recipe: Recipe, source: Path, folder: Path, tokens: Tokens) -> Drawer:
    """The engine for a recipe.

    Args:
        recipe: Resolved.
        source: Its base as a Hugging Face folder (`base.resolve`).
        folder: For the adapter's file.
        tokens: The base's tokenizer.

    Raises:
        ConfigError: llama.cpp is asked for, and there is no GGUF file of the very weights that are trained.
        PrlmError: The GGUF file tokenizes otherwise than the trainer.
    """
    if who_draws(recipe) == "transformers":
        from prlm_edge.train.grpo.rollout_hf import TransformersEngine

        return TransformersEngine(recipe, source, tokens)
    if recipe.base.precision == "nf4":
        raise ConfigError(
            "rollouts by llama.cpp need the very weights that are trained, and NF4's can't be had in GGUF yet",
            "--set grpo.rollouts=transformers, or base.precision=bf16",
        )
    if _is_folder(recipe):
        raise ConfigError(
            f"{recipe.base.model} is a Hugging Face folder, and rollouts by llama.cpp need a GGUF file",
            "--set grpo.rollouts=transformers, or name the model's GGUF file",
        )
    config = json.loads((source / "config.json").read_text("utf-8"))
    model = models.resolve(recipe.base.model, make=True)
    return Engine(model, config, folder, tokens, n_ctx=recipe.data.max_tokens, seed=recipe.seed)


def _is_folder(recipe: Recipe) -> bool:
    return Path(recipe.base.model).expanduser().is_dir()


class Engine:
    """The policy in llama.cpp.

    Args:
        model: GGUF of the base.
        model_config: The base's config.json.
        folder: For the adapter's file.
        tokens: The base's tokenizer.
        n_ctx: Tokens of prompt and answer at most.
        seed: Of all draws.

    Raises:
        PrlmError: llama.cpp tokenizes otherwise than the trainer.
    """

    def __init__(
        self, model: Path, model_config: Mapping[str, Any], folder: Path, tokens: Tokens, *, n_ctx: int, seed: int
    ) -> None:
        self._engine = LlamaCpp(model, n_ctx=n_ctx, prefix_cache="off", max_slots=32)  # groups share their prompts
        self._config, self._folder, self._tokens, self._seed = model_config, folder, tokens, seed
        try:
            base.check_same_vocabulary(tokens, self._engine.tokenize, "llama.cpp")
        except PrlmError:
            self.close()
            raise

    def close(self) -> None:
        """Free the model. Idempotent."""
        self._engine.close()

    def load(self, policy: Any) -> None:
        """Take over the adapter of a PeftModel."""
        work = self._folder / "policy"
        shutil.rmtree(work, ignore_errors=True)
        policy.save_pretrained(work)
        self._take(work)

    def load_folder(self, adapter: Path) -> None:
        """Take over the adapter in a folder."""
        base.check_adapter(adapter, self._tokens)
        self._take(adapter)

    def draw(self, prompts: Sequence[Prompt], salt: str, cancel: Cancel | None = None) -> list[Written]:
        """A completion of each of `prompts`; equal ones should stand together, and differ by their place alone."""
        replies = self._ask(seeded(prompts, self._seed, salt), cancel)
        return [written(one, reply, self._tokens) for one, reply in zip(prompts, replies, strict=True)]

    def best(self, prompts: Sequence[Prompt], sampling: Sampling, cancel: Cancel | None = None) -> list[Rollout]:
        """The answers that a user would get with `sampling`."""
        replies = self._ask([replace(one.request, sampling=sampling, logprobs=False) for one in prompts], cancel)
        return [rollout_of(one, reply) for one, reply in zip(prompts, replies, strict=True)]

    def _take(self, adapter: Path) -> None:
        write_lora_gguf(adapter, self._config, self._folder / "policy.gguf")
        self._engine.set_adapter(self._folder / "policy.gguf")

    def _ask(self, requests: Sequence[Request], cancel: Cancel | None) -> list[Reply]:
        replies = [Reply(request) for request in requests]
        for place, event in self._engine.stream_many(requests, cancel):
            replies[place].take(event)
        if any(reply.cancelled for reply in replies):
            raise PrlmError("stopped", "the same command goes on")
        return replies
