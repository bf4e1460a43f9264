"""Shows the stream of `prlm-edge generate`: progress, reasoning and notes on stderr, answer or JSON on stdout.

Not here: the options (`generate.py`), and what the JSON holds (`_records.py`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.interrupt import cancel_on_interrupt
from prlm_edge.cli.shared.records import event_record, result_record
from prlm_edge.models.bundled import is_ours
from prlm_edge.types import Cancel, Drop, Event, Result

if TYPE_CHECKING:
    from prlm_edge.writer import Writer


OURS = "written with the adapter that comes with prlm-edge; --base leaves it out"


class Show:
    """Shows a stream of events in the form that was asked for."""

    def __init__(self, writer: Writer, *, quiet: bool, json: bool, jsonl: bool) -> None:
        self._writer, self._quiet, self._json, self._jsonl = writer, quiet, json, jsonl
        self._live = not (json or jsonl) and sys.stdout.isatty()
        self._reasoning = writer.settings.reasoning in ("auto", "show") and not (quiet or json or jsonl)
        self._dimmed = self._answered = False

    def run(self, query: str) -> bool:
        """Show the answer to `query`; returns whether it was cancelled."""
        cancel = Cancel()
        with contextlib.ExitStack() as signals, contextlib.ExitStack() as bar:
            self._writer.on_index_progress(self._bar(bar, "reading your past writing", "items"))
            reading: _console.Update = _no_progress
            writing: _console.Update = _no_progress
            for event in self._writer.stream(query, cancel=cancel):
                if event.type == "prompt":
                    bar.close()
                    signals.enter_context(cancel_on_interrupt(cancel))
                    reading = self._bar(bar, "reading the prompt", "tokens")
                elif event.type == "prefill":
                    reading(event.done, event.total)
                elif event.type == "candidate":
                    if event.done == 0:
                        bar.close()
                        writing = self._bar(bar, "writing", "answers", at_once=True)
                    writing(event.done, event.total)
                else:
                    bar.close()  # a bar that goes on drawing would overwrite the answer
                if self._jsonl:
                    _console.emit_json(event_record(event, query), indent=None)
                self._show(event)
                if event.result is not None:
                    return self._finish(event.result, query)
        return False

    def _bar(self, stack: contextlib.ExitStack, label: str, unit: str, *, at_once: bool = False) -> _console.Update:
        return _no_progress if self._quiet else stack.enter_context(_console.progress(label, unit, at_once=at_once))

    def _show(self, event: Event) -> None:
        if event.type == "reasoning" and self._reasoning:
            text = event.text if self._dimmed else event.text.lstrip()
            self._dimmed = self._dimmed or bool(text)
            _console.dim(text, end="")
        elif event.type == "answer" and self._live:
            if self._dimmed and not self._answered:
                _console.note("")
            self._answered = True
            _console.out(event.text, end="")

    def _finish(self, result: Result, query: str) -> bool:
        if self._dimmed and not self._answered:
            _console.note("")
        if self._live and self._answered:
            _console.out()
        elif not (self._json or self._jsonl or self._live) and result.answer:
            _console.out(result.answer)
        if self._json:
            _console.emit_json(result_record(result, query))
        if not self._quiet:
            ours = [OURS] if result.model.adapter and is_ours(self._writer.settings) else []
            show_notes(ours + dropped_lines(result.dropped) + list(result.notes) + _cut_lines(result))
        return result.finish_reason == "cancelled"


def _no_progress(_done: int, _total: int | None = None) -> None:
    """What draws nothing."""


def show_notes(lines: Sequence[str]) -> None:
    """Write notes to stderr, dimmed."""
    for line in lines:
        _console.dim(f"note: {line}")


def dropped_lines(dropped: Sequence[Drop]) -> list[str]:
    """One line for all that the context had no room for; what `item_words` shortened is the normal case."""
    left_out = sum(drop.what == "item" for drop in dropped)
    lines = [f"{left_out} of the retrieved items did not fit into the prompt"] if left_out else []
    return lines + [f"the request was shortened to {drop.kept} tokens" for drop in dropped if drop.what == "query"]


def _cut_lines(result: Result) -> list[str]:
    if result.finish_reason == "length":
        return ["the answer reached its limit; --answer-tokens raises it"]
    return []
