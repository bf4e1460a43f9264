"""What one `generate` costs in steps and not in seconds: Python calls, files, tokenizer calls, nested generators.

    python benchmarks/calls.py [PROFILE] [--query TEXT] [--set reasoning=hide]

The figures are the same on a busy machine as on a calm one. "tokenized" is the number of tokens that were made of texts
for the request, over those of the prompt. The first request also builds the index and compiles the chat template.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from _common import ROOT

from prlm_edge import Writer

_GENERATOR = 0x20  # of a code object's flags


class Counts:
    """What happened in between."""

    def __init__(self) -> None:
        self.calls = self.ours = self.tokenizer_calls = self.tokens = self.deepest = 0
        self.files: set[str] = set()

    def see(self, frame: FrameType, event: str, _: Any) -> None:
        """A profile function for `sys.setprofile`."""
        if event != "call":
            return
        self.calls += 1
        name = frame.f_code.co_filename
        self.files.add(name)
        self.ours += "prlm_edge" in name
        depth, outer = 0, frame if frame.f_code.co_flags & _GENERATOR else None
        while outer is not None:
            depth += bool(outer.f_code.co_flags & _GENERATOR)
            outer = outer.f_back
        self.deepest = max(self.deepest, depth)

    @contextmanager
    def watching(self, vocab: Any) -> Iterator[None]:
        """Count all calls, and what goes through `vocab`'s tokenizer."""
        inner = vocab._tokenize  # the one place where a text becomes tokens

        def tokenize(*args: Any, **options: Any) -> list[int]:
            found: list[int] = inner(*args, **options)
            self.tokenizer_calls += 1
            self.tokens += len(found)
            return found

        vocab._tokenize = tokenize
        sys.setprofile(self.see)
        try:
            yield
        finally:
            sys.setprofile(None)
            vocab._tokenize = inner


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("profile", nargs="?", default=str(ROOT / "examples" / "me.jsonl"))
    options.add_argument("--query", default="title for my post on winter sourdough")
    options.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    args = options.parse_args()
    chosen = dict(one.split("=", 1) for one in args.set)
    asked = {"first": "title for a note on rye bread", "another": args.query, "the same again": args.query}
    with Writer.open(args.profile, **{key: int(v) if v.isdigit() else v for key, v in chosen.items()}) as writer:
        backend: Any = writer.load()
        for name, query in asked.items():
            counts = Counts()
            with counts.watching(backend._vocab):
                usage = writer.generate(query).usage
            print(
                f"{name}: {counts.calls} Python calls ({counts.ours} of prlm-edge) in {len(counts.files)} files, "
                f"{counts.tokenizer_calls} tokenizer calls, tokenized {counts.tokens / usage.prompt_tokens:.2f}, "
                f"{counts.deepest} nested generators; prompt {usage.prompt_tokens} tokens, "
                f"drawn {usage.reasoning_tokens + usage.answer_tokens}"
            )


if __name__ == "__main__":
    main()
