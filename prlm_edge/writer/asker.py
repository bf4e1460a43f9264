"""Makes requests ready: finds the task, turns a diff into text, retrieves past writing, renders the prompt.

The only place where that is done: the Writer, evaluation and training all ask through an `Asker`, so that a model is
trained and judged on the prompts that it is used with.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from prlm_edge.errors import UsageError
from prlm_edge.ingest.diff import diff_to_text
from prlm_edge.prompt import Plan, Renderer, prompt_budget
from prlm_edge.settings import Settings
from prlm_edge.style import Style, style_of
from prlm_edge.tasks import Task, task_for
from prlm_edge.types import Hit, ModelInfo, Scoring, TokenCounter
from prlm_edge.writer.pool import Past, Pool, Pools, profile_notes


def as_text(query: str) -> str:
    """A request as it is searched for and shown: a diff becomes the text of a change, as past commits are."""
    return diff_to_text(query).strip()


class Asker:
    """Makes requests ready.

    It keeps what the tasks learn from the profile that was last asked about, and the retrievers over it: requests
    about one profile should follow each other. Thread-safe.
    """

    def __init__(self) -> None:
        self._pools = Pools()
        self._lock = threading.Lock()

    def plan(self, query: str, past: Past | None, settings: Settings, counter: TokenCounter, info: ModelInfo) -> Plan:
        """What a model is asked for `query`.

        Args:
            query: The request: words, or a diff.
            past: The user's past writing; None for none.
            settings: How to ask.
            counter: The model's tokenizer.
            info: The model.

        Raises:
            UsageError: An empty request, an unknown task, or a context that leaves no room for a prompt.
            MissingError: What the retriever needs isn't there.
        """
        folder = Path(settings.tasks_dir) if settings.tasks_dir else None
        task, text = task_for(settings.task, query.strip(), folder)
        text = as_text(text)
        if not text:
            raise UsageError("the request is empty", 'say what to write, such as "title for my post on ..."')
        started = time.perf_counter()
        hits, style, notes = self._retrieve(task, text, past, settings)
        retrieve_s = time.perf_counter() - started
        n_reason = _reasoning_tokens(task, settings, info)
        n_answer = settings.answer_tokens or task.answer_tokens
        s, budget = settings, prompt_budget(info.n_ctx_max, n_reason, n_answer)
        renderer = Renderer(task, counter, style, s.layout, n_reason > 0, s.item_words, s.item_order)
        prompt = renderer.render(text, hits, budget)
        past_answers = tuple(task.answer_of(hit.item) for hit in prompt.used)
        scoring = Scoring(text, task.name, style, prompt.used, past_answers)
        return Plan(task, settings, tuple(hits), prompt, n_reason, n_answer, tuple(notes), retrieve_s, scoring)

    def pool(self, past: Past, task: Task) -> Pool:
        """What `task` can learn from."""
        with self._lock:
            return self._pools.of(past, task)

    def on_index_progress(self, callback: Callable[[int, int], None] | None) -> None:
        """Call `callback(done, total)` while an index is built, which for dense retrieval can take minutes."""
        self._pools.progress = callback

    def _retrieve(
        self, task: Task, text: str, past: Past | None, settings: Settings
    ) -> tuple[list[Hit], Style, list[str]]:
        if past is None:
            return [], style_of([]), ["no profile was given, so this is nobody's voice: add --user me.jsonl"]
        with self._lock:
            pool = self._pools.of(past, task)
            retriever = self._pools.retriever(pool, settings.retriever, settings.seed)
            hits = retriever.search(text, settings.k)
            notes = [*profile_notes(past, pool, task), *retriever.notes]
        if hits and settings.retriever == "bm25" and hits[0].score <= 0:
            notes.append("nothing in the profile resembles the request: the most recent items were used")
        return hits, pool.style, notes


def _reasoning_tokens(task: Task, settings: Settings, info: ModelInfo) -> int:
    if settings.reasoning == "off":
        return 0
    if settings.reasoning_tokens is not None:
        return settings.reasoning_tokens
    return task.reasoning_tokens if settings.reasoning != "auto" or info.reasons else 0
