"""`prlm-edge generate`: write in your own voice. Answers on stdout; reasoning, progress and notes on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.interrupt import cancel_on_interrupt, end_in_order
from prlm_edge.cli.shared.options import ConfigFile, adds, new_app, setting_flags
from prlm_edge.cli.shared.progress import Update, no_update, progress
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import EXIT_INTERRUPTED, PrlmError, UsageError
from prlm_edge.feedback import keep, said_of
from prlm_edge.models.adapters import NONE, is_ours
from prlm_edge.settings import KEYS, Settings
from prlm_edge.tasks import get_task
from prlm_edge.types import Cancel, Candidate, Draft, Drop, Event, Hit, Result

if TYPE_CHECKING:
    from prlm_edge.prompt import Plan
    from prlm_edge.writer import Writer

app = new_app()
BETWEEN = "---"  # a line between answers that may have several lines each
OURS = "written with the adapter that comes with prlm-edge; --base leaves it out"
MADE = "made the copy of the model that is run, once"


@app.command(
    help=f"""{VERBS["generate"]}

REQUEST is what you want written, such as "title for my post on winter sourdough". "-" stands for what is piped in:

\b
git diff --staged | prlm-edge generate --user me.jsonl --task commit -
git commit -m "$(git diff --staged | prlm-edge generate --task commit --pick -)"

With -n 4 up to four answers that differ are printed, best first, a line each; those of tasks that write several lines
are parted by a line of "---". --pick asks on the terminal which one to print: by its number, after a change (e), or
after others were drawn (r). q, Esc, Ctrl-C and Ctrl-D print nothing, and the exit code is 130.

Options that are not given come from the settings (`prlm-edge config show`).
"""
)
@adds("flags", setting_flags(*(key for key, spec in KEYS.items() if not spec.secret)))
def generate(
    flags: Mapping[str, Any],
    request: Annotated[
        list[str] | None,
        typer.Argument(metavar="REQUEST", help="What to write; - reads standard input.", show_default=False),
    ] = None,
    base: Annotated[
        bool, typer.Option("--base", help="Without the adapter that comes with prlm-edge: the model as it was pulled.")
    ] = False,
    config: ConfigFile = None,
    pick: Annotated[
        bool, typer.Option("--pick", help="Choose by a key which answer is printed; of four where -n says nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the prompt and the retrieved items; write nothing.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the answer and all that led to it as one JSON document.")
    ] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print every event as it happens, one JSON object a line.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Answer one request."""
    if json and jsonl:
        hint = "--json prints once at the end, --jsonl as it happens"
        raise UsageError("--json and --jsonl exclude each other", hint)
    if pick and (json or jsonl or dry_run):
        raise UsageError("--pick prints the chosen answer alone", "leave out --json, --jsonl and --dry-run")
    if base:
        if flags["adapter"] is not None:
            raise UsageError("--base and --adapter exclude each other", "leave one of them out")
        flags = {**flags, "adapter": NONE}
    query = _read_request(request or [])
    from prlm_edge.writer import Writer

    with Writer.open(config=config, **flags) as writer, _merging_shown(writer, quiet=quiet):
        if dry_run:
            _dry_run(writer, query, as_json=json or jsonl)
            return
        show = _Show(writer, quiet=quiet, json=json, jsonl=jsonl, pick=pick)
        if pick:
            _pick(show, writer.settings, query)
            return
        result = show.run(query)
        show.end(result, query)
    if result.finish_reason == "cancelled":
        raise typer.Exit(EXIT_INTERRUPTED)


def _pick(show: _Show, settings: Settings, query: str) -> None:
    """Print the answer that the user takes on their terminal."""
    from prlm_edge.cli.shared.pick import OTHERS_TEMPERATURE, PICK_FROM, pick_one
    from prlm_edge.cli.shared.terminal import open_terminal  # it loads subprocess and tempfile

    n = PICK_FROM if settings.origins["n"] == "default" else settings.n
    drafts = []

    def draw(n_rounds: int) -> Sequence[Candidate]:
        warm = max(settings.temperature, OTHERS_TEMPERATURE)
        others = {"seed": (settings.seed + 100 * n_rounds) % 2**32, "temperature": warm} if n_rounds else {}
        result = show.run(query, n=n, **others)
        if not n_rounds:
            show.notes(result)
        drafts.append(result.draft)
        drawn = result.candidates[:n] or (Candidate(result.answer),)  # one, with -n 1
        return () if result.finish_reason == "cancelled" else drawn

    with open_terminal("--pick") as terminal, end_in_order():
        picked = pick_one(terminal, draw)
    if picked is None:
        raise typer.Exit(EXIT_INTERRUPTED)
    console.out(picked.text)
    if drafts[0] is not None:
        show.took(replace(drafts[0], answers=picked.answers, final=picked.text))


