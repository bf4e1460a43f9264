"""What training changes: the default model as it was pulled and with its adapter, side by side, for Maren's posts.

    python examples/demo.py ["title for my post on winter sourdough" ...] [--adapter runs/mine/adapter.gguf]

The two columns are what `prlm-edge generate --base` and `prlm-edge generate` answer, with the example profile. Then one
of the requests with the model's reasoning and the past items that it was shown.
"""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from prlm_edge import Writer
from prlm_edge.errors import MissingError, PrlmError
from prlm_edge.models.adapters import NONE, ours_for

PROFILE = Path(__file__).with_name("me.jsonl")
DRAFT = Path(__file__).with_name("draft.md")
REQUESTS = (
    f"title for: {DRAFT.read_text('utf-8')}",
    "title for my post on winter sourdough",
    "title for a talk about repairing old radios at the library",
    "title for my post on the first frost on the allotment",
    "headline for: the library stays open on Sundays from May",
)
WIDEST = 120
LONGEST = 90  # characters shown of a request


def main() -> None:
    """Print the table, a request at a time."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("requests", nargs="*", metavar="REQUEST", help="by default four about what Maren writes of")
    options.add_argument("--adapter", type=Path, help="instead of the one that comes with prlm-edge")
    options.add_argument("--model", default="default", help="the model that it was trained over")
    args = options.parse_args()
    try:
        compare(args.requests or REQUESTS, args.model, args.adapter)
    except PrlmError as error:
        sys.exit(f"{error.message}: {error.hint}")


def compare(requests: Sequence[str], model: str, adapter: Path | None) -> None:
    """Answer each of `requests` with `model` alone and under `adapter`, by default the one that comes with it.

    Raises:
        MissingError: No adapter there, or the model isn't pulled.
        ModelError: The adapter is of another model.
    """
    if not (adapter.is_file() if adapter else ours_for(model)):
        raise MissingError(f"{adapter or model}: no trained adapter there", "name one: --adapter RUN/adapter.gguf")
    base = Writer.open(PROFILE, model=model, adapter=NONE)
    trained = Writer.open(PROFILE, model=model, adapter=adapter and str(adapter))
    with base, trained:
        base.load()
        trained.load()
        show("asked for", "base", "trained")
        show(*["-" * column_width()] * 3)
        for request in requests:
            asked = request if len(request) < LONGEST else f"{request[:LONGEST].rpartition(' ')[0]} ..."
            show(asked, *(writer.generate(request).answer for writer in (base, trained)))
            print()
        explain(trained, (requests[1:] or requests)[0])


def explain(writer: Writer, request: str) -> None:
    """Print the answer to `request` with its reasoning before it, and the past items that were used."""
    result = writer.generate(request, reasoning="show")
    titles = [hit.item.title for hit in result.used]
    for name, text in (
        ("asked for", request),
        ("reasoning", result.reasoning),
        ("title", result.answer),
        ("used", "; ".join(titles)),
    ):
        print(textwrap.fill(f"{name + ':':<11}{text}", 3 * column_width() + 4, subsequent_indent=" " * 11))


def show(*cells: str) -> None:
    """Print one row of the table, its cells wrapped."""
    width = column_width()
    wrapped = [textwrap.wrap("".join(c if c.isprintable() else " " for c in cell), width) for cell in cells]
    for parts in zip_longest(*wrapped, fillvalue=""):
        print("  ".join(part.ljust(width) for part in parts).rstrip(), flush=True)


def column_width() -> int:
    """Of each of the three columns, two spaces apart."""
    return (min(shutil.get_terminal_size((100, 0)).columns, WIDEST) - 4) // 3


if __name__ == "__main__":
    main()
