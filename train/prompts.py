"""Rows of data sets as prompts to draw answers for: the runtime's request, its tokens, and what answers are judged by.

Not here: rows as examples to copy (`data.py`), drawing (`rollout.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prlm_edge import tasks
from prlm_edge.errors import UsageError
from prlm_edge.evaluate.data import load
from prlm_edge.evaluate.records import Row
from prlm_edge.plan import Plan
from prlm_edge.train.checkpoints import Progress
from prlm_edge.train.config import Recipe
from prlm_edge.train.data import Pools, plan_of, settings_of, why_not
from prlm_edge.train.rewards import Ask
from prlm_edge.train.tokens import Tokens
from prlm_edge.types import Request, Sampling

#: Draws from the model's own distribution: nothing is cut off or penalized.
PLAIN = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)


@dataclass(frozen=True)
class Prompt:
    """What a rollout answers."""

    id: str
    request: Request
    ids: tuple[int, ...]
    ask: Ask


def read(
    files: Sequence[str],
    recipe: Recipe,
    tokens: Tokens,
    *,
    limit: int | None,
    progress: Progress = lambda done, total: None,
) -> tuple[list[Prompt], dict[str, str]]:
    """Prompts of all `files`, and each file's SHA-256 by name; rows that can't be learned from are left out.

    Raises:
        UsageError: No such data, or nothing in it to learn from.
    """
    settings = settings_of(recipe.data, recipe.seed)
    if recipe.grpo.reasoning_tokens:
        settings = replace(settings, reasoning_tokens=recipe.grpo.reasoning_tokens)
    found: list[Prompt] = []
    sha256: dict[str, str] = {}
    pools = Pools()
    for file in files:
        data = load(Path(file), limit=limit, seed=recipe.seed)
        sha256[data.name] = data.sha256
        for done, row in enumerate(data.rows, 1):
            task = tasks.get_task(row.task)
            if not why_not(row, task, tokens):
                plan = plan_of(row, pools.of(row, task), tokens, replace(settings, task=row.task))
                found.append(prompt_of(row, plan, tokens))
            progress(done, len(data.rows))
    if files and not found:
        raise UsageError("nothing to draw answers for", "check the data")
    return found, sha256


def prompt_of(row: Row, plan: Plan, tokens: Tokens) -> Prompt:
    """The prompt of a row under a plan."""
    reasons = plan.reasoning_tokens > 0
    ask = Ask(row.query, row.target, plan.scoring.past, len(plan.prompt.used), plan.scoring.style, row.task)
    request = replace(plan.request, sampling=PLAIN, logprobs=True)
    return Prompt(row.id, request, tuple(tokens.encode(tokens.spans(plan.prompt.turns, reasons=reasons))), ask)
