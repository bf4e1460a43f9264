"""Rows of data sets as what answers are drawn for: the runtime's request, its tokens, what answers are judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prlm_edge import tasks
from prlm_edge.errors import UsageError
from prlm_edge.evaluate.data import load
from prlm_edge.evaluate.records import Row
from prlm_edge.prompt import Plan
from prlm_edge.settings import Settings
from prlm_edge.train.config import Recipe
from prlm_edge.train.data.examples import (
    UNREADABLE,
    Pools,
    keep_sha256,
    no_room,
    plan_of,
    say_skipped,
    settings_for,
    settings_of,
    why_not,
)
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.types import Ask, Progress
from prlm_edge.types import Sampling

#: Draws from the model's own distribution: nothing is cut off or penalized.
PLAIN = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)


def read(
    files: Sequence[str],
    recipe: Recipe,
    tokens: Tokens,
    *,
    limit: int | None,
    progress: Progress = lambda done, total: None,
    skipped: Counter[str] | None = None,
) -> tuple[list[Ask], dict[str, str]]:
    """Prompts of all `files`, and each file's SHA-256 by name.

    Args:
        files: Data sets as `prlm_edge.evaluate.data` reads them.
        recipe: How prompts are made.
        tokens: The base's tokenizer.
        limit: Users of each file.
        progress: Called with (rows done, rows) of a file.
        skipped: Counts what was left out, by reason.

    Raises:
        UsageError: No such data, or nothing in it to learn from.
        ConfigError: No prompt fits into data.max_tokens.
    """
    left_out = Counter[str]() if skipped is None else skipped
    settings = settings_of(recipe.data, recipe.seed)
    if recipe.grpo.reasoning_tokens:
        settings = replace(settings, reasoning_tokens=recipe.grpo.reasoning_tokens)
    found: list[Ask] = []
    sha256: dict[str, str] = {}
    pools = Pools()
    taken: Counter[str] = Counter()
    for file in files:
        data = load(Path(file), limit=limit, seed=recipe.seed)
        keep_sha256(sha256, data)
        if data.skipped:
            left_out[UNREADABLE] += data.skipped
        for done, row in enumerate(data.rows, 1):
            prompt = _prompt(row, pools, tokens, settings_for(row, settings, recipe.data))
            if isinstance(prompt, str):
                left_out[prompt] += 1
            else:
                taken[row.id] += 1  # several files, or a careless one, may give rows one id; what is drawn goes by it
                found.append(prompt if taken[row.id] == 1 else replace(prompt, id=f"{row.id} ({taken[row.id]})"))
            progress(done, len(data.rows))
    if files and not found:
        raise UsageError(
            f"nothing to draw answers for: {say_skipped(left_out)}", "raise data.max_tokens, or check the data"
        )
    return found, sha256


def _prompt(row: Row, pools: Pools, tokens: Tokens, settings: Settings) -> Ask | str:
    """The prompt, or why there is none."""
    task = tasks.get_task(row.task)
    pool = pools.of(row, task)
    if reason := why_not(row, pool, task, tokens):
        return reason
    plan = plan_of(row, pool, tokens, settings)
    return no_room(plan, tokens) or prompt_of(row, plan, tokens)


def prompt_of(row: Row, plan: Plan, tokens: Tokens) -> Ask:
    """The prompt of a row under a plan."""
    reasons = plan.reasoning_tokens > 0
    request = replace(plan.request, sampling=PLAIN, logprobs=True)
    ids = tokens.encode_turns(plan.prompt.turns, reasons=reasons).tokens
    return Ask(row.id, request, ids, plan.scoring, row.target)
