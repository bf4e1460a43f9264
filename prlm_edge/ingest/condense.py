"""What a change is, in few tokens: its lines where they are few; else where it is, which words became which, and more.

A large diff says much twice: a line in which one word changes stands there as removed and as added, and a new name as
often as it is used. Here such a pair is one line, `color: [red -> blue];`, and what recurs stands once with its count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise, zip_longest

from prlm_edge.ingest.diff_files import MAX_LINE_CHARS, FileChange

MAX_PLACES = 3  # functions that are named
MAX_SWAPS = 8
_AROUND = 24  # characters of a line shown on each side of what changed in it
_WIDE = 12  # tokens between the first and the last change in a line from which they are shown apart
_ALIKE = 0.49  # two lines that share more of their tokens than this are one line, changed
_NEAR = 8  # added lines that a removed one is compared with
_MAX_LINES = 400  # of all files together
_MAX_PLACE_CHARS, _MAX_LINE_CHARS, _MAX_SWAP_CHARS, _MAX_WHOLE_CHARS = 60, 90, 160, 160
_SWAP_SHARE = 0.7  # of the room may be swaps

_TOKEN = re.compile(r"[^\W_][\w-]*|\w+|[^\w\s]")
_BODY_BEGINS = re.compile(r"\s*[{(:].*$")
_GENERATED = re.compile(r"(\.lock|-lock\.(json|yaml)|\.min\.(js|css)|\.map|\.svg|go\.sum|\.snap|\.po)$")
_DULL = re.compile(r"(import|from \S+ import|#include|#!|using|package|use|require|export \* from)\b")
_PROSE = re.compile(r"\.(md|rst|txt|adoc|html?|tex)$", re.IGNORECASE)
_COMMENT = re.compile(r"#|//|/\*|\*|--|;|%|<!--|\"\"\"")
_DEFINES = re.compile(
    r"(?:def|class|func|function|fn|pub|impl|struct|enum|interface|type|module|export|describe|it|test|public|private"
    r"|static|async|sub|trait|macro)\b"
)
_STRING = re.compile(r"['\"][^'\"]{8,}['\"]")
_WORDS = re.compile(r"\w{3,}")


@dataclass(frozen=True)
class Swap:
    """What became what, the text on both sides of it, and the whole line."""

    left: str
    old: str
    new: str
    right: str
    line: str


@dataclass
class _Edits:
    """What a file's hunks do: words swapped in lines that stayed, and the lines, signed, that came or went."""

    swaps: list[Swap] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def shown_names(files: Sequence[FileChange]) -> list[str]:
    """The names of `files`, with what happened to them, without a folder that is that of the file before.

    Example: ["src/a.py", "b.py (new)", "tests/test_a.py"].
    """
    names = []
    folder = ""
    for file in {file.name: file for file in files}.values():
        before, folder = folder, file.path.rpartition("/")[0]
        names.append(file.name[len(folder) + 1 :] if folder and folder == before else file.name)
    return names


def account(files: Sequence[FileChange], n_chars: int) -> str:
    """What changed in `files`, in at most `n_chars` characters; "" where there is nothing to show.

    Files get equal shares. Generated files count only where there are no others, imports only where there is room.
    """
    sources = [file for file in files if file.lines and not _GENERATED.search(file.path)]
    sources = sources or [file for file in files if file.lines]
    if whole := _whole(sources, n_chars):
        return "\n".join(whole)
    places = list(dict.fromkeys(_place(text) for file in sources for _, text in file.hunks if _is_place(file, text)))
    parts = [f"In: {', '.join(places[:MAX_PLACES])}"] if places else []
    parts += _condensed(sources, n_chars - sum(len(part) + 1 for part in parts))
    return "\n".join(parts or [line for file in sources for line in file.lines[:2]][:4])[:n_chars].rstrip()


def _whole(files: Sequence[FileChange], room: int) -> list[str]:
    """All changed lines but imports, if `room` characters hold them; else none."""
    lines = []
    for file in files:
        for line in file.lines:
            if not _DULL.match(line[2:]):
                lines.append(line[:_MAX_WHOLE_CHARS])
                room -= len(lines[-1]) + 1
                if room < -1:
                    return []
    return lines


