"""Warm start, rung (b): rejection sampling (STaR, arXiv 2203.14465; ReST, 2308.08998).

Answers with reasoning are drawn from the warm-started model; of each prompt the best are kept, by ROUGE against what
the user wrote, if what their reasoning claims is true; on those the model is then fine-tuned (`warmstart.train`). One
claim in five may be wrong: a small model seldom predicts the exact number of words (docs/training.md).
Draws are kept as they come: a stopped run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prlm_edge.storage import append_json, atomic_write, cut_torn_line, json_lines
from prlm_edge.style import check_line
from prlm_edge.train.config import RejectionConfig
from prlm_edge.train.data.examples import Example
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.terms import accuracy
from prlm_edge.train.types import Ask, Progress, Rollout
from prlm_edge.types import Cancel

_AT_ONCE = 4  # prompts in one call to the engine: what a kill may cost


@dataclass(frozen=True)
class Draw:
    """One line of draws.jsonl: an answer drawn for a prompt, and its score.

    Attributes:
        prompt: The ask's id.
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
    prompts: Sequence[Ask],
    draw: Callable[[Sequence[Ask], str], list[Draw]],
    n: int,
    *,
    cancel: Cancel,
    progress: Progress = lambda done, total: None,
) -> bool:
    """Draw `n` completions of each prompt that has none yet, and append them to `path`; whether all have some.

    Stopped or killed, the next call draws what the straight run would have drawn.

    Args:
        path: The draws.jsonl.
        prompts: What to answer.
        draw: Prompts, each `n` times, and a salt of the seeds -> a draw of each.
        n: How many of each.
        cancel: Stops between two calls.
        progress: Called with (prompts done, prompts).

    Raises:
        PrlmError: The disk is full (what was drawn before stays), or `path` is damaged.
    """
    calls = [prompts[start : start + _AT_ONCE] for start in range(0, len(prompts), _AT_ONCE)]
    asked = [[prompt for prompt in some for _ in range(n)] for some in calls]
    done = _cut_to_whole(path, asked)
    for number in range(done, len(calls)):
        progress(number * _AT_ONCE, len(prompts))
        if cancel.cancelled:
            return False
        append_json(path, *map(vars, draw(asked[number], calls[number][0].id)))
    progress(len(prompts), len(prompts))
    return True


def _cut_to_whole(path: Path, asked: Sequence[Sequence[Ask]]) -> int:
    """How many calls `path` holds whole; what a kill left of another one is cut off and drawn again."""
    cut_torn_line(path)
    ids = [one.prompt for one in read(path)]
    done, n_lines = 0, 0
    for some in asked:
        if ids[n_lines : n_lines + len(some)] != [prompt.id for prompt in some]:
            break
        done, n_lines = done + 1, n_lines + len(some)
    if n_lines < len(ids):
        with path.open("rb") as stream:
            whole = list(islice(stream, n_lines))
        with atomic_write(path) as stream:
            stream.writelines(whole)
    return done


def read(path: Path) -> list[Draw]:
    """The draws in `path`; [] where there is no such file.

    Raises:
        DataError: A line is damaged.
    """
    return list(json_lines(path, lambda record: Draw(**record), "delete that file: it is drawn again"))


def kept(draws: Iterable[Draw], config: RejectionConfig) -> dict[str, list[Draw]]:
    """By prompt the best draws that may be learned from, at most `config.keep`; prompts without any are left out."""
    by_prompt: dict[str, list[Draw]] = {}
    for one in draws:
        faithful = one.claims >= config.min_claims and one.true >= config.min_true * one.claims
        if one.whole and faithful and one.score >= config.min_score:
            by_prompt.setdefault(one.prompt, []).append(one)
    found = {}
    for prompt, some in by_prompt.items():
        different = {(one.reasoning, one.answer): one for one in some}.values()
        found[prompt] = sorted(different, key=lambda one: (-one.score, one.answer, one.reasoning))[: config.keep]
    return found


def examples(prompts: Sequence[Ask], draws: Iterable[Draw], tokens: Tokens, config: RejectionConfig) -> list[Example]:
    """The kept draws as examples to learn from: the reasoning and the answer."""
    chosen = kept(draws, config)
    found = []
    for prompt in prompts:
        for number, one in enumerate(chosen.get(prompt.id, ())):
            ids, own = tokens.completion(one.answer, one.reasoning)
            n_prompt = len(prompt.ids)
            found.append(Example(f"{prompt.id}#{number}", (*prompt.ids, *ids), (*([False] * n_prompt), *own), n_prompt))
    return found


def judged(one: Rollout) -> Draw:
    """What is kept of a rollout."""
    said, of = one.said, one.ask.scoring
    true, claims = check_line(said.reasoning, said.answer, len(of.past), of.style, of.query)
    whole = said.finish_reason == "stop" and not said.reasoning_truncated and bool(said.answer.strip())
    return Draw(one.ask.id, said.reasoning, said.answer, round(accuracy([one])[0], 6), true, claims, whole)