@contextlib.contextmanager
def _merging_shown(writer: Writer, *, quiet: bool) -> Iterator[None]:
    """Show how the copy of the model that is run is made, which happens once, and say so in a line."""
    with contextlib.ExitStack() as bar:
        update = (
            no_update
            if quiet
            else bar.enter_context(progress("making the copy of the model that is run, once", "steps"))
        )

        def show(done: int, total: int) -> None:
            update(done, total)
            if done == total:
                bar.close()
                _show_notes([MADE] * (not quiet))

        writer.on_model_progress(show)
        yield


def _read_request(words: Sequence[str]) -> str:
    """The request: the words, or standard input where there are none."""
    if not words and not sys.stdin.isatty():
        words = ["-"]
    if not words:
        raise UsageError("no request", 'say what to write: prlm-edge generate "title for my post on ..."')
    return console.words_or_stdin(words)


def _dry_run(writer: Writer, query: str, *, as_json: bool) -> None:
    plan = writer.plan(query)
    if as_json:
        console.emit_json(_plan_record(plan))
        return
    for hit in plan.hits:
        title = console.one_line(hit.item.title or hit.item.text[:60])
        console.out(f"{hit.score:8.3f}  {console.one_line(hit.item.id)}  {title}")
    for turn in plan.prompt.turns:
        console.out(f"\n--- {turn.role}\n{turn.text}")
    console.out(f"\n--- {plan.prompt.tokens} tokens, task {plan.task.name}")
    _show_notes(_dropped_lines(plan.prompt.dropped) + list(plan.notes))


class _Show:
    """Shows a stream of events in the form that was asked for; `pick` shows no answers."""

    def __init__(self, writer: Writer, *, quiet: bool, json: bool, jsonl: bool, pick: bool) -> None:
        self._writer, self._quiet, self._json, self._jsonl = writer, quiet, json, jsonl
        plain = not (json or jsonl or pick)
        self._live = plain and writer.settings.n == 1 and sys.stdout.isatty()
        self._reasoning = writer.settings.reasoning in ("auto", "show") and plain and not quiet
        self._dimmed = self._answered = False
        self._pick = pick
        self._draft = ""  # id of the last draft that was kept

    def run(self, query: str, **options: Any) -> Result:
        """Show the answering of `query` as it happens, all but its end."""
        cancel = Cancel()
        with contextlib.ExitStack() as signals, contextlib.ExitStack() as bar:
            self._writer.on_index_progress(self._bar(bar, "reading your past writing", "items"))
            reading: Update = no_update
            writing: Update | None = None
            for event in self._writer.stream(query, cancel=cancel, **options):
                if event.type == "prompt":
                    bar.close()
                    signals.enter_context(cancel_on_interrupt(cancel))
                    reading = self._bar(bar, "reading the prompt", "tokens")
                elif event.type == "prefill":
                    reading(event.done, event.total)
                elif event.type == "candidate":
                    if writing is None:
                        bar.close()
                        writing = self._bar(bar, "writing", "answers", at_once=True)
                    writing(event.done, event.total)
                else:
                    bar.close()  # a bar that goes on drawing would overwrite the answer
                if event.result is not None and event.result.draft is not None and not self._pick:
                    self._keep(event.result.draft)
                if self._jsonl:
                    console.emit_json(_event_record(event, query, self._draft), indent=None)
                self._show(event)
            assert event.result is not None
            return event.result

    def _bar(self, stack: contextlib.ExitStack, label: str, unit: str, *, at_once: bool = False) -> Update:
        return no_update if self._quiet else stack.enter_context(progress(label, unit, at_once=at_once))

    def _show(self, event: Event) -> None:
        if event.type == "reasoning" and self._reasoning:
            text = event.text if self._dimmed else event.text.lstrip()
            self._dimmed = self._dimmed or bool(text)
            console.dim(text, end="")
        elif event.type == "answer" and self._live:
            if self._dimmed and not self._answered:
                console.note("")
            self._answered = True
            console.out(event.text, end="")

    def end(self, result: Result, query: str) -> None:
        """Print the answers, as far as they aren't there yet, and the notes."""
        if self._dimmed and not self._answered:
            console.note("")
        if self._live and self._answered:
            console.out()
        elif not (self._json or self._jsonl or self._live):
            self._print(result)
        if self._json:
            console.emit_json(_result_record(result, query, self._draft))
        self.notes(result)

    def took(self, draft: Draft) -> None:
        """Keep what the user has picked, in their profile if they want that."""
        self._keep(draft)
        if self._writer.settings.accept == "picked" and self._writer.profile is not None:
            accepted = self._writer.accept(draft)
            if not self._quiet:
                console.dim(f"note: {said_of(accepted)}")

    def _keep(self, draft: Draft) -> None:
        """Keep a draft for `prlm-edge accept`; the answer is no worse where that fails."""
        profile, n = self._writer.profile, self._writer.settings.drafts
        if profile is None or not n:
            return
        try:
            keep(draft, profile.path, n)
            self._draft = draft.id
        except PrlmError as error:
            _show_notes([f"the answer is not kept for `prlm-edge accept`: {error.message}"] * (not self._quiet))

    def _print(self, result: Result) -> None:
        """The answer, or several to choose from."""
        settings = self._writer.settings
        several = [one.answer for one in result.candidates] if settings.n > 1 else [result.answer]
        long = settings.n > 1 and get_task(result.task, settings.tasks_folder).multiline
        between = f"\n{BETWEEN}\n" if long else "\n"
        if text := between.join(filter(None, several)):
            console.out(text)

    def notes(self, result: Result) -> None:
        """Say what the user should know of the answers."""
        if self._quiet:
            return
        ours = [OURS] if result.model.adapter and is_ours(self._writer.settings) else []
        cut = ["the answer reached its limit; --answer-tokens raises it"] * (result.finish_reason == "length")
        _show_notes([*ours, *_dropped_lines(result.dropped), *result.notes, *cut])