def _condensed(files: Sequence[FileChange], room: int) -> list[str]:
    """Swaps, those that recur most first, and the lines that tell most."""
    edits = [_edits(file, max(_MAX_LINES // len(files), 1)) for file in files]
    parts: list[str] = []
    for line in _swap_lines(edits)[:MAX_SWAPS]:
        if sum(map(len, parts)) + len(line) > room * _SWAP_SHARE:
            break
        parts.append(line)
    return parts + _pick([file.lines for file in edits], room - sum(len(part) + 1 for part in parts))


def _is_place(file: FileChange, text: str) -> bool:
    """Whether a hunk's header names a function or the like: in prose it is a line of the text, or an import."""
    return bool(text) and not _PROSE.search(file.path) and not _DULL.match(text)


def _place(text: str) -> str:
    """What a hunk's header names, without the beginning of a body where it is long."""
    return (_BODY_BEGINS.sub("", text) if len(text) > _MAX_PLACE_CHARS * 2 // 3 else text)[:_MAX_PLACE_CHARS]


def _edits(file: FileChange, n_lines: int) -> _Edits:
    found = _Edits()
    starts = [0, *(start for start, _ in file.hunks), len(file.lines)]
    for start, end in pairwise(starts):
        for old, new in _runs(file.lines[start : min(end, n_lines)]):
            _compare(old, new, found)
    return found


def _runs(lines: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Runs of removed lines, each with the run of added lines behind it; either may be empty."""
    old: list[str] = []
    new: list[str] = []
    for line in lines:
        if line[0] == "-" and new:
            yield old, new
            old, new = [], []
        (new if line[0] == "+" else old).append(line[2:])
    if old or new:
        yield old, new


def _compare(old: Sequence[str], new: Sequence[str], found: _Edits) -> None:
    """Add to `found` what made `old` into `new`."""
    left = dict(enumerate(new))  # added lines that are no removed line's other half yet
    tokens = [_TOKEN.findall(text) for text in new]
    for i, text in enumerate(old):
        matcher = SequenceMatcher(None, b=_TOKEN.findall(text), autojunk=False)
        best, best_ratio = -1, _ALIKE
        for j in sorted(left, key=lambda j: abs(j - i))[:_NEAR]:
            matcher.set_seq1(tokens[j])
            # the two quick ones are upper bounds
            bound = min(matcher.real_quick_ratio(), matcher.quick_ratio())
            if bound > best_ratio and (ratio := matcher.ratio()) > best_ratio:
                best, best_ratio = j, ratio
        if best < 0:
            found.lines.append(f"- {text}")
            continue
        matcher.set_seq1(tokens[best])
        found.swaps += _swaps(text, left.pop(best), [op[1:] for op in matcher.get_opcodes() if op[0] != "equal"])
    found.lines += [f"+ {text}" for text in left.values()]


def _swaps(old: str, new: str, changes: Sequence[tuple[int, int, int, int]]) -> Iterator[Swap]:
    """What changed in a line: one swap from the first to the last change, or two where they are far apart.

    Args:
        old: The line before.
        new: The line after.
        changes: Ranges of tokens, of `new` and then of `old`, that differ.
    """
    if not changes:
        return
    first, last = changes[0], changes[-1]
    if max(last[1] - first[0], last[3] - first[2]) <= _WIDE:
        changes = [(first[0], last[1], first[2], last[3])]
    news, olds = ([match.span() for match in _TOKEN.finditer(text)] for text in (new, old))
    cut = min(len(old), len(new)) >= MAX_LINE_CHARS  # then the ends differ by where the lines were cut
    for a, b, c, d in changes[:2]:
        if cut and (b == len(news) or d == len(olds)):
            continue
        start = news[a][0] if a < len(news) else len(new)
        end = news[b - 1][1] if b > a else start
        gone = old[olds[c][0] : olds[d - 1][1]] if d > c else ""
        if any(c.isalnum() for c in gone + new[start:end]):
            yield Swap(_tail(new[:start]), gone, new[start:end], _head(new[end:]), new)


def _tail(text: str) -> str:
    """The end of `text`, from the beginning of a word where it has one."""
    return text if len(text) <= _AROUND else (text[-_AROUND:].partition(" ")[2] or text[-_AROUND:])


def _head(text: str) -> str:
    return text if len(text) <= _AROUND else (text[:_AROUND].rpartition(" ")[0] or text[:_AROUND])


def _swap_lines(edits: Sequence[_Edits]) -> list[str]:
    """The swaps, those that recur most first and those of imports last, each shown where it comes first."""
    seen: dict[tuple[str, str], list[Swap]] = {}
    for file in edits:
        for swap in file.swaps:
            seen.setdefault((swap.old, swap.new), []).append(swap)
    lines = []
    for swaps in sorted(seen.values(), key=lambda swaps: (_DULL.match(swaps[0].line) is not None, -len(swaps))):
        one, n = swaps[0], len(swaps)
        times = f" ({n} times)" if n > 1 else ""
        lines.append(f"{one.left}[{one.old} -> {one.new}]{one.right}"[:_MAX_SWAP_CHARS] + times)
    return lines


def _pick(files: Sequence[Sequence[str]], room: int) -> list[str]:
    """The lines that tell most, as many as `room` characters hold, in their order; files take turns."""
    ranked = [sorted(enumerate(dict.fromkeys(lines)), key=lambda one: -_telling(one[1])) for lines in files]
    chosen: list[tuple[int, int, str]] = []
    for turn in zip_longest(*ranked):
        for file, one in enumerate(turn):
            line = one[1][:_MAX_LINE_CHARS] if one else ""
            if one and len(line) < room:
                room -= len(line) + 1
                chosen.append((file, one[0], line))
        if room < _MAX_LINE_CHARS // 4:
            break
    return [line for _, _, line in sorted(chosen)]


def _telling(line: str) -> int:
    """How much a signed line says of what a change is for: comments, definitions and strings say most."""
    text = line[2:]
    score = 2 * bool(_COMMENT.match(text)) + 2 * bool(_DEFINES.match(text)) + bool(_STRING.search(text))
    return score - 3 * bool(_DULL.match(text)) - (len(_WORDS.findall(text)) < 2)
