"""Understands a request: which task it means, what it is about, and in which shape that is said.

Words go to the task that they begin with ("title for ..."), a diff becomes the text of a change, and of a few words
only what they are about is kept ("my post on winter sourdough").
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from prlm_edge.ingest.diff import diff_to_text
from prlm_edge.tasks import Task, is_change, is_topic, task_for, without_filler
from prlm_edge.types import Shape


class Asked(NamedTuple):
    """A request understood.

    Attributes:
        task: What is to be written.
        text: What it is to be written for; "" of an empty request.
        shape: What `text` is; past items are shown in the same shape.
        kind: The kind of writing that the request names, such as "talk"; "" where it names none.
    """

    task: Task
    text: str
    shape: Shape
    kind: str = ""


def as_text(query: str) -> str:
    """A request as it is searched for and shown: a diff becomes the text of a change, as past commits are."""
    return diff_to_text(query).strip()


def understand(query: str, task: str, folder: Path | None = None) -> Asked:
    """What is asked by `query`.

    Args:
        query: Words, a text or a diff.
        task: The task's name; "write" looks for the task in the request's own words.
        folder: More tasks.

    Raises:
        UsageError: There is no such task, or a diff that can't be read.
        ConfigError: A task's file can't be used.
    """
    found, words = task_for(task, query.strip(), folder)
    text = as_text(words)
    if text != words or is_change(text):
        return Asked(found, text, "change")
    if found.learns_from == "title" and is_topic(text):
        topic, kind = without_filler(" ".join(text.split()))
        return Asked(found, topic, "topic", kind)
    return Asked(found, text, "text")
