"""What `generate` prints as JSON: plans, results and events as plain data, the same names as in `prlm_edge.types`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prlm_edge.types import Event, Hit, Result

if TYPE_CHECKING:
    from prlm_edge.prompt import Plan


def hit_records(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Retrieved items without their texts, which the profile holds."""
    return [
        {"id": h.item.id, "title": h.item.title, "date": h.item.date, "score": h.score, "parts": dict(h.parts)}
        for h in hits
    ]


def plan_record(plan: Plan) -> dict[str, Any]:
    """What `--dry-run --json` prints."""
    return {
        "task": plan.task.name,
        "retriever": plan.settings.retriever,
        "layout": plan.settings.layout,
        "retrieved": hit_records(plan.hits),
        "used": [hit.item.id for hit in plan.prompt.used],
        "dropped": plan.prompt.dropped,
        "turns": [{"role": turn.role, "text": turn.text} for turn in plan.prompt.turns],
        "tokens": plan.prompt.tokens,
        "reasoning_tokens": plan.reasoning_tokens,
        "answer_tokens": plan.answer_tokens,
        "notes": plan.notes,
    }


def result_record(result: Result, query: str) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "answer": result.answer,
        "reasoning": result.reasoning,
        "finish_reason": result.finish_reason,
        "reasoning_truncated": result.reasoning_truncated,
        "request": query,
        "task": result.task,
        "retriever": result.retriever,
        "layout": result.layout,
        "used": hit_records(result.used),
        "dropped": result.dropped,
        "usage": result.usage,
        "model": result.model,
        "notes": result.notes,
        "select": result.select,
        "candidates": result.candidates,
    }


def event_record(event: Event, query: str) -> dict[str, Any]:
    """One line of `--jsonl`."""
    record: dict[str, Any] = {"type": event.type}
    if event.type in ("reasoning", "answer"):
        record["text"] = event.text
    elif event.type == "prefill":
        record |= {"done": event.done, "total": event.total}
    elif event.type == "candidate":
        record |= {"done": event.done, "total": event.total, "text": event.text}
    elif event.type == "retrieved":
        record["hits"] = hit_records(event.hits)
    elif event.prompt is not None:
        record |= {
            "tokens": event.prompt.tokens,
            "used": [h.item.id for h in event.prompt.used],
            "dropped": event.prompt.dropped,
        }
    elif event.result is not None:
        record |= result_record(event.result, query)
    return record
