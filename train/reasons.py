"""Reasonings towards the true answer, for the warm start to learn (STaR's rationalization, arXiv 2203.14465).

A model, best a larger one than is trained, drafts reasonings for each request with its true answer known. How much
likelier each makes that answer to the model that is to be trained is its score; of each request the best is learned,
which may be the line that is built from facts (`style.example_line`). Drafts that are long, give the answer away, or
claim what is not true, don't count.

They are kept as they come, in the form of rejection sampling's draws: a stopped run goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from prlm_edge.errors import PrlmError
from prlm_edge.prompt import TAGS, defuse_tags
from prlm_edge.style import check_line, content_words, gives_away
from prlm_edge.tasks import get_task
from prlm_edge.train.data.examples import built_line
from prlm_edge.train.data.rows import one_line
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.rollout import seeded
from prlm_edge.train.grpo.shared_prompt import pack
from prlm_edge.train.rejection import Draw, read
from prlm_edge.train.types import Ask
from prlm_edge.types import Backend, Cancel, Request, Sampling, Scoring, Span, Turn
from prlm_edge.writer import Reply

_SAMPLING = Sampling(temperature=0.8)
_MOST_TOKENS = 40  # of a draft: each costs time at every use


def drawer(
    backend: Backend, policy: Any, tokens: Tokens, n: int, seed: int, cancel: Cancel
) -> Callable[[Sequence[Ask], str], list[Draw]]:
    """What `rejection.sample` calls: `n` reasonings for each request, of which the first is the built one.

    Args:
        backend: Who drafts.
        policy: The model that is to be trained, with or without an adapter; attention "sdpa".
        tokens: Its tokenizer.
        n: 2 or more.
        seed: Of the drafts.
        cancel: Ends the drafting; what was begun is then drawn again.
    """

    def draw(asked: Sequence[Ask], salt: str) -> list[Draw]:
        asks = asked[::n]
        requests = [_towards(ask, one) for ask in asks for one in seeded([ask] * (n - 1), seed, salt)]
        replies = [Reply(request) for request in requests]
        for place, event in backend.stream_many(requests, cancel):
            replies[place].take(event)
        if any(reply.cancelled for reply in replies):
            raise PrlmError("stopped", "the same command goes on")
        found = list[Draw]()
        for number, ask in enumerate(asks):
            drafts = replies[number * (n - 1) : (number + 1) * (n - 1)]
            answer = _answer(ask)
            lines = [built_line(ask.scoring, answer), *(" ".join(one.candidate.reasoning.split()) for one in drafts)]
            ended = [True, *(not one.candidate.reasoning_truncated for one in drafts)]
            found += _judged(ask, lines, ended, gains(policy, tokens, ask.ids, answer, lines))
        return found

    return draw


def best(path: Path) -> dict[tuple[str, str], str]:
    """(request's id, true answer) -> the reasoning that makes it likeliest, of those in `path` that may be learned.

    Raises:
        DataError: A line is damaged.
    """
    found: dict[tuple[str, str], Draw] = {}
    for one in read(path):
        key = one.prompt, one.answer
        if one.whole and (key not in found or one.score > found[key].score):
            found[key] = one
    return {key: one.reasoning for key, one in found.items()}


def say(path: Path) -> str:
    """What is in `path`, in one line for people."""
    groups = [list(some) for _, some in groupby(read(path), key=lambda one: one.prompt)]
    built = [some[0].score for some in groups]
    top = [max(one.score for one in some if one.whole) for some in groups]
    drafted, n = sum(one > other for one, other in zip(top, built, strict=True)), max(len(groups), 1)
    gained = f"{sum(top) / n:.1f} bits an answer are gained, {sum(built) / n:.1f} by built lines alone"
    return f"{drafted} of {len(groups)} requests have a draft that gains more than the built line: {gained}"


def gains(policy: Any, tokens: Tokens, prompt: Sequence[int], answer: str, lines: Sequence[str]) -> list[float]:
    """By how many bits each of the lines makes `answer` likelier after `prompt` than an empty reasoning does."""
    completions = [tokens.completion(answer, line)[0] for line in ("", *lines)]
    n_answer, lengths = len(tokens.completion(answer)[0]), [len(ids) for ids in completions]
    padded = torch.tensor([[*ids, *([0] * (max(lengths) - len(ids)))] for ids in completions])
    packed = pack(torch.tensor(prompt), padded, lengths)
    at = torch.cat([packed.places[row, n - n_answer : n] for row, n in enumerate(lengths)])
    device = next(policy.parameters()).device
    with torch.no_grad():
        logits = policy(
            input_ids=packed.input_ids.to(device),
            attention_mask=packed.seen.to(device),
            position_ids=packed.position_ids.to(device),
            logits_to_keep=at.to(device),
        ).logits[0]
    labels = packed.shift_labels[0, at].to(device)
    logps = -torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    empty, *others = (logps.view(len(lengths), n_answer).sum(1).double() / math.log(2)).tolist()
    return [one - empty for one in others]


def _towards(ask: Ask, request: Request) -> Request:
    """The request with the true answer behind it, for the reasoning alone."""
    *turns, last = request.turns
    noun = get_task(ask.scoring.task).noun
    hint = f"Think in one line what leads to it, without the {noun} itself."
    told = Span(f"\n\nThe {noun} is: {defuse_tags(_answer(ask))}\n{hint}")
    return replace(
        request,
        turns=(*turns, Turn(last.role, (*last.spans, told))),
        sampling=replace(_SAMPLING, seed=request.sampling.seed),
        reasoning_tokens=min(request.reasoning_tokens, _MOST_TOKENS),
        answer_tokens=1,
        logprobs=False,
        tokenized=None,
    )


def _judged(ask: Ask, lines: Sequence[str], ended: Sequence[bool], gained: Sequence[float]) -> list[Draw]:
    of, answer, found = ask.scoring, _answer(ask), list[Draw]()
    for line, whole, gain in zip(lines, ended, gained, strict=True):
        true, claims = check_line(line, answer, len(of.past), of.style, of.query)
        plain = bool(line) and not any(tag in line for tag in TAGS)
        good = whole and plain and true == claims and not _tells(line, answer, of)
        found.append(
            Draw(ask.id, line, ask.target, round(gain, 4), true, claims, good or not found)
        )  # the first is built
    return found


def _answer(ask: Ask) -> str:
    return one_line(ask.target, get_task(ask.scoring.task))


def _tells(line: str, answer: str, of: Scoring) -> bool:
    """Whether a line holds the answer, or words of it that stand neither in the request nor in past items shown."""
    shown = " ".join([of.query, *of.past, *(hit.item.searchable for hit in of.used)])
    news = set(content_words(answer)) - set(content_words(shown))
    return gives_away(answer, line) or not news.isdisjoint(content_words(line))
