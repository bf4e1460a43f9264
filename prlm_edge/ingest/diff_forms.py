"""Forms that a diff has beside the plain one: coloured, by words, or drawn for the eye by another program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from prlm_edge.errors import UsageError
from prlm_edge.ingest.diff_files import WORDS

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9])")
_COLOURED = re.compile(r"\x1b\[(?:[0-9;]*;)?3([12])m([^\x1b\n]+)\x1b\[0?m")  # red and green
_DRAWN = (
    ("difftastic", r"^\S.{0,300} --- (?:\d+/\d+ --- )?[A-Z][\w+#. ()/-]{0,30}\n(?: *\d+ |\s*\.+ )"),
    ("delta", r"^─{2,}[┐┘]$|^Δ \S.*\n─{10,}$"),
    ("diff-so-fancy", r"^─{10,}$\n(?:added|modified|deleted|renamed): .*\n─{10,}$"),
    ("jj", r"^(?:Modified|Added|Removed|Renamed) regular file .*:\n[ .]*\d+"),
    ("diff -c", r"^\*\*\* .*\n--- .*\n\*{15}$"),
    ("diff without -u", r"^\d+(?:,\d+)?[acd]\d+(?:,\d+)?\n[<>] "),
)


def without_colours(text: str) -> str:
    """`text` without the escape codes of terminals."""
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def with_marks(text: str) -> str:
    """`text` without colours, but with what is red as [-text-] and what is green as {+text+}."""
    return without_colours(_COLOURED.sub(lambda m: f"[-{m[2]}-]" if m[1] == "1" else f"{{+{m[2]}+}}", text))


def has_marks(text: str) -> bool:
    """Whether `text` has [-old-] or {+new+} in it."""
    return WORDS.search(text) is not None


def is_porcelain(text: str) -> bool:
    """Whether the hunks of `text` end as those of `git diff --word-diff=porcelain`, where "~" ends every line."""
    return re.search(r"^~\n(?:@@ -|diff --git |\Z)", text, re.MULTILINE) is not None


def from_porcelain(lines: Iterable[str]) -> Iterator[str]:
    """The lines of `git diff --word-diff=porcelain` as those of `--word-diff`: there every word has its own line."""
    inside = False
    pieces: list[str] = []
    for line in lines:
        inside = (inside or line.startswith("@@ -")) and not line.startswith("diff --git ")
        if not inside or line.startswith("@@ -"):
            yield line
        elif line == "~":
            yield "".join(pieces)
            pieces.clear()
        else:
            sign, text = line[:1], line[1:]
            pieces.append({"-": f"[-{text}-]", "+": f"{{+{text}+}}"}.get(sign, text))
    if pieces:
        yield "".join(pieces)


def refuse_others(text: str) -> None:
    """Do nothing unless `text`, which is without colours, is a diff that can't be read back.

    Raises:
        UsageError: It was drawn for the eye, or is no unified diff.
    """
    for name, form in _DRAWN:
        if re.search(form, text, re.MULTILINE):
            raise UsageError(f"a diff in the form of {name} can't be read", "pipe git diff --no-ext-diff, or diff -u")
