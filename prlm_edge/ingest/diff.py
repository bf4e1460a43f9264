"""A change as text: "Changed files: a, b (new)" and what was said or done.

It is alike for past commits and for the diff at hand: retrieval, prompts and training compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from prlm_edge.ingest import diff_forms
from prlm_edge.ingest.condense import account, shown_names
from prlm_edge.ingest.diff_files import FileChange, parse_diff
from prlm_edge.ingest.message import redact
from prlm_edge.ingest.preamble import is_patch, opened, patches, words_of
from prlm_edge.style import CHANGE

MAX_FILES = 5
MAX_BODY_CHARS = 1500
CHANGE_CHARS = 1000  # of the account of what changed

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_HINT = re.compile(  # of a diff, a patch, a template or a list of changed files; most texts have none
    r"^(?:diff |--- |Index: |Submodule |Binary file|=== |From [0-9a-f]{40}|commit [0-9a-f]{7}|changeset: |# HG |"
    r"r\d+ \| |Subject: |#[\t ]|\?\? |Untracked files:|\S{1,3} Please enter the commit|\S+ -{24} >8| \d+ files? changed"
    r"|:\d{6} |(?:\d+|-)\t|[A-Z]\d*\t|─{2}|Δ |\w+ regular file |\*\*\* |\d+(?:,\d+)?[acd]\d)| --- [A-Z\d]",
    re.MULTILINE,
)
_BEGINNINGS = ("diff ", "--- ", "Index: ", "Submodule ", "Binary file", "=== ")
_BEGINNING = re.compile(  # over two lines
    r"diff --git \S.* \S.*\n"
    r"(?:index|old mode|new file|deleted file|similarity|dissimilarity|rename|copy|--- |diff |Binary |GIT |\n|$)"
    r"|diff --(?:cc|combined) \S.*\n"
    r"|diff -\S+ .*\n(?:--- |diff |Binary |Only in |\n|$)"
    r"|--- .*\n\+\+\+ "
    r"|Index: .*\n=+(?:\n|$)"
    r"|Submodule .+ (?:[0-9a-f]{7,}\.{2,3}[0-9a-f]{7,}|contains (?:untracked|modified) content\n)"
    r"|Binary files? .+ (?:differ|has changed)\n"
    r"|=== (?:added|removed|renamed|modified) (?:file|directory) '"
)


def diff_to_text(text: str) -> str:
    """A unified diff, of git or not, as the text of a change: the names of its files and a short account of it.

    What the user wrote before the diff, such as a draft of the message, comes first; headers of mails and commits,
    git's template and diffstats go, also where no diff follows. Any other text is returned as it is.

    Raises:
        UsageError: The text is a diff that can't be read: drawn for the eye, or not unified.
    """
    source = text.removeprefix("\ufeff").replace("\r\n", "\n")
    plain = diff_forms.without_colours(source)
    if not _HINT.search(plain):  # nearly every request
        return text
    lines = plain.split("\n")
    reading = _read(lines)
    if not reading.files:
        diff_forms.refuse_others(plain)
        if not reading.by_tools:
            return text
    elif reading.unsigned or not any(file.lines for file in reading.files):
        marked = plain if diff_forms.has_marks(plain) else diff_forms.with_marks(source)
        if reading.unsigned and diff_forms.is_porcelain(plain):
            reading = _read(list(diff_forms.from_porcelain(lines)), words=True)
        elif diff_forms.has_marks(marked):
            reading = _read(marked.split("\n"), words=True)
    names = shown_names(reading.files) or list(dict.fromkeys(reading.names))
    told = (*reading.messages, account(reading.files, CHANGE_CHARS))
    return redact(change_text(names, "\n\n".join(part for part in told if part)))


@dataclass
class _Reading:
    """What a text holds: messages, files, and the names of files that a template or diffstat lists."""

    messages: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    files: list[FileChange] = field(default_factory=list)
    by_tools: bool = False
    unsigned: bool = False


def _read(lines: list[str], *, words: bool = False) -> _Reading:
    result = _Reading()
    for part in patches(lines):
        content, mailed = opened(part)
        start = next((i for i in range(len(content)) if _begins_diff(content, i)), len(content))
        if mailed and start == len(content) and not is_patch(part):
            content, mailed = part, False  # a mail, but no patch
            start = len(content)
        message, names, by_tools = words_of(content[:start], mailed=mailed)
        files, unsigned = parse_diff(content[start:], words=words)
        result.messages.append(message)
        result.names += names
        result.files += files
        result.by_tools |= by_tools
        result.unsigned |= unsigned
    return result


def _begins_diff(lines: Sequence[str], index: int) -> bool:
    if not lines[index].startswith(_BEGINNINGS):
        return False
    return _BEGINNING.match("\n".join(lines[index : index + 2]) + "\n") is not None


def change_text(names: Sequence[str], body: str) -> str:
    """The text of a change: at most five of its files and the rest as a number, an empty line, `body`."""
    more = f" (+{len(names) - MAX_FILES} more)" if len(names) > MAX_FILES else ""
    listed = _CONTROLS.sub("?", ", ".join(names[:MAX_FILES]))
    head = f"{CHANGE} {listed}{more}" if names else ""
    return "\n\n".join(part for part in (head, shorten(body)) if part)


def shorten(text: str, limit: int = MAX_BODY_CHARS) -> str:
    """`text` cut at the last line or sentence end, else word, before `limit` characters."""
    text = text.strip()
    if len(text) <= limit:
        return text
    cut = text[:limit]
    ends = [cut.rfind("\n"), cut.rfind(". ") + 1]
    end = max(ends) if max(ends) >= limit // 2 else cut.rfind(" ")
    return cut[: end if end > 0 else limit].rstrip()
