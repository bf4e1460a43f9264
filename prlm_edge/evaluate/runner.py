"""Answers rows under conditions, many at a time, each answer kept as it comes: a stopped run goes on where it was.

Retrieval, prompt and decoding are the runtime's own. Conditions that differ only in how many answers are drawn and how
the best of them is chosen share their draws: the first of eight is the one that is drawn alone. Rows whose answers are
not enough to show (`writer.draw.enough`) get their spares when all others are answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from prlm_edge.backends import open_backend
from prlm_edge.evaluate import baselines
from prlm_edge.evaluate.conditions import settings_of
from prlm_edge.evaluate.data import Dataset
from prlm_edge.evaluate.records import Answer, Condition, Row, Shown
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.prompt import Plan
from prlm_edge.rerank import make_scorer
from prlm_edge.settings import Settings
from prlm_edge.storage import cut_torn_line
from prlm_edge.types import Backend, Cancel, Candidate, Event, Request, Scorer
from prlm_edge.writer import Asker, Reply, choose, enough

_QUERY_CHARS = 2000  # kept of a query in an answer's line
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Draw:
    """What is asked of the model once for all of `conditions`, which differ in how many and in the choice."""

    conditions: tuple[Condition, ...]
    rows: tuple[Row, ...]


def answer_all(
    run: RunFolder,
    data: Dataset,
    conditions: Sequence[Condition],
    *,
    seed: int = 0,
    cancel: Cancel | None = None,
    progress: Progress = lambda done, total: None,
) -> bool:
    """Answer what the run still lacks; returns whether it is whole.

    Args:
        run: Where answers go.
        data: What to answer.
        conditions: How.
        seed: Of sampling, of the random retriever and of the baselines.
        cancel: Stops between two tokens; all finished answers are kept.
        progress: Called with (answers there, answers in all).
    """
    cancel = cancel or Cancel()
    cut_torn_line(run.path / "answers.jsonl")
    done = {(answer.condition, answer.row) for answer in run.answers()}
    total = len(conditions) * len(data.rows)
    missing = {
        c.name: tuple(
            row for row in data.rows if (c.name, row.id) not in done and data.profile_for(row, c.profile) is not None
        )
        for c in conditions
    }
    n_done = total - sum(map(len, missing.values()))
    progress(n_done, total)
    for condition in conditions:
        if condition.baseline:
            for row in missing[condition.name]:
                text = baselines.answer(condition.baseline, row, data, seed)
                run.append(Answer(condition.name, row.id, row.user, row.query[:_QUERY_CHARS], row.target, text))
                n_done += 1
            progress(n_done, total)
    models = [c for c in conditions if not c.baseline and missing[c.name]]
    for same_backend in _grouped(models, _backend_key):
        backend = open_backend(settings_of(same_backend[0], "", seed))
        try:
            for draw in _draws(same_backend, missing):
                for answers in _answered(run, backend, draw, data, seed, cancel):
                    for answer in answers:
                        run.append(answer)
                    n_done += len(answers)
                    progress(n_done, total)
                if cancel.cancelled:
                    return False
        finally:
            backend.close()
    return True


def _answered(
    run: RunFolder, backend: Backend, draw: _Draw, data: Dataset, seed: int, cancel: Cancel
) -> Iterator[list[Answer]]:
    """The answers of a draw, a row at a time; how long it took goes to timings.jsonl."""
    scorers = {c.name: make_scorer(settings_of(c, "")) for c in draw.conditions}
    started, n_rows = time.perf_counter(), 0
    try:
        for asked in _rows(backend, _Requests(backend, draw, data, seed), draw, cancel):
            n_rows += 1
            yield [_answer(condition, asked, scorers[condition.name]) for condition in draw.conditions]
    finally:
        # Where conditions of several best_of share a draw, its time says nothing about any one of them.
        if n_rows and len({settings_of(condition, "").n_drawn for condition in draw.conditions}) == 1:
            names = [condition.name for condition in draw.conditions]
            run.append_timing(names, n_rows, time.perf_counter() - started)


def _rows(backend: Backend, requests: _Requests, draw: _Draw, cancel: Cancel) -> Iterator[_Asked]:
    """The rows whose answers are all there, as they come: those that need spares last."""
    again: list[_Asked] = []
    for place, event in backend.stream_many(requests, cancel):
        asked = requests.take(place, event)
        if asked is not None and not asked.cancelled:
            asked.ask_spares(draw.conditions)
            if asked.spares:
                again.append(asked)
            else:
                yield asked
    spares = [(asked, reply) for asked in again for reply in asked.spares]
    for place, event in backend.stream_many([reply.request for _, reply in spares], cancel):
        asked, reply = spares[place]
        if asked.take(reply, event) and not asked.cancelled:
            yield asked


@dataclass
class _Asked:
    """A row being answered: the replies to its plan's requests, and to its spares if they are asked too."""

    row: Row
    plan: Plan
    replies: list[Reply]
    n_open: int
    started: float
    seconds: float = 0.0
    spares: list[Reply] = field(default_factory=list)

    def take(self, reply: Reply, event: Event) -> bool:
        """Note an event of one of its replies; whether it was the last of all that are open."""
        reply.take(event)
        if event.completion is not None:
            self.n_open -= 1
        if event.completion is None or self.n_open:
            return False
        self.seconds += time.perf_counter() - self.started
        return True

    @property
    def cancelled(self) -> bool:
        """Whether any of its answers was cut short."""
        return any(reply.cancelled for reply in (*self.replies, *self.spares))

    def plan_of(self, condition: Condition) -> Plan:
        """The plan as `condition` would have it alone."""
        own = settings_of(condition, "")
        return replace(self.plan, settings=replace(self.plan.settings, best_of=own.best_of, n=own.n))

    def drawn(self, condition: Condition) -> list[Reply]:
        """The replies that `condition` would have drawn alone."""
        plan = self.plan_of(condition)
        first = self.replies[: plan.settings.n_drawn]
        return first if enough(plan, [one.candidate for one in first]) else first + self.spares[: len(plan.spares)]

    def ask_spares(self, conditions: Sequence[Condition]) -> None:
        """Ask what a condition needs besides the first replies."""
        plans = [self.plan_of(condition) for condition in conditions]
        first = [reply.candidate for reply in self.replies]
        wanted = [list(map(Reply, plan.spares)) for plan in plans if not enough(plan, first[: plan.settings.n_drawn])]
        self.spares = max(wanted, key=len, default=[])
        self.n_open, self.started = len(self.spares), time.perf_counter()


