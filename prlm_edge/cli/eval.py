"""`prlm-edge eval`: does the profile help, does the reasoning, does the training, and how sure are we."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.interrupt import cancel_on_interrupt, command_line, stopped
from prlm_edge.cli.shared.options import JsonFlag, adds, new_app, setting_flags
from prlm_edge.cli.shared.progress import Update, no_update, progress
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import MissingError, UsageError
from prlm_edge.evaluate.records import QueryForm
from prlm_edge.settings import KEYS, flag, parse
from prlm_edge.types import Cancel

if TYPE_CHECKING:
    from prlm_edge.evaluate.ab import VoteResult
    from prlm_edge.evaluate.compare import Compared, Side
    from prlm_edge.evaluate.data import Dataset
    from prlm_edge.evaluate.run_folder import RunFolder
    from prlm_edge.evaluate.scoring import Estimates

app = new_app(help=VERBS["eval"], no_args_is_help=True)
SeenOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--seen", metavar="TRAIN", help="Also tables of users of its domains, and of others; may be repeated."
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]


@app.callback()
def _needs_packages() -> None:
    """Refuse to begin without the packages."""
    missing = [name for name in ("rouge_score", "sacrebleu", "jieba", "matplotlib") if not find_spec(name)]
    if missing:
        raise MissingError(f"evaluation needs {', '.join(missing)}", 'pip install "prlm-edge[eval]"')


@app.command(
    help="""Answer a data set under one condition or many, score the answers, show the table.

Values with commas make a grid: -k 2,4 -r bm25,dense are four conditions. Estimates start from prlm-edge's own
defaults, not from your config. Every answer is kept as it comes; the same command goes on where it was.

\b
A plan names its conditions:
  settings: {reasoning: "off"}
  conditions:
    zero-shot: {profile: none}
    turns: {k: 4}
  grid: {k: [1, 2, 8]}
"""
)
@adds("grid", setting_flags("k", "retriever", "reasoning", "model", "best_of", "select", several=True))
def run(
    grid: Mapping[str, str | None],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="JSON lines with user_id, query, target and profile.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The run's folder, new or to go on with.")],
    plan: Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="Estimates in YAML.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Users, drawn by --seed.")] = None,
    per_user: Annotated[int | None, typer.Option(min=1, help="Rows of each user.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw of users and of sampling.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="The task of rows that name none.")] = None,
    ask: Annotated[
        QueryForm | None,
        typer.Option(help="What of each row is asked with; by default its diff, else its text."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Whose past items: own, other, neighbour, none.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUES", help="Any other setting; may be repeated.")
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also the trivial baselines.")] = False,
    json: JsonFlag = False,
) -> None:
    """Answer, score and show."""
    from prlm_edge.evaluate import conditions as cond
    from prlm_edge.evaluate.provenance import header
    from prlm_edge.evaluate.run_folder import RunFolder
    from prlm_edge.evaluate.runner import answer_all

    read = cond.read_experiment(plan) if plan else None
    axes = _axes({**grid, "profile": profile}, set_ or [])
    chosen = [*(cond.baselines() if baselines else ()), *(read.conditions if read else ())]
    chosen += cond.product(axes) if axes or not read else ()
    asked = cond.unique(chosen)
    seed = seed if seed is not None else (read.seed if read else None) or 0
    limit = limit if limit is not None else read.limit if read else None
    source = {"path": str(data), "limit": limit, "per_user": per_user, "task": task, "ask": ask}
    with progress("reading the data", unit="rows") as update:
        data_set = _load(data, source, seed, update)
    if data_set.skipped:
        console.note(f"left out: {data_set.skipped} rows without {ask or 'query'} or target, or unreadable past items")
    folder = RunFolder.create(out, {**header(data_set, asked, seed, command_line()), "source": source})
    cancel = Cancel()
    with cancel_on_interrupt(cancel), progress("answering", unit="answers", at_once=True) as update:
        whole = answer_all(folder, data_set, asked, seed=seed, cancel=cancel, progress=update)
    if not whole:
        raise stopped()
    _score(folder.path, data_set, seed, None, json=json)


@app.command()
def score(
    run: RunArgument,
    data: Annotated[Path | None, typer.Option("--data", metavar="DATA", help="Where the data are now.")] = None,
    seen: SeenOption = None,
    json: JsonFlag = False,
) -> None:
    """Score a run again, whole or not: after an upgrade, or while it is still running."""
    from prlm_edge.evaluate.run_folder import RunFolder

    folder = RunFolder(run)
    source, seed = folder.source, int(folder.header["seed"])
    data_set = _load(data or Path(source["path"]), source, seed)
    if data_set.sha256 != folder.header["asked"]["data"]["sha256"]:
        raise UsageError(f"{data or source['path']}: not the data of this run", "name them with --data")
    _score(run, data_set, seed, seen, json=json)


@app.command()
def show(
    run: RunArgument,
    seen: SeenOption = None,
    json: JsonFlag = False,
    full: Annotated[bool, typer.Option("--full", help="All metrics, and users a minute.")] = False,
) -> None:
    """Show a run's table: a line a condition, means over users with 95% intervals."""
    from prlm_edge.evaluate.run_folder import RunFolder

    _show_run(RunFolder(run), seen, json=json, full=full)


