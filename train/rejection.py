"""Warm start, rung (b): rejection sampling (STaR, arXiv 2203.14465; ReST, 2308.08998).

Answers with reasoning are drawn from the warm-started model; of each prompt the best are kept, by ROUGE against what
the user wrote, if all that their reasoning claims is true; on those the model is then fine-tuned (`warmstart.train`).
Draws are kept as they come: a stopped run goes on where it was. Not here: the engine (`rollout.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prlm_edge.evaluate.run_folder import cut_torn_line
from prlm_edge.storage import append_bytes
from prlm_edge.style_lines import check_line
from prlm_edge.train.checkpoints import Progress
from prlm_edge.train.config import RejectionConfig
from prlm_edge.train.data import Example
from prlm_edge.train.prompts import Prompt
from prlm_edge.train.rewards import Rollout, accuracy
from prlm_edge.train.tokens import Tokens
from prlm_edge.types import Cancel

_AT_ONCE = 4  # prompts in one call to the engine: what a kill may cost


@dataclass(frozen=True)
class Draw:
    """One line of draws.jsonl: what was drawn for a prompt, and what it is worth.

    Attributes:
        prompt: The prompt's id.
        reasoning: What was reasoned.
        answer: What was answered.
        score: ROUGE-1 + -2 + -L against what the user wrote.
        true: Claims of the reasoning that hold.
        claims: All of them.
        whole: Whether reasoning and answer ended by themselves.
    """

    prompt: str
    reasoning: str
    answer: str
    score: float
    true: int
    claims: int
    whole: bool


def sample(
    path: Path,
    prompts: Sequence[Prompt],
    draw: Callable[[Sequence[Prompt], str], list[Rollout]],
    n: int,
    *,
    cancel: Cancel,
    progress: Progress = lambda done, total: None,
) -> bool:
    """Draw `n` completions of each prompt that has none yet, and append them to `path`; whether all have some.

    Args:
        path: The draws.jsonl.
        prompts: What to answer.
        draw: Prompts and a salt of the seeds -> a rollout of each.
        n: How many of each.
        cancel: Stops between two calls.
        progress: Called with (prompts done, prompts).
    """
    cut_torn_line(path)
    drawn = {one.prompt for one in read(path)}
    missing = [prompt for prompt in prompts if prompt.id not in drawn]
    for start in range(0, len(missing), _AT_ONCE):
        progress(len(prompts) - len(missing) + start, len(prompts))
        if cancel.cancelled:
            return False
        asked = [prompt for prompt in missing[start : start + _AT_ONCE] for _ in range(n)]
        found = draw(asked, missing[start].id)
        lines = (json.dumps(vars(_judged(p, one)), ensure_ascii=False) for p, one in zip(asked, found, strict=True))
        append_bytes(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    progress(len(prompts), len(prompts))
    return True


def read(path: Path) -> list[Draw]:
    """The draws in `path`; [] where there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        return [Draw(**_loaded(line)) for line in stream]


def kept(draws: Iterable[Draw], config: RejectionConfig) -> dict[str, list[Draw]]:
    """By prompt the best draws that may be learned from, at most `config.keep`; prompts without any are left out."""
    by_prompt: dict[str, list[Draw]] = {}
    for one in draws:
        faithful = one.claims >= config.min_claims and one.true == one.claims
        if one.whole and faithful and one.score >= config.min_score:
            by_prompt.setdefault(one.prompt, []).append(one)
    found = {}
    for prompt, some in by_prompt.items():
        different = {(one.reasoning, one.answer): one for one in some}.values()
        found[prompt] = sorted(different, key=lambda one: (-one.score, one.answer, one.reasoning))[: config.keep]
    return found


def examples(
    prompts: Sequence[Prompt], draws: Iterable[Draw], tokens: Tokens, config: RejectionConfig
) -> list[Example]:
    """What was kept, as examples to learn from: the reasoning, and the answer that it led to."""
    chosen = kept(draws, config)
    found = []
    for prompt in prompts:
        for number, one in enumerate(chosen.get(prompt.id, ())):
            ids, own = tokens.completion(one.answer, one.reasoning)
            n_prompt = len(prompt.ids)
            found.append(Example(f"{prompt.id}#{number}", (*prompt.ids, *ids), (*([False] * n_prompt), *own), n_prompt))
    return found


def _judged(prompt: Prompt, one: Rollout) -> Draw:
    ask = prompt.ask
    true, claims = check_line(one.reasoning, one.answer, ask.n_items, ask.style, ask.query)
    score = accuracy([one], [ask])[0]
    whole = one.finish_reason == "stop" and not one.reasoning_truncated and bool(one.answer.strip())
    return Draw(prompt.id, one.reasoning, one.answer, round(score, 6), true, claims, whole)


def _loaded(line: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(line)
    return value
