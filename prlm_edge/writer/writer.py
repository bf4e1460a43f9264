"""Writer: the facade that apps embed. A profile, a model, and one streaming primitive that everything else folds.

    with Writer.open("me.jsonl") as writer:
        print(writer.generate("title for my post on winter sourdough").answer)

Thread-safe: requests of several threads are answered one after the other. Nothing is loaded before it is needed.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from prlm_edge.backends import open_backend
from prlm_edge.errors import UsageError
from prlm_edge.feedback import Accepted, accept, draft_of, find
from prlm_edge.models.choice import chosen
from prlm_edge.profile import Profile
from prlm_edge.prompt import Plan
from prlm_edge.rerank import check_scorer, make_scorer, no_logprobs
from prlm_edge.settings import Settings, load_settings, override
from prlm_edge.types import Backend, Cancel, Candidate, Draft, Event, ModelInfo, Result, Scorer
from prlm_edge.writer.asker import Asker
from prlm_edge.writer.draw import Drawing


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
        self._asker = Asker()
        self._on_model_progress: Callable[[int, int], None] = lambda done, total: None
        self._lock = threading.Lock()
        self._closed = False
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
                self.settings = chosen(self.settings)
                self._backend = self._own_backend = open_backend(self.settings, self._on_model_progress)
                weakref.finalize(self, self._backend.close)
            return self._backend

    def plan(self, query: str, **options: Any) -> Plan:
        """Retrieve and render for `query` without generating: what `stream` would ask the model.

        Raises:
            UsageError: An empty request, or an unknown option value.
        """
        settings, scorer = self._settled(options)
        return self._plan(query, settings, scorer, self.load(), chosen=options.get("select") is not None)

    def stream(self, query: str, *, cancel: Cancel | None = None, **options: Any) -> Iterator[Event]:
        """Answer `query`, event by event: "loading", "retrieved", "prompt", "prefill", "reasoning", "answer", "done".

        The last event carries the Result, also when cancelled. Options are settings, for this request only.
        Where several answers are drawn, "candidate" events tell how many are finished, then the best comes as a whole;
        cancelled, it is the best of those that were finished. With `n` above 1 the result's `candidates` are the
        different ones to choose from. The answer of one line to a topic or a diff comes as a whole too: where it is
        none, such as the topic's own words again, a few others are drawn (`prompt.plan.SPARES`).

        Raises:
            UsageError: An empty request, or an unknown option value.
            PrlmError: As `load` and the backend say.
        """
        started = time.perf_counter()
        if self._backend is None:
            yield Event("loading")
        settings, scorer = self._settled(options)
        backend = self.load()
        load_s = time.perf_counter() - started
        plan = self._plan(query, settings, scorer, backend, chosen=options.get("select") is not None)
        yield Event("retrieved", hits=plan.hits)
        yield Event("prompt", prompt=plan.prompt)
        drawing = Drawing(plan, scorer)
        while requests := drawing.ask():
            for place, event in backend.stream_many(requests, cancel):
                yield from drawing.take(place, event)
        candidates = drawing.chosen()
        best = candidates[0] if candidates else Candidate("", finish_reason="cancelled")
        if not drawing.live:
            shown = (Event("reasoning", text=best.reasoning), Event("answer", text=best.answer))
            yield from (event for event in shown if event.text)
        usage = replace(drawing.usage, load_s=load_s, retrieve_s=plan.retrieve_s, total_s=time.perf_counter() - started)
        result = Result(
            answer=best.answer,
            reasoning=best.reasoning,
            used=plan.prompt.used,
            dropped=plan.prompt.dropped,
            finish_reason="cancelled" if drawing.cancelled else best.finish_reason,
            reasoning_truncated=best.reasoning_truncated,
            usage=usage,
            model=backend.info,
            task=plan.task.name,
            retriever=settings.retriever,
            layout=settings.layout,
            notes=(*plan.notes, *drawing.notes(candidates), *backend.notes),
            candidates=candidates if len(drawing.replies) > 1 else (),
            select=scorer.name if settings.n_drawn > 1 else "",
            draft=None if drawing.cancelled else _draft(plan, candidates, backend.info),
        )
        yield Event("done", result=result)

    def generate(self, query: str, *, cancel: Cancel | None = None, **options: Any) -> Result:
        """Answer `query`; the fold of `stream`, and raises as it does."""
        return _last(list(self.stream(query, cancel=cancel, **options)))

    def accept(self, draft: Draft | str, final: str | None = None) -> Accepted:
        """Add what the user made of a draft to their profile: `final`, or the first answer as it was.

        Changed, it counts as their own writing from the next request on; as it was, it is kept but never learned from.

        Args:
            draft: A result's `draft`, or the id of one that the command line keeps.
            final: The text as the user uses it.

        Raises:
            UsageError: There is no profile or no such draft, or the text can't be such an answer.
            PrlmError: The profile, or the file of pairs beside it, can't be written.
        """
        if self.profile is None:
            raise UsageError("there is no profile to add to", "open the Writer with one")
        found = find(self.profile.path, draft).draft if isinstance(draft, str) else draft
        return accept(self.profile, found, final)

    async def astream(self, query: str, *, cancel: Cancel | None = None, **options: Any) -> AsyncIterator[Event]:
        """The async twin of `stream`: it runs in a thread of its own, and ending the loop early cancels it."""
        cancel = cancel or Cancel()
        try:
            async for event in _in_thread(lambda: self.stream(query, cancel=cancel, **options)):
                yield event
        finally:
            cancel.cancel()

    async def agenerate(self, query: str, *, cancel: Cancel | None = None, **options: Any) -> Result:
        """The async twin of `generate`."""
        return _last([event async for event in self.astream(query, cancel=cancel, **options)])

    def on_index_progress(self, callback: Callable[[int, int], None] | None) -> None:
        """Call `callback(done, total)` while an index is built, which for dense retrieval can take minutes."""
        self._asker.on_index_progress(callback)

    def on_model_progress(self, callback: Callable[[int, int], None]) -> None:
        """Call `callback(done, total)` while `load` makes the model's faster copy: seconds, with its first request."""
        self._on_model_progress = callback

    def _settled(self, options: Mapping[str, Any]) -> tuple[Settings, Scorer]:
        """A request's settings, and what selects: its own choice, else this Writer's, else that of the settings.

        What the scorer needs is there: that it isn't should be said before a model is loaded and answers are drawn.
        """
        settings, select = override(self.settings, options), options.get("select")
        if select is None or isinstance(select, str):
            scorer = (self.scorer if select is None else None) or make_scorer(settings)
        else:
            scorer = select
        if settings.n_drawn > 1:
            check_scorer(scorer)
        return settings, scorer

    def _plan(self, query: str, settings: Settings, scorer: Scorer, backend: Backend, *, chosen: bool) -> Plan:
        """The plan, and the notes on what was asked of choosing; `chosen`: the request itself says how to choose."""
        if settings.n_drawn > 1 and scorer.needs_logprobs and not backend.reports_logprobs:
            raise no_logprobs()
        plan = self._asker.plan(query, self.profile, settings, backend, backend.info)
        notes = _without_effect(settings, scorer, asked_for=chosen)
        return replace(plan, notes=(*plan.notes, *notes)) if notes else plan


