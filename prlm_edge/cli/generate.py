"""`prlm-edge generate`: write in your own voice. The answer alone on stdout; reasoning, progress and notes on stderr.

How an answer comes about is `prlm_edge.writer`; what the options mean is `prlm_edge.settings`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prlm_edge.cli import EXIT_INTERRUPTED
from prlm_edge.cli._generate_show import Show, dropped_lines, show_notes
from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.records import plan_record
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import UsageError
from prlm_edge.models.bundled import NONE
from prlm_edge.settings import KEYS

if TYPE_CHECKING:
    from prlm_edge.writer import Writer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _choices(key: str) -> Any:
    """Complete the values of a setting that has a fixed set of them."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in KEYS[key].choices if choice.startswith(incomplete)]

    return complete


def _help(key: str, more: str = "") -> str:
    spec = KEYS[key]
    choices = f" ({', '.join(spec.choices)})" if spec.choices else ""
    return spec.about[:1].upper() + spec.about[1:] + choices + more + "."


@app.command(
    help=f"""{VERBS["generate"].help}

REQUEST is what you want written, such as "title for my post on winter sourdough". "-" stands for what is piped in:

\b
git diff --staged | prlm-edge generate --user me.jsonl --task commit -

Options that are not given come from the settings (`prlm-edge config show`).
"""
)
def generate(
    request: Annotated[
        list[str] | None,
        typer.Argument(metavar="REQUEST", help="What to write; - reads standard input.", show_default=False),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="The profile: your past writing, a JSONL file.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="What kind of text; `prlm-edge task list` names them.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help=_help("model"))] = None,
    adapter: Annotated[str | None, typer.Option(help=_help("adapter"))] = None,
    base: Annotated[
        bool, typer.Option("--base", help="Without the adapter that comes with prlm-edge: the model as it was pulled.")
    ] = False,
    k: Annotated[int | None, typer.Option("-k", help=_help("k"))] = None,
    retriever: Annotated[
        str | None, typer.Option("--retriever", "-r", help=_help("retriever"), autocompletion=_choices("retriever"))
    ] = None,
    reasoning: Annotated[
        str | None, typer.Option(help=_help("reasoning"), autocompletion=_choices("reasoning"))
    ] = None,
    layout: Annotated[str | None, typer.Option(help=_help("layout"), autocompletion=_choices("layout"))] = None,
    reasoning_tokens: Annotated[int | None, typer.Option(help=_help("reasoning_tokens"))] = None,
    answer_tokens: Annotated[int | None, typer.Option(help=_help("answer_tokens"))] = None,
    item_words: Annotated[int | None, typer.Option(help=_help("item_words"))] = None,
    item_order: Annotated[
        str | None, typer.Option(help=_help("item_order"), autocompletion=_choices("item_order"))
    ] = None,
    temperature: Annotated[float | None, typer.Option(help=_help("temperature"))] = None,
    top_k: Annotated[int | None, typer.Option(help=_help("top_k"))] = None,
    top_p: Annotated[float | None, typer.Option(help=_help("top_p"))] = None,
    min_p: Annotated[float | None, typer.Option(help=_help("min_p"))] = None,
    repeat_penalty: Annotated[float | None, typer.Option(help=_help("repeat_penalty"))] = None,
    seed: Annotated[int | None, typer.Option(help=_help("seed"))] = None,
    best_of: Annotated[int | None, typer.Option(help=_help("best_of"))] = None,
    select: Annotated[str | None, typer.Option(help=_help("select"), autocompletion=_choices("select"))] = None,
    reward_model: Annotated[str | None, typer.Option(metavar="DIR", help=_help("reward_model"))] = None,
    blend_weights: Annotated[str | None, typer.Option(metavar="FILE", help=_help("blend_weights"))] = None,
    threads: Annotated[int | None, typer.Option(help=_help("threads"))] = None,
    n_ctx: Annotated[int | None, typer.Option(help=_help("n_ctx"))] = None,
    prefix_cache: Annotated[
        str | None, typer.Option(help=_help("prefix_cache"), autocompletion=_choices("prefix_cache"))
    ] = None,
    base_url: Annotated[str | None, typer.Option(help=_help("base_url"))] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings, over your own.")] = None,
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
        raise UsageError(
            "--json and --jsonl exclude each other", "--json prints once at the end, --jsonl as it happens"
        )
    names = (
        "task model adapter k retriever reasoning layout reasoning_tokens answer_tokens item_words "
        "item_order temperature top_k top_p min_p repeat_penalty seed best_of select reward_model blend_weights "
        "threads n_ctx prefix_cache base_url"
    )
    given = locals()
    flags = {name: given[name] for name in names.split()}
    if base:
        if adapter is not None:
            raise UsageError("--base and --adapter exclude each other", "leave one of them out")
        flags["adapter"] = NONE
    query = _read_request(request or [])
    from prlm_edge.writer import Writer

    with Writer.open(user, config=config, **flags) as writer:
        if dry_run:
            _dry_run(writer, query, as_json=json or jsonl)
            return
        show = Show(writer, quiet=quiet, json=json, jsonl=jsonl)
        cancelled = show.run(query)
    if cancelled:
        raise typer.Exit(EXIT_INTERRUPTED)


def _read_request(words: Sequence[str]) -> str:
    """The request: the arguments, with "-" replaced by standard input, which is also read when there are none."""
    if not words and not sys.stdin.isatty():
        words = ["-"]
    if not words:
        raise UsageError("no request", 'say what to write: prlm-edge generate "title for my post on ..."')
    piped = sys.stdin.buffer.read().decode("utf-8", "replace").strip() if "-" in words else ""
    parts = [piped if word == "-" else word for word in words]
    return ("\n" if piped else " ").join(part for part in parts if part)


def _dry_run(writer: Writer, query: str, *, as_json: bool) -> None:
    plan = writer.plan(query)
    if as_json:
        _console.emit_json(plan_record(plan))
        return
    for hit in plan.hits:
        _console.out(f"{hit.score:8.3f}  {hit.item.id}  {hit.item.title or hit.item.text[:60]}")
    for turn in plan.prompt.turns:
        _console.out(f"\n--- {turn.role}\n{turn.text}")
    _console.out(f"\n--- {plan.prompt.tokens} tokens, task {plan.task.name}")
    show_notes(dropped_lines(plan.prompt.dropped) + list(plan.notes))