class _Requests(Sequence[Request]):
    """All requests of a draw, each made when the backend comes to it."""

    def __init__(self, backend: Backend, draw: _Draw, data: Dataset, seed: int) -> None:
        self._backend, self._draw, self._data = backend, draw, data
        most = max(draw.conditions, key=lambda condition: settings_of(condition, "").n_drawn)
        self._settings = settings_of(most, draw.rows[0].task if draw.rows else "", seed)
        self._asked: dict[int, _Asked] = {}
        self._asker = Asker()

    def __len__(self) -> int:
        return len(self._draw.rows) * self._settings.n_drawn

    def __getitem__(self, place: int) -> Request:  # type: ignore[override] # nobody slices it
        number, which = divmod(place, self._settings.n_drawn)
        if number not in self._asked:
            if not 0 <= number < len(self._draw.rows):
                raise IndexError(place)
            self._asked[number] = self._ask(self._draw.rows[number])
        return self._asked[number].replies[which].request

    def take(self, place: int, event: Event) -> _Asked | None:
        """Note an event; returns the row when that was the last event of its last answer."""
        number, which = divmod(place, self._settings.n_drawn)
        if number not in self._asked:  # cancelled before it was begun
            return None
        asked = self._asked[number]
        return self._asked.pop(number) if asked.take(asked.replies[which], event) else None

    def _ask(self, row: Row) -> _Asked:
        """Rows of one user follow each other and share what was learned of their profile."""
        past = self._data.profile_for(row, self._draw.conditions[0].profile) or ()
        settings = replace(self._settings, task=row.task)
        plan = self._asker.plan(row.query, past, settings, self._backend, self._backend.info)
        replies = [Reply(request) for request in plan.requests]
        return _Asked(row, plan, replies, len(replies), time.perf_counter())


def _answer(condition: Condition, asked: _Asked, scorer: Scorer) -> Answer:
    plan, row, replies = asked.plan_of(condition), asked.row, asked.drawn(condition)
    candidates = choose(plan, [reply.candidate for reply in replies], scorer)
    best, usages = candidates[0], [reply.completion.usage for reply in replies]
    return Answer(
        condition=condition.name,
        row=row.id,
        user=row.user,
        query=row.query[:_QUERY_CHARS],
        target=row.target,
        answer=best.answer,
        reasoning=best.reasoning,
        used=tuple(Shown(h.item.id, plan.task.answer_of(h.item), round(h.score, 4)) for h in plan.prompt.used),
        retrieved=tuple(round(hit.score, 4) for hit in plan.hits),
        finish_reason=best.finish_reason,
        reasoning_truncated=best.reasoning_truncated,
        prompt_tokens=plan.prompt.tokens,
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        answer_tokens=sum(usage.answer_tokens for usage in usages),
        seconds=round(asked.seconds, 3),
        candidates=tuple(map(_record, candidates)) if len(replies) > 1 else (),
    )


def _record(candidate: Candidate) -> dict[str, object]:
    return {
        "answer": candidate.answer,
        "reasoning": candidate.reasoning,
        "seed": candidate.seed,
        "logprob": candidate.logprob,
        "score": candidate.score,
    }


def _grouped(conditions: Sequence[Condition], key: Callable[[Condition], object]) -> list[list[Condition]]:
    groups: dict[object, list[Condition]] = {}
    for condition in conditions:
        groups.setdefault(key(condition), []).append(condition)
    return list(groups.values())


def _backend_key(condition: Condition) -> tuple[object, ...]:
    s: Settings = settings_of(condition, "")
    return s.model, s.engine, s.adapter, s.base_url, s.api_key, s.threads, s.n_ctx, s.prefix_cache


def _draws(conditions: Sequence[Condition], missing: dict[str, tuple[Row, ...]]) -> Iterator[_Draw]:
    """Conditions of equal draws and equal missing rows together, in the order of the first of each."""

    def key(condition: Condition) -> str:
        settings = replace(
            settings_of(condition, ""), best_of=1, n=1, select="consensus", reward_model=None, blend_weights=None
        )
        return repr((settings, condition.profile, [row.id for row in missing[condition.name]]))

    for group in _grouped(conditions, key):
        yield _Draw(tuple(group), missing[group[0].name])
