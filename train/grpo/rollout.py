"""Who draws answers (`Drawer`), with which seeds, and what a finished reply left in the model's context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from prlm_edge.prompt import THINK_CLOSE, TO_ANSWER
from prlm_edge.train.data.prompts import PLAIN
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.types import Ask, Rollout
from prlm_edge.types import Cancel, Completion, Request, Sampling
from prlm_edge.writer import Reply


class Drawer(Protocol):
    """Draws answers with the policy, the model that is being trained."""

    def load(self, policy: Any) -> None:
        """Draw with a PeftModel as it is now."""

    def load_folder(self, adapter: Path) -> None:
        """Draw with the base and the adapter in a folder.

        Raises:
            PrlmError: The adapter is of a model that tokenizes differently.
        """

    def draw(self, asks: Sequence[Ask], salt: str, cancel: Cancel | None = None) -> list[Rollout]:
        """One answer to each of `asks`, drawn from the policy's own distribution; see `seeded`.

        Equal asks should follow each other: their prompt is then evaluated once.

        Raises:
            PrlmError: Stopped by `cancel`.
        """

    def best(self, asks: Sequence[Ask], sampling: Sampling, cancel: Cancel | None = None) -> list[Rollout]:
        """The answers that a user would get with `sampling`; raises as `draw` does."""

    def close(self) -> None:
        """Free the model. Idempotent."""


def seeded(asks: Sequence[Ask], seed: int, salt: str) -> list[Request]:
    """The requests of a draw: sampling without penalties or cut-offs, each with a seed of its own.

    It comes of run, salt, ask and place among the draws for that ask: the same whichever process draws.
    """
    found, drawn = [], Counter[str]()
    for one in asks:
        text = f"{seed}\0{salt}\0{drawn[one.id]}\0{one.id}".encode()
        drawn[one.id] += 1
        own = int.from_bytes(blake2b(text, digest_size=4).digest(), "big")
        found.append(replace(one.request, sampling=replace(PLAIN, seed=own)))
    return found


def rollout_of(ask: Ask, reply: Reply, tokens: Tokens) -> Rollout:
    """A finished reply to `ask`, with the tokens it left in the context if the request asked for log-probabilities."""
    done = reply.completion
    context = _context(ask, done, tokens) if done.tokens else []
    ids, logprobs, drawn = zip(*context, strict=True) if context else ((), (), ())
    return Rollout(ask, reply.candidate, ids, logprobs, drawn, done.usage.reasoning_tokens, done.usage.answer_tokens)


def _context(ask: Ask, done: Completion, tokens: Tokens) -> list[tuple[int, float, bool]]:
    """(token id, log-probability, whether it was drawn) for each token after the prompt.

    Reasoning tokens beyond the end of the reasoning are forgotten: the tags that lead to the answer follow instead.
    Where the model drew the closing tag itself, those tokens count as drawn.
    """
    found: list[tuple[int, float, bool]] = []
    if ask.request.reasoning_tokens:
        thought = [token for token in done.tokens if token.channel == "reasoning"]
        found += [(token.id, token.logprob, True) for token in thought[: done.n_kept]]
        forgotten = thought[done.n_kept :]
        n_close = len(tokens.encode_text(THINK_CLOSE, trusted=True))
        for place, tag in enumerate(tokens.encode_text(TO_ANSWER, trusted=True)):
            own = place < min(n_close, len(forgotten)) and forgotten[place].id == tag
            found.append((tag, forgotten[place].logprob if own else 0.0, own))
    return found + [(token.id, token.logprob, True) for token in done.tokens if token.channel == "answer"]
