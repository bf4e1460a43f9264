"""The verbs and their one-line help as plain data, so that `prlm-edge --help` imports nothing else.

Not here: any option of a verb; those are in the verb's own module. A test holds each line to that module's own help.
"""

from __future__ import annotations

from typing import NamedTuple

PROG = "prlm-edge"


class Verb(NamedTuple):
    """Where a verb lives (a module with `app: typer.Typer`) and the line that `--help` shows for it."""

    module: str
    help: str


VERBS: dict[str, Verb] = {
    "generate": Verb("prlm_edge.cli.generate", "Write a title, a subject or any short text in your own voice."),
    "search": Verb("prlm_edge.cli.search", "Show the items of a profile that fit a query, best first."),
    "profile": Verb(
        "prlm_edge.cli.profile.command", "Keep your profile: add, import, list, show, stats, verify, repair, rm."
    ),
    "model": Verb(
        "prlm_edge.cli.model", "Fetch, check and install models: list, pull, path, verify, rm, install, bake."
    ),
    "task": Verb("prlm_edge.cli.task", "See the tasks and make your own: list, show, which, init."),
    "config": Verb("prlm_edge.cli.config", "Show and change settings: show, path, set, unset, init."),
    "cache": Verb("prlm_edge.cli.cache", "See and delete what is kept to be quick: show, clear."),
    "eval": Verb("prlm_edge.cli.eval", "Measure models on personalized data: run, score, show, compare, report, ab."),
    "train": Verb(
        "prlm_edge.cli.train.command",
        "Train a model on writing: recipes, warmstart, reward, blend, rejection, grpo, report.",
    ),
    "export": Verb(
        "prlm_edge.cli.export", "Turn a trained run into files that a laptop loads: gguf, adapter, onnx, embedder."
    ),
    "doctor": Verb(
        "prlm_edge.cli.doctor.command", "Say what is installed, what is missing, and the command that mends it."
    ),
    "completion": Verb("prlm_edge.cli.completion", "Print the completion script of bash, zsh, fish or powershell."),
}


def help_text() -> str:
    """What `prlm-edge --help` prints, without the final line break."""
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {name:<{width}}{verb.help}" for name, verb in VERBS.items())
    return f"""Usage: {PROG} COMMAND [OPTIONS] [ARGS]...

  Write in your own voice, on your own laptop: your past writing, a small
  language model, no network.

Commands:
{verbs}

Options:
  -h, --help  Show this message and exit.
  --version   Show the version and exit.

Start with:
  {PROG} model pull
  {PROG} generate --user me.jsonl "title for my post on winter sourdough"

'{PROG} COMMAND --help' shows a command's options."""
