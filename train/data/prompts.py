"""Rows of data sets as what answers are drawn for: the runtime's request, its tokens, what answers are judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.records import Row
from prlm_edge.prompt import Plan
from prlm_edge.train.config import DataFile, Recipe
from prlm_edge.train.data.rows import Planner, own_ids, read_rows, say_skipped, settings_of
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.types import Ask, Progress
from prlm_edge.types import Sampling

#: Draws from the model's own distribution: nothing is cut off or penalized.
PLAIN = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)


def read(
    files: Sequence[DataFile],
    recipe: Recipe,
    tokens: Tokens,
    *,
    limit: int | None,
    progress: Progress = lambda done, total: None,
    skipped: Counter[str] | None = None,
) -> tuple[list[Ask], dict[str, str]]:
    """Prompts of all `files`, and each file's SHA-256 by name.

    Args:
        files: Data sets, each with what it says itself of its rows.
        recipe: How prompts are made.
        tokens: The base's tokenizer.
        limit: Users of each file at most.
        progress: Called with (rows done, rows).
        skipped: Counts what was left out, by reason.

    Raises:
        UsageError: No such data, or nothing in it to learn from.
        ConfigError: No prompt fits into data.max_tokens.
    """
    left_out = Counter[str]() if skipped is None else skipped
    settings = settings_of(recipe.data, recipe.seed)
    if recipe.grpo.reasoning_tokens:
        settings = replace(settings, reasoning_tokens=recipe.grpo.reasoning_tokens)
    data = read_rows(files, recipe.data, limit=limit, seed=recipe.seed)
    planner = Planner(tokens, recipe.data, settings)
    left_out.update(data.skipped)
    found: list[Ask] = []
    for done, (row, own_id) in enumerate(zip(data.rows, own_ids(data.rows), strict=True), 1):
        plan = planner.plan(row)
        if isinstance(plan, str):
            left_out[plan] += 1
        else:
            found.append(replace(ask_of(row, plan), id=own_id))
        progress(done, len(data.rows))
    if files and not found:
        raise UsageError(
            f"nothing to draw answers for: {say_skipped(left_out)}", "raise data.max_tokens, or check the data"
        )
    return found, data.sha256


def ask_of(row: Row, plan: Plan) -> Ask:
    """What is asked for a row under a plan."""
    prompt = plan.prompt.tokenized
    assert prompt is not None  # made with our own tokenizer
    return Ask(row.id, replace(plan.request, sampling=PLAIN, logprobs=True), prompt.tokens, plan.scoring, row.target)