def _draft(plan: Plan, candidates: tuple[Candidate, ...], info: ModelInfo) -> Draft | None:
    shown = candidates if plan.settings.n > 1 else candidates[:1]
    return draft_of(plan, shown, f"{info.name} {info.adapter}".strip())


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
    if given and settings.n_drawn == 1:
        notes.append("select chooses among several answers, and one is written: add --best-of 8")
    return notes


def _last(events: list[Event]) -> Result:
    result = events[-1].result if events else None
    if result is None:
        raise UsageError("the stream ended early", "call generate() again")
    return result


async def _in_thread(stream: Callable[[], Iterator[Event]]) -> AsyncIterator[Event]:
    """The events of `stream()`, and the error that ends it, whatever it is. Leaving early does not stop the thread."""
    import asyncio  # takes 10 ms

    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event | BaseException | None]()

    def run() -> None:
        last: BaseException | None = None
        try:
            for event in stream():
                loop.call_soon_threadsafe(queue.put_nowait, event)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
            last = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens any more
            loop.call_soon_threadsafe(queue.put_nowait, last)

    # Not the loop's thread pool: streams that wait for their turn would fill it and starve the one that runs.
    threading.Thread(target=run, name="prlm-edge", daemon=True).start()
    while (event := await queue.get()) is not None:
        if isinstance(event, BaseException):
            raise event
        yield event