def _sides(
    a: Annotated[str, typer.Argument(metavar="A", help="RUN:CONDITION, or a run with one condition.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same; :CONDITION alone means the run of A.")],
) -> tuple[Side, Side]:
    """The two conditions to compare."""
    from prlm_edge.evaluate.compare import side

    ours = side(a)
    return ours, side(f"{ours.run.path}{b}" if b.startswith(":") else b)


@app.command()
@adds("sides", _sides)
def compare(
    sides: tuple[Side, Side],
    metric: Annotated[list[str] | None, typer.Option("--metric", help="May be repeated.")] = None,
    json: JsonFlag = False,
) -> None:
    """Compare two conditions on the rows that both answered: paired bootstrap by user, wins, ties and losses."""
    from prlm_edge.evaluate.compare import compare as compare_scores

    ours, theirs = sides
    found = compare_scores(ours, theirs, metric or ())
    if json:
        console.emit_json({"a": ours.name, "b": theirs.name, "metrics": found})
    else:
        _show_differences(ours.name, theirs.name, found)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, one data set each.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The HTML file.")] = Path("report.html"),
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Also the tables, as Markdown.")
    ] = None,
    title: Annotated[str, typer.Option(help="The page's title.")] = "Evaluation",
    seen: SeenOption = None,
    no_examples: Annotated[
        bool, typer.Option("--no-examples", help="Leave out what users wrote: figures only, to be shared.")
    ] = False,
) -> None:
    """Write one HTML file that needs no network: tables, plots, examples, what went wrong."""
    from prlm_edge.evaluate.report import markdown_tables, write_report
    from prlm_edge.evaluate.run_folder import RunFolder

    folders = [RunFolder(path) for path in runs]
    domains = _domains(seen)
    write_report(folders, out, title=title, examples=not no_examples, seen=domains)
    if markdown:
        from prlm_edge.storage import atomic_write

        with atomic_write(markdown) as stream:
            stream.write(markdown_tables(folders, domains).encode())
    console.note(f"wrote {out}")


@app.command()
@adds("sides", _sides)
def ab(
    sides: tuple[Side, Side],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Votes, new or to go on with.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Pairs to judge.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of pairs and sides.")] = 0,
    show: Annotated[bool, typer.Option("--show", help="Only the result of the votes so far.")] = False,
) -> None:
    """Judge two conditions blind, in a page on this machine: which answer would you rather send?"""
    from prlm_edge.evaluate.ab import Votes, pairs, serve

    ours, theirs = sides
    votes = Votes(out, ours.name, theirs.name, pairs(ours, theirs, seed=seed, limit=limit))
    if not show:
        serve(votes, port=port, on_ready=lambda url: console.note(f"open {url}   (Ctrl-C when done)"))
    _show_votes(votes.result())


def _axes(flags: Mapping[str, str | None], pairs: Sequence[str]) -> dict[str, list[Any]]:
    """Values by setting, in the order given."""
    axes = {key: _values(key, value) for key, value in flags.items() if value is not None}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: not of the form KEY=VALUES", "such as --set item_words=20,60")
        key = key.strip().replace("-", "_")
        if key in axes:
            raise UsageError(f"--set {pair}: {key} is given twice", "give all its values at once")
        axes[key] = _values(key, value)
    return axes


def _values(key: str, text: str) -> list[Any]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise UsageError(f"{key}: no value", f"such as {flag(key)} 4")
    return [parse(key, part, key) if key in KEYS else part for part in parts]


def _load(path: Path, source: Mapping[str, Any], seed: int, update: Update = no_update) -> Dataset:
    """What was or is to be taken of the file at `path`, by the names of `RunFolder.source`."""
    from prlm_edge.evaluate.data import load

    options = {key: source[key] for key in ("limit", "per_user", "task")}
    asks = [source["ask"]] if source["ask"] else []
    return load(path, **options, asks=asks, seed=seed, on_progress=update)