def _show_notes(lines: Sequence[str]) -> None:
    for line in lines:
        console.dim(f"note: {line}")


def _dropped_lines(dropped: Sequence[Drop]) -> list[str]:
    """One line for all that the context had no room for; what `item_words` shortened is the normal case."""
    left_out = sum(drop.what == "item" for drop in dropped)
    lines = [f"{left_out} of the retrieved items did not fit into the prompt"] if left_out else []
    return lines + [f"the request was shortened to {drop.kept} tokens" for drop in dropped if drop.what == "query"]


def _hit_records(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Retrieved items without their texts, which the profile holds."""
    return [
        {"id": h.item.id, "title": h.item.title, "date": h.item.date, "score": h.score, "parts": dict(h.parts)}
        for h in hits
    ]


def _plan_record(plan: Plan) -> dict[str, Any]:
    """What `--dry-run --json` prints."""
    return {
        "task": plan.task.name,
        "retriever": plan.settings.retriever,
        "layout": plan.settings.layout,
        "retrieved": _hit_records(plan.hits),
        "used": [hit.item.id for hit in plan.prompt.used],
        "dropped": plan.prompt.dropped,
        "turns": [{"role": turn.role, "text": turn.text} for turn in plan.prompt.turns],
        "tokens": plan.prompt.tokens,
        "reasoning_tokens": plan.reasoning_tokens,
        "answer_tokens": plan.answer_tokens,
        "notes": plan.notes,
    }


def _result_record(result: Result, query: str, draft: str) -> dict[str, Any]:
    """What `--json` prints; `draft` is the id that `prlm-edge accept` takes, "" where the draft is not kept."""
    names = "answer reasoning finish_reason reasoning_truncated request task retriever layout used dropped usage model"
    special = {"request": query, "used": _hit_records(result.used), "draft": draft}
    return {
        name: special[name] if name in special else getattr(result, name)
        for name in f"{names} notes select candidates draft".split()
    }


def _event_record(event: Event, query: str, draft: str) -> dict[str, Any]:
    """One line of `--jsonl`."""
    record: dict[str, Any] = {"type": event.type}
    if event.type in ("prefill", "candidate"):
        record |= {"done": event.done, "total": event.total}
    if event.type in ("reasoning", "answer", "candidate"):
        record["text"] = event.text
    elif event.type == "retrieved":
        record["hits"] = _hit_records(event.hits)
    elif event.prompt is not None:
        prompt = event.prompt
        record |= {"tokens": prompt.tokens, "used": [hit.item.id for hit in prompt.used], "dropped": prompt.dropped}
    elif event.result is not None:
        record |= _result_record(event.result, query, draft)
    return record
