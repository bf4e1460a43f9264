"""Makes requests ready: understands them, retrieves past writing, renders the prompt.

The only place where that is done: the Writer, evaluation and training all ask through an `Asker`, so that a model is
trained and judged on the prompts that it is used with.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from prlm_edge.errors import UsageError
from prlm_edge.prompt import SHOWN, Plan, Renderer, prompt_budget
from prlm_edge.settings import Settings
from prlm_edge.style import Style, listed, style_of
from prlm_edge.tasks import Task
from prlm_edge.types import Hit, ModelInfo, Scoring, TokenCounter
from prlm_edge.writer.pool import Past, Pool, Pools, profile_notes, search_notes
from prlm_edge.writer.understand import Asked, understand

SMALL = 300_000_000  # parameters; a model with fewer writes poor prose
LARGER = "large"  # the best model that `prlm-edge model list` knows for a laptop
ENOUGH_OF_KIND = 8  # items from which a kind alone shows how its titles are written


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
        asked = understand(query, settings.task, settings.tasks_folder)
        task, text, shape, _ = asked
        if not text:
            raise UsageError("the request is empty", 'say what to write, such as "title for my post on ..."')
        started = time.perf_counter()
        hits, style, notes = self._retrieve(asked, past, settings)
        retrieve_s = time.perf_counter() - started
        n_reason = _reasoning_tokens(task, settings, info)
        n_answer = settings.answer_tokens or task.answer_tokens
        words = settings.item_words or SHOWN[shape][1]
        s, budget = settings, prompt_budget(info.n_ctx_max, n_reason, n_answer)
        renderer = Renderer(task, counter, style, s.layout, n_reason > 0, words, s.item_order, shape)
        prompt = renderer.render(text, hits, budget)
        past_answers = tuple(task.answer_of(hit.item) for hit in prompt.used)
        scoring = Scoring(text, task.name, style, prompt.used, past_answers, shape)
        notes += model_notes(task, info)
        return Plan(task, settings, tuple(hits), prompt, n_reason, n_answer, tuple(notes), retrieve_s, scoring)

    def pool(self, past: Past, task: Task) -> Pool:
        """What `task` can learn from."""
        with self._lock:
            return self._pools.of(past, task)

    def on_index_progress(self, callback: Callable[[int, int], None] | None) -> None:
        """Call `callback(done, total)` while an index is built, which for dense retrieval can take minutes."""
        self._pools.progress = callback

    def _retrieve(self, asked: Asked, past: Past | None, settings: Settings) -> tuple[list[Hit], Style, list[str]]:
        if past is None:
            return [], style_of([]), ["no profile was given, so this is nobody's voice: add --user me.jsonl"]
        with self._lock:
            pool = self._pool(asked, past)
            retriever = self._pools.retriever(pool, settings.retriever, settings.seed)
            hits = retriever.search(asked.text, settings.k or SHOWN[asked.shape][0])
            notes = [*profile_notes(past, pool, asked.task), *retriever.notes]
        return hits, pool.style, [*notes, *search_notes(asked.text, hits, settings.retriever)]

    def _pool(self, asked: Asked, past: Past) -> Pool:
        """What the task learns from; where the request names a kind of writing, the items of that kind if enough."""
        if asked.kind:
            pool = self._pools.of(past, replace(asked.task, kinds=(asked.kind,)))
            if len(pool.items) >= ENOUGH_OF_KIND and pool.items[0].kind == asked.kind:
                return pool
        return self._pools.of(past, asked.task)


def model_notes(task: Task, info: ModelInfo) -> list[str]:
    """What a model can't do well: a task that its card doesn't name, and prose if it is small."""
    untrained = info.tasks and task.name not in info.tasks
    trained_for = listed(info.tasks)
    notes = [f"this voice was trained for {trained_for}, not for {task.name}"] if untrained else []
    if task.multiline and 0 < info.n_parameters < SMALL:
        millions = f"{info.n_parameters / 1e6:.0f} million parameters"
        notes.append(f"{task.name} with {millions} is poor: a larger model (`--model {LARGER}`) writes better")
    return ["; ".join(notes)] if notes else []


def _reasoning_tokens(task: Task, settings: Settings, info: ModelInfo) -> int:
    if settings.reasoning == "off":
        return 0
    if settings.reasoning_tokens is not None:
        return settings.reasoning_tokens
    return task.reasoning_tokens if settings.reasoning != "auto" or info.reasons else 0
