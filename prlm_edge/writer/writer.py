"""Writer: the facade that apps embed. A profile, a model, and one streaming primitive that everything else folds.

    with Writer.open("me.jsonl") as writer:
        print(writer.generate("title for my post on winter sourdough").answer)

Thread-safe: requests of several threads are answered one after the other. Nothing is loaded before it is needed.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from prlm_edge import tasks
from prlm_edge.backends import open_backend
from prlm_edge.errors import UsageError
from prlm_edge.ingest.diff import diff_to_text, is_diff
from prlm_edge.profile import Profile
from prlm_edge.prompt import Plan, make_plan
from prlm_edge.rerank import check_scorer, make_scorer, no_logprobs
from prlm_edge.retrieve import make_retriever
from prlm_edge.settings import Settings, load_settings, override
from prlm_edge.style import Style, style_of
from prlm_edge.types import Backend, Cancel, Event, Hit, Result, Scorer
from prlm_edge.writer.draw import draw
from prlm_edge.writer.pool import Pool, make_pool, profile_notes


class Writer:
    """Writes in one user's voice.

    Args:
        profile: The user's past writing; None writes without one.
        settings: How; see `Writer.open` for the usual way to make them.
        backend: The model, which may be shared and stays the caller's to close; None opens what `settings` name, at the
            first request.
        scorer: Chooses the best of several answers, in place of what the settings' `select` names.
    """

    def __init__(
        self,
        profile: Profile | None,
        settings: Settings,
        backend: Backend | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        self.profile, self.settings, self.scorer = profile, settings, scorer
        self._backend = backend
        self._pools: dict[str, Pool] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._progress: Callable[[int, int], None] | None = None
        self._own_backend: Backend | None = None  # opened here, so closed here

    @classmethod
    def open(
        cls,
        profile: str | Path | None = None,
        *,
        config: str | Path | None = None,
        scorer: Scorer | None = None,
        **settings: Any,
    ) -> Self:
        """Open a Writer for the profile at `profile` (None: the configured one, if any).

        Args:
            profile: A JSONL profile.
            config: A TOML file of settings, over the user's own.
            scorer: As the class says.
            **settings: Any setting by name, such as `model="smollm2-135m"` or `k=6`; over everything else.

        Raises:
            UsageError: No such profile, or an unknown setting or value.
            ProfileError: The profile can't be read.
        """
        flags = dict(settings)
        if profile is not None:
            flags["user"] = str(profile)
        loaded = load_settings(config=Path(config) if config else None, flags=flags)
        return cls(Profile.open(loaded.user) if loaded.user else None, loaded, scorer=scorer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model that this Writer opened. Idempotent; a Writer that is dropped frees it too."""
        with self._lock:
            self._closed = True
            if self._own_backend is not None:
                self._own_backend.close()

    def load(self) -> Backend:
        """Load the model now instead of at the first request; returns the backend.

        Raises:
            MissingError: The model, or the package that runs it, isn't there yet.
            UsageError: No such model, or this Writer is closed.
            ModelError: The model is damaged.
        """
        with self._lock:
            if self._closed:
                raise UsageError("this Writer is closed", "open a new one")
            if self._backend is None:
                self._backend = self._own_backend = open_backend(self.settings)
                weakref.finalize(self, self._backend.close)
            return self._backend

    def plan(self, query: str, **options: Any) -> Plan:
        """Retrieve and render for `query` without generating: what `stream` would ask the model.

        Raises:
            UsageError: An empty request, or an unknown option value.
        """
        settings, scorer = self._settled(options)
        folder = Path(settings.tasks_dir) if settings.tasks_dir else None
        task, text = tasks.get_task(settings.task, folder), query.strip()
        if task.name == "write":
            task, text = tasks.route(text, tasks.load_tasks(folder))
        if is_diff(text):
            text = diff_to_text(text)
        if not text.strip():
            raise UsageError("the request is empty", 'say what to write, such as "title for my post on ..."')
        backend = self.load()
        if settings.best_of > 1 and scorer.needs_logprobs and not backend.reports_logprobs:
            raise no_logprobs()
        started = time.perf_counter()
        hits, style, notes = self._retrieve(task, text, settings)
        retrieve_s = time.perf_counter() - started
        notes += _without_effect(settings, scorer, asked_for=options.get("select") is not None)
        return make_plan(backend, task, text, settings, scorer, hits, style, notes, retrieve_s)

    def _settled(self, options: Mapping[str, Any]) -> tuple[Settings, Scorer]:
        """A request's settings, and what selects: its own choice, else this Writer's, else that of the settings.

        What the scorer needs is there: that it isn't should be said before a model is loaded and answers are drawn.
        """
        settings, select = override(self.settings, options), options.get("select")
        if select is None or isinstance(select, str):
            scorer = (self.scorer if select is None else None) or make_scorer(settings)
        else:
            scorer = select
        if settings.best_of > 1:
            check_scorer(scorer)
        return settings, scorer

    def stream(self, query: str, *, cancel: Cancel | None = None, **options: Any) -> Iterator[Event]:
        """Answer `query`, event by event: "loading", "retrieved", "prompt", "prefill", "reasoning", "answer", "done".

        The last event carries the Result, also when cancelled. Options are settings, for this request only.
        With `best_of` above 1, "candidate" events tell how many answers are finished, then the best comes as a whole;
        cancelled, it is the best of those that were finished.

        Raises:
            UsageError: An empty request, or an unknown option value.
            PrlmError: As `load` and the backend say.
        """
        started = time.perf_counter()
        if self._backend is None:
            yield Event("loading")
        self._settled(options)
        backend = self.load()
        load_s = time.perf_counter() - started
        plan = self.plan(query, **options)
        yield Event("retrieved", hits=plan.hits)
        yield Event("prompt", prompt=plan.prompt)
        drawn = yield from draw(backend, plan, cancel)
        best = drawn.best
        usage = replace(drawn.usage, load_s=load_s, retrieve_s=plan.retrieve_s, total_s=time.perf_counter() - started)
        several = plan.settings.best_of > 1
        result = Result(
            answer=best.answer,
            reasoning=best.reasoning,
            used=plan.prompt.used,
            dropped=plan.prompt.dropped,
            finish_reason="cancelled" if drawn.cancelled else best.finish_reason,
            reasoning_truncated=best.reasoning_truncated,
            usage=usage,
            model=backend.info,
            task=plan.task.name,
            retriever=plan.settings.retriever,
            layout=plan.settings.layout,
            notes=plan.notes + drawn.notes + backend.notes,
            candidates=drawn.candidates if several else (),
            select=plan.scorer.name if several else "",
        )
        yield Event("done", result=result)

    def generate(self, query: str, *, cancel: Cancel | None = None, **options: Any) -> Result:
        """Answer `query`; the fold of `stream`, and raises as it does."""
        return _last(list(self.stream(query, cancel=cancel, **options)))

    async def astream(self, query: str, *, cancel: Cancel | None = None, **options: Any) -> AsyncIterator[Event]:
        """The async twin of `stream`: it runs in a thread of its own, and ending the loop early cancels it."""
        from prlm_edge.writer_async import in_thread  # asyncio takes 10 ms to import

        cancel = cancel or Cancel()
        try:
            async for event in in_thread(lambda: self.stream(query, cancel=cancel, **options)):
                yield event
        finally:
            cancel.cancel()

    async def agenerate(self, query: str, *, cancel: Cancel | None = None, **options: Any) -> Result:
        """The async twin of `generate`."""
        return _last([event async for event in self.astream(query, cancel=cancel, **options)])

    def _retrieve(self, task: tasks.Task, text: str, settings: Settings) -> tuple[list[Hit], Style, list[str]]:
        if self.profile is None:
            return [], style_of([]), ["no profile was given, so this is nobody's voice: add --user me.jsonl"]
        with self._lock:
            if self.profile.refresh():
                self._pools.clear()
            pool = self._pools.get(task.name) or self._pools.setdefault(task.name, make_pool(self.profile, task))
            notes = profile_notes(self.profile, pool, task)
            key = (settings.retriever, settings.seed)
            if key not in pool.retrievers:
                pool.retrievers[key] = make_retriever(
                    settings.retriever, pool.items, seed=settings.seed, progress=self._progress
                )
            hits = pool.retrievers[key].search(text, settings.k)
            notes += pool.retrievers[key].notes
        if hits and settings.retriever == "bm25" and hits[0].score <= 0:
            notes.append("nothing in the profile resembles the request: the most recent items were used")
        return hits, pool.style, notes

    def on_index_progress(self, callback: Callable[[int, int], None] | None) -> None:
        """Call `callback(done, total)` while an index is built, which for dense retrieval can take minutes."""
        self._progress = callback


def _without_effect(settings: Settings, scorer: Scorer, *, asked_for: bool) -> list[str]:
    """Notes on what was asked for on choosing and will not be used; what a config file says may wait for its use."""
    needed_by = {"reward_model": "reward", "blend_weights": "blend"}
    given = {key for key in ("select", *needed_by) if settings.origins.get(key) == "flag"}
    given |= {"select"} if asked_for else set()
    notes = []
    for key, select in needed_by.items():
        if key in given and scorer.name != select:
            notes.append(f"{key} has no effect on select {scorer.name}: add --select {select}")
            given.remove(key)
    if given and settings.best_of == 1:
        notes.append("select chooses among several answers, and one is written: add --best-of 8")
    return notes


def _last(events: list[Event]) -> Result:
    result = events[-1].result if events else None
    if result is None:
        raise UsageError("the stream ended early", "call generate() again")
    return result