def _domains(seen: Sequence[Path] | None) -> frozenset[str]:
    from prlm_edge.evaluate.data import domains

    return domains(seen or ())


def _score(path: Path, data_set: Dataset, seed: int, seen: Sequence[Path] | None, *, json: bool) -> None:
    from prlm_edge.evaluate.run_folder import RunFolder
    from prlm_edge.evaluate.scoring import score_run

    with progress("scoring", unit="answers") as update:
        score_run(RunFolder(path), data_set, seed=seed, progress=update)
    _show_run(RunFolder(path), seen, json=json)


def _show_run(run: RunFolder, seen: Sequence[Path] | None, *, json: bool, full: bool = False) -> None:
    """A line a condition; the headline metrics, or all of them. With `seen`, users of other domains apart."""
    from prlm_edge.evaluate.scoring import by_domain, most_users

    summary = run.summary()
    groups = by_domain(run, _domains(seen)) if seen else {}
    if json:
        console.emit_json({**summary, "groups": groups} if seen else summary)
        return
    for name, conditions in {"users": summary["conditions"], **groups}.items():
        label = name if name == "users" else f"\nusers of {name}"
        console.out(f"{label}: {most_users(conditions)}; ± half of a 95% interval by user\n")
        _show_table(conditions, summary["users_per_minute"] if full else None)
    for one in summary["signatures"]:
        if _runs_a_model(one["condition"], summary):
            console.note(f"{one['condition']}: {one['name']} ({one['share']:.0%}): {one['advice']}")


def _show_table(conditions: Estimates, speeds: Mapping[str, float] | None = None) -> None:
    """The headline metrics, which fit into 100 columns; with `speeds`, users a minute by condition, all metrics."""
    from prlm_edge.evaluate.metrics import METRICS, cell
    from prlm_edge.evaluate.scoring import most_users

    names = [name for name, metric in METRICS.items() if speeds is not None or metric.headline]
    names = [name for name in names if any(name in found for found in conditions.values())]
    rows = [["CONDITION", *(name.upper() for name in names), "PROMPT", *([] if speeds is None else ["USERS/MIN"])]]
    most = most_users(conditions)
    for condition, found in conditions.items():
        n_users = most_users({condition: found})
        label = condition if n_users == most else f"{condition} (users: {n_users})"
        tokens = found.get("prompt_tokens", {}).get("mean", 0)
        cells = [label, *(cell(name, found.get(name)) for name in names), f"{tokens:.0f}" if tokens else ""]
        if speeds is not None:
            cells.append(f"{speeds[condition]:.1f}" if condition in speeds else "")
        rows.append(cells)
    console.table(rows, right=range(1, len(rows[0])))


def _runs_a_model(name: str, summary: Mapping[str, Any]) -> bool:
    """Whether a condition asked a model; a trivial baseline needs no advice."""
    return bool(summary["conditions"].get(name, {}).get("prompt_tokens", {}).get("mean"))


def _show_differences(a: str, b: str, found: Sequence[Compared]) -> None:
    """A line a metric."""
    console.out(f"A  {a}\nB  {b}\n")
    rows = [["METRIC", "A", "B", "B - A", "95%", "P", "WIN/TIE/LOSS", "USERS"]]
    for one in found:
        d = one.difference
        sign = "" if d.low <= 0 <= d.high or not one.better else "better" if d.mean * one.better > 0 else "worse"
        interval = f"[{d.low:+.3f}, {d.high:+.3f}] {sign}".rstrip()
        counts = f"{d.wins}/{d.ties}/{d.losses}"
        p = f"{d.p:.4f}" if d.p >= 0.001 else "<.001"
        rows.append([one.metric, f"{d.a:.3f}", f"{d.b:.3f}", f"{d.mean:+.3f}", interval, p, counts, str(d.n_users)])
    console.table(rows, right=(1, 2, 3, 5, 6, 7))


def _show_votes(result: VoteResult) -> None:
    """What people preferred."""
    if not result.n:
        console.out("no votes yet")
        return
    rate = f"{result.win_rate:.0%} [{result.low:.0%}, {result.high:.0%}]"
    console.out(f"{result.b} preferred: {rate} of {result.n} pairs, ties counted half")
    console.out(f"wins {result.wins_b}, ties {result.ties}, losses {result.wins_a}, against {result.a}")
    if result.equal:
        console.note(f"{result.equal} pairs were equal and not shown")
