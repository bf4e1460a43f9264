"""The verbs and their one-line help as plain data, so that `prlm-edge --help` imports nothing else.

A verb is the module or package of its name in `prlm_edge.cli`, with an `app: typer.Typer`. Tests hold the table to
those modules and their help.
"""

from __future__ import annotations

PROG = "prlm-edge"
COMPLETE_VAR = "_PRLM_EDGE_COMPLETE"  # the environment variable that completion scripts set

VERBS = {
    "generate": "Write a title, a subject or any short text in your own voice.",
    "accept": "Keep what you made of an answer in your profile: changed, it shows how you write.",
    "search": "Show the items of a profile that fit a query, best first.",
    "profile": "Keep your profile: add, import, list, show, stats, verify, repair, rm.",
    "style": "See, use and cross out your habits: show, check, export, cross-out, restore.",
    "model": "Fetch, check and install models: list, pull, path, verify, rm, install, bake.",
    "task": "See the tasks and make your own: list, show, which, init.",
    "config": "Show and change settings: show, path, set, unset, init.",
    "cache": "See and delete caches, which make requests quick: show, clear.",
    "eval": "Measure models on personalized data: run, score, show, compare, report, ab.",
    "train": "Train a model: recipes, reasons, warmstart, reward, blend, rejection, grpo, report.",
    "export": "Turn a trained run into files that a laptop loads: gguf, adapter, onnx, embedder.",
    "doctor": "Say what is installed, what is missing, and the command that mends it.",
    "completion": "Print the completion script of bash, zsh, fish or powershell.",
}


def help_text() -> str:
    """What `prlm-edge --help` prints, without the final line break."""
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {name:<{width}}{about}" for name, about in VERBS.items())
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


def version() -> str:
    """The version that is installed."""
    from importlib import metadata

    try:
        return metadata.version(PROG)
    except metadata.PackageNotFoundError:  # a source tree that is only on PYTHONPATH
        return "(not installed)"
