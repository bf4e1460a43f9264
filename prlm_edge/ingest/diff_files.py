"""The changed files of a unified diff: what git, Mercurial, Subversion and `diff -u` write."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from prlm_edge.ingest.message import redact

MAX_LINE_CHARS = 400  # of a changed line
_READ_CHARS = 8192  # of a line; more than is kept, so that no part of an e-mail address stands at its end
_KEPT_LINES = 200  # per file, before the fair choice among files
_KEPT_FILES = 500  # whose lines are kept; of others only names and counts
_MAX_HEADER_CHARS = 8192  # of a header line whose two names are told apart at every blank

_HUNK = re.compile(r"(@@@*)((?: -\d+(?:,\d+)?)+) \+(\d+(?:,\d+)?) \1(?!@)")
_MODE = re.compile(r"(old|new|deleted) (?:file )?mode (?:\d+,)*(\d+)")
_BINARY = re.compile(r"Binary files (.+) and (.+) differ$|Binary file (.+) has changed$")
_SUBMODULE = re.compile(
    r"Submodule (.+?) (?:([0-9a-f]{7,})\.{2,3}([0-9a-f]{7,})(?: \((.*)\))?:?|contains (?:un|mod).*)"
)
_BAZAAR = re.compile(r"=== (added|removed|renamed|modified) (?:file|directory|symlink) '(.*?)'(?: => '(.*)')?")
_STATUS = {"added": "new", "removed": "deleted", "new submodule": "new", "submodule deleted": "deleted"}
_POINTER = re.compile(r"Subproject commit [0-9a-f]{7,}(-dirty)?")
_NO_FILE = re.compile(r"\((?:nonexistent|revision 0)\)")  # a side that isn't there; GNU diff gives it no date:
_NO_DATE = re.compile(r"\t(?:1970-01-01|1969-12-31) ")
_REVISION = re.compile(r" +\((?:revision \d+|working copy|nonexistent)\)$")
_NEXT = ("diff ", "Index: ", "@@", "Submodule ", "From ", "commit ")  # what may follow a hunk that is cut off
_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "a": b"\a", "b": b"\b", "f": b"\f", "v": b"\v"}
WORDS = re.compile(r"(\[-(?:(?!\[-).)*?-\])|(\{\+(?:(?!\{\+).)*?\+\})")
"""What `git diff --word-diff` writes for old and new words."""


@dataclass
class FileChange:
    """A changed file.

    Attributes:
        path: Its path.
        lines: Its first changed lines, each beginning with + or -, without e-mail addresses.
        kinds: What happened beside changed lines, such as "new", "deleted", "renamed from old.txt", "binary".
        hunks: For each hunk the place in `lines` where it begins, and what its header says behind the second "@@":
            mostly the function that it is in.
        added: How many lines came, kept or not.
        deleted: How many went.
    """

    path: str = ""
    lines: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    hunks: list[tuple[int, str]] = field(default_factory=list, compare=False)
    added: int = field(default=0, compare=False)
    deleted: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """The path with the kinds of change in brackets."""
        return f"{self.path} ({', '.join(self.kinds)})" if self.kinds else self.path

    def add(self, sign: str, text: str, *, keep: bool = True) -> None:
        """Count a changed line, and keep it if it says something."""
        if sign == "-":
            self.deleted += 1
        else:
            self.added += 1
        if not keep or len(self.lines) >= _KEPT_LINES:
            return
        text = " ".join(text[:_READ_CHARS].split())
        if any(c.isalnum() for c in text) and not _POINTER.fullmatch(text):
            self.lines.append(f"{sign} {redact(text)[:MAX_LINE_CHARS]}")

    def mark(self, kind: str) -> None:
        """Note a kind of change."""
        if kind and kind not in self.kinds:
            self.kinds.append(kind)

    def mark_mode(self, before: str, after: str) -> None:
        """Note what the six-digit file modes of git tell."""
        if "160000" in (before, after):
            self.mark("submodule")
        elif {before, after} == {"100644", "100755"}:
            self.mark("now executable" if after == "100755" else "no longer executable")


def parse_diff(lines: Iterable[str], *, words: bool = False) -> tuple[list[FileChange], bool]:
    """(the files of a unified diff, in order, whether some lines of hunks lack their sign).

    Args:
        lines: The lines, without colours.
        words: It is a word diff: lines of hunks have no sign, but [-old-] and {+new+} in them.
    """
    parser = _Parser(words)
    for line in lines:
        parser.feed(line)
    return [file for file in parser.files if file.path], parser.unsigned


class _Parser:
    """A line-by-line reader; hunk lengths tell content from headers, whatever the content looks like."""

    def __init__(self, words: bool) -> None:
        self.files: list[FileChange] = []
        self.unsigned = False
        self._words = words
        self._old: list[int] = []  # lines left in the hunk, for each side that a merge has
        self._new = 0
        self._open = ""  # the word that began the file at hand, until its "+++" line
        self._old_name = self._old_mode = ""
        self._undated = [False, False]  # whether the old and the new file have no date

    def feed(self, line: str) -> None:
        if self._words and self._old and not line.startswith(("diff --git ", "@@ -")):
            self._word_content(line)
        elif self._new > 0 or any(n > 0 for n in self._old):
            if line[:1] in ("+", "-", " ", "\\", "", "\r"):
                self._content(line)
            else:
                self.unsigned = self.unsigned or not line.startswith(_NEXT)
                self._header(line)
        else:
            self._header(line)

    def _content(self, line: str) -> None:
        if line[:1] == "\\":  # "\ No newline at end of file"
            return
        columns = len(self._old)
        signs = line[:columns]
        removed, added = "-" in signs, "+" in signs
        for i, sign in enumerate(signs.ljust(columns)):
            self._old[i] -= sign == "-" or (sign == " " and not removed)
        self._new -= not removed
        if removed or added:
            self.files[-1].add("-" if removed else "+", line[columns:], keep=len(self.files) <= _KEPT_FILES)

    def _word_content(self, line: str) -> None:
        for sign, gone, mark in (("-", 2, "[-"), ("+", 1, "{+")):
            if mark in line:
                text = WORDS.sub(lambda match, gone=gone: "" if match[gone] else match[0][2:-2], line)  # type: ignore[misc]
                self.files[-1].add(sign, text)

    def _header(self, line: str) -> None:
        self._old, self._new = [], 0
        line = line.rstrip("\r")
        if line.startswith("diff "):
            if self._open != "Index:" or line.startswith("diff --git "):
                self.files.append(FileChange())
            self.files[-1].path = _header_path(line) or self.files[-1].path
            self._open = line.split(" ", 2)[1]
        elif line.startswith("Index: "):
            self.files.append(FileChange(line[7:].strip()))
            self._open = "Index:"
        elif line.startswith("--- "):
            self._old_name = line[4:]
        elif line.startswith("+++ "):
            self._names(line[4:])
        elif line.startswith(("Submodule ", "=== ", "Binary file")):
            self._one_line(line)
        elif self.files:
            self._of_file(line, self.files[-1])

    def _one_line(self, line: str) -> None:
        """A line that says by itself what happened to a file."""
        if match := _SUBMODULE.fullmatch(line):
            self._submodule(*match.groups())
        elif match := _BAZAAR.fullmatch(line):
            self.files.append(FileChange(match[3] or match[2], kinds=[f"renamed from {match[2]}"] if match[3] else []))
            self.files[-1].mark(_STATUS.get(match[1], ""))
            self._open = "Index:"
        elif match := _BINARY.fullmatch(line):
            self._binary(*match.groups())

    def _of_file(self, line: str, file: FileChange) -> None:
        if match := _HUNK.match(line):
            *self._old, self._new = (int(part.partition(",")[2] or 1) for part in f"{match[2]} {match[3]}".split())
            if len(file.hunks) < _KEPT_LINES and len(self.files) <= _KEPT_FILES:
                file.hunks.append((len(file.lines), redact(line[match.end() :][:_READ_CHARS].strip())))
            file.mark("new" if self._undated[0] and not any(self._old) else "")
            file.mark("deleted" if self._undated[1] and not self._new else "")
        elif match := _MODE.fullmatch(line):
            self._mode(file, line, match[1], match[2])
        elif line.startswith(("rename from ", "copy from ")):
            verb, _, name = line.split(" ", 2)
            file.mark(f"{'renamed' if verb == 'rename' else 'copied'} from {unquoted(name)}")
        elif line.startswith(("rename to ", "copy to ")):
            file.path = unquoted(line.split(" ", 2)[2])
        elif line.startswith("index ") and line.endswith(" 160000"):
            file.mark("submodule")
        elif line == "GIT binary patch" or line.startswith("Cannot display: file marked as a binary"):
            file.mark("binary")
        elif line.startswith(("  > ", "  < ")) and "submodule" in file.kinds:
            file.add("+" if line[2] == ">" else "-", line[4:])

    def _mode(self, file: FileChange, line: str, word: str, mode: str) -> None:
        if " file " in line:
            file.mark("new" if word == "new" else "deleted")
            file.mark_mode(mode, mode)
        elif word == "old":
            self._old_mode = mode
        else:
            file.mark_mode(self._old_mode, mode)

    def _names(self, new: str) -> None:
        """The "+++" line, which ends the header of a file."""
        if not self._open:
            self.files.append(FileChange())
        file, old = self.files[-1], self._old_name
        if self._open not in ("--git", "--cc", "--combined"):
            for name, kind in ((old, "new"), (new, "deleted")):
                file.mark(kind if _NO_FILE.search(name) or _name(name) == "/dev/null" else "")
        self._undated = [_NO_DATE.search(name) is not None for name in (old, new)]
        if not file.path or self._open not in ("--git", "--cc", "--combined", "Index:"):
            file.path = _path(_name(old), _name(new))
        self._open = ""

    def _binary(self, old: str | None, new: str | None, only: str | None) -> None:
        if not self._open:
            self.files.append(FileChange())
        self._open = ""
        file = self.files[-1]
        file.path = file.path or only or _path(_name(old or ""), _name(new or ""))
        file.mark("binary")

    def _submodule(self, path: str, old: str | None, new: str | None, what: str | None) -> None:
        path = unquoted(path)
        if old is None:  # "contains untracked content": nothing to commit
            return
        if not self.files or self.files[-1].path != path:
            self.files.append(FileChange(path))
        self.files[-1].mark(_STATUS.get(what or "", ""))
        self.files[-1].mark("submodule")
        self._open = ""


def _header_path(line: str) -> str:
    """The path of a "diff ..." line, the only place that names a binary, an empty or a chmod-ed file; "" if unclear."""
    kind, _, rest = line.removeprefix("diff ").partition(" ")
    if kind in ("--cc", "--combined"):
        return unquoted(rest)
    if kind != "--git":
        match = re.fullmatch(r"(?:[0-9a-f]{12} -r [0-9a-f]{12} |[0-9a-f]{12} )(.+)", rest)  # of Mercurial
        return match[1] if kind == "-r" and match else ""
    if rest.startswith('"'):
        end = re.match(r'"(?:\\.|[^"\\])*+"', rest)
        return _same_end(unquoted(rest), unquoted(rest[end.end() + 1 :])) if end else ""
    if rest.endswith('"'):
        old, _, new = rest.partition(' "')
        return _same_end(old, unquoted(f'"{new}'))
    half = len(rest) // 2  # usually both names are equally long
    if rest[half : half + 1] == " " and (path := _same_end(rest[:half], rest[half + 1 :])):
        return path
    blanks = [match.start() for match in re.finditer(" ", rest)] if len(rest) <= _MAX_HEADER_CHARS else []
    return max((_same_end(rest[:at], rest[at + 1 :]) for at in blanks), key=len, default="")


def _same_end(old: str, new: str) -> str:
    """The path that both names share behind their prefixes (a/ b/, i/ w/, any other, none); "" where they differ."""
    if old == new:
        return old
    olds, news = old.split("/"), new.split("/")
    same = 0
    while same < min(len(olds), len(news)) and olds[-1 - same] == news[-1 - same]:
        same += 1
    return "/".join(news[len(news) - same :])


def _path(old: str, new: str) -> str:
    """The path of a file that has these names in "---" and "+++" lines."""
    if "/dev/null" in (old, new):
        name = new if old == "/dev/null" else old
        return name[2:] if re.match(r"[a-z]/", name) else name
    if path := _same_end(old, new):
        return path if not path.startswith("/") else path.rpartition("/")[2]
    if new.startswith("/"):  # whose home that is, is nobody's business
        return new.rpartition("/")[2]
    return new[2:] if re.match(r"[a-z]/", new) and re.match(r"[a-z]/", old) and old[0] != new[0] else new


def _name(text: str) -> str:
    """A name as "---" and "+++" lines have it: perhaps quoted, perhaps with a tab and a time behind it."""
    return unquoted(text) if text.startswith('"') else _REVISION.sub("", text.partition("\t")[0])


def unquoted(text: str) -> str:
    """A path that may be quoted as in C."""
    quoted = re.match(r'"((?:\\.|[^"\\])*+)"', text)
    if quoted is None:
        return text
    raw = b""
    for octal, escape, plain in re.findall(r"\\([0-7]{3})|\\(.)|([^\\]+)", quoted[1]):
        raw += bytes([int(octal, 8) & 255]) if octal else _ESCAPES.get(escape, escape.encode()) + plain.encode()
    return raw.decode("utf-8", "replace")
