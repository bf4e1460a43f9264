"""What stands before a diff: the header of a mail or commit, git's template, a diffstat, and the user's own words.

Only the words are kept. Names, addresses and the names of untracked files go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING

from prlm_edge.ingest.diff_files import unquoted
from prlm_edge.ingest.message import clean_body

if TYPE_CHECKING:
    from email.message import Message

_HASH = r"[0-9a-f]{40}(?:[0-9a-f]{24})?"
_BEGINNING = re.compile(
    rf"From {_HASH} .*|commit [0-9a-f]{{7,64}}(?: \(.*\))?|changeset:   \d+:[0-9a-f]+|# HG changeset patch"
    r"|r\d+ \| [^|]* \| [^|]* \| \d+ lines?"
)
_SCISSORS = re.compile(r"(\S+) -{24} >8 -{24}")
_TEMPLATE = re.compile(
    r"(#)\t[^:]+:\s+\S.*|(#) (?:On branch .*|Untracked files:|Changes to be committed:|Changes not staged for commit:)"
    r"|(\S{1,3}) Please enter the commit message for your changes\..*"
)
_UNTRACKED = re.compile(r"^Untracked files:(?:\n(?:[ \t].*)?$)*|^\?\? .*\n?", re.MULTILINE)  # of git status
_STAGED = re.compile(r"\t([^:]+):\s+(\S.*)")
_STATUS = {"new file": "new", "deleted": "deleted", "A": "new", "D": "deleted"}
_RAW = re.compile(r":\d{6} \d{6} [0-9a-f.]+ [0-9a-f.]+ ([A-Z])\d*\t([^\t]+)(?:\t(.+))?")  # of git diff --raw
_LISTED = re.compile(r"([A-Z])\d*\t([^\t]+)(?:\t(.+))?|(?:\d+|-)\t(?:\d+|-)\t(.+)")  # --name-status, --numstat
_MAIL_FIELD = re.compile(r"([A-Za-z][\w-]*): .*|[ \t]+\S.*|From \S+ .*")
_SUBJECT_TAGS = re.compile(r"^(?:\[[^\]]*\]\s*|(?:re|fwd?):\s*)+", re.IGNORECASE)
_STAT = re.compile(r" (\S(?: ?[^ |]+)*+) *\| +(?:\d+ ?[+-]*|Bin(?: .*)?|Unmerged)")
_STAT_END = re.compile(
    r" \d+ files? changed(?:, .*)?| (?:create|delete) mode \d{6} .*| (?:rename|copy) .* \(\d+%\)"
    r"| mode change \d{6} => .*"
)
_PERSON = re.compile(
    r"\W*(?:from|to|cc|bcc|author|committer|user|tagger|sender|reply-to|maintainer)\b:?.*<[^<>\s]*@[^<>]*>.*"
    r"|[^<>:]{1,60} <[^<>\s]+@[^<>\s]+>",
    re.I,
)
_TOOL_LINE = re.compile(rf"(?:base-commit:|prerequisite-patch-id:|tree|parent) {_HASH}|-{{72}}|={{4}} .* ={{4}}")


def patches(lines: Sequence[str]) -> Iterator[list[str]]:
    """`lines` cut before each header of a mail or commit."""
    part: list[str] = []
    for line in lines:
        if _BEGINNING.fullmatch(line):
            yield part
            part = []
        part.append(line)
    yield part


def is_patch(lines: Sequence[str]) -> bool:
    """Whether the lines begin with the header of a patch or commit."""
    return _BEGINNING.fullmatch(next((line for line in lines if line.strip()), "")) is not None


def opened(lines: list[str]) -> tuple[list[str], bool]:
    """(a mail's subject and decoded body, True), or (the lines as they are, False)."""
    if not _is_mail(lines):
        return lines, False
    from email import message_from_string  # 7 ms that every other request does without

    mail = message_from_string("\n".join(dropwhile(lambda line: not line.strip(), lines)))
    body = "\n".join(_texts(mail)).replace("\r\n", "\n").split("\n")
    if body[0].startswith("From: ") and "@" in body[0]:  # the author, where another one sent it
        body = list(dropwhile(lambda line: line.startswith(("From: ", "Date: ", "Subject: ")), body))
    return [_SUBJECT_TAGS.sub("", _decoded(str(mail["subject"] or ""))), "", *body], True


def words_of(lines: Sequence[str], *, mailed: bool) -> tuple[str, list[str], bool]:
    """(what the user wrote, names of changed files as a template or diffstat tells them, whether tools wrote the rest).

    Args:
        lines: What stands before a diff, or without one.
        mailed: Whether it is a mail, whose words end at a line "---".
    """
    first = next((line for line in lines if line.strip()), "")
    names: list[str] = []
    kept = _UNTRACKED.sub("", "\n".join(lines)).split("\n")
    if mailed:
        kept = [*takewhile(lambda line: line != "---", lines), *(x for x in lines if _STAT.fullmatch(x))]
    elif is_patch(lines):
        kept = list(_behind_header(lines, first))
    elif comment := _comment_of(lines):
        names = list(_staged(lines, comment))
        kept = [x for x in takewhile(lambda line: not _SCISSORS.fullmatch(line), lines) if not x.startswith(comment)]
    if mailed or any(_STAT_END.fullmatch(line) for line in kept):
        names += [_of_rename(match[1]) for line in kept if (match := _STAT.fullmatch(line))]
        kept = [line for line in kept if not _STAT.fullmatch(line) and not _STAT_END.fullmatch(line)]
    only = all(_LISTED.fullmatch(line) for line in kept if line)
    listed = [(_LISTED if only else _RAW).fullmatch(line) for line in kept]
    names += [_of_listed(*match.groups()) for match in listed if match]
    kept = [line for line, match in zip(kept, listed, strict=True) if not match]
    by_tools = mailed or len(kept) < len(lines)
    kept = [line.strip() for line in kept if not _PERSON.fullmatch(line) and not _TOOL_LINE.fullmatch(line)]
    return clean_body("\n".join(kept)), names, by_tools


def _is_mail(lines: Sequence[str]) -> bool:
    """Whether the first lines are the header of a mail."""
    header = takewhile(_MAIL_FIELD.fullmatch, dropwhile(lambda line: not line.strip(), lines))
    fields = {match[1].lower() for line in header if (match := _MAIL_FIELD.fullmatch(line)) and match[1]}
    return {"from", "subject"} <= fields


def _texts(mail: Message) -> Iterator[str]:
    """The text parts of a mail."""
    for part in mail.walk():
        if part.get_content_maintype() != "text":
            continue
        if part.get("content-transfer-encoding", "7bit").lower() in ("quoted-printable", "base64"):
            data = part.get_payload(decode=True)
            yield data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
        else:
            yield str(part.get_payload())


def _decoded(field: str) -> str:
    """A header field, which may be =?utf-8?q?encoded?=, on one line."""
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    with suppress(HeaderParseError, LookupError, UnicodeError, ValueError):
        field = str(make_header(decode_header(field)))
    return " ".join(field.split())


def _behind_header(lines: Sequence[str], first: str) -> Iterator[str]:
    """The message below the header that git, Mercurial or Subversion show."""
    behind = iter(lines[lines.index(first) + 1 :])
    if first.startswith("# "):
        yield from (line for line in behind if not line.startswith("# "))
        return
    for line in takewhile(str.strip, behind):
        if line.startswith("summary: "):
            yield line.removeprefix("summary: ")
    for line in behind:
        if not first.startswith("commit "):
            yield line if line != "description:" else ""
        elif not line[:1].strip():  # a message is indented; what isn't is "Notes:" and the like
            yield line.removeprefix("    ")


def _comment_of(lines: Sequence[str]) -> str:
    """What comments begin with in git's template; "" where there is none."""
    for line in lines:
        if match := _SCISSORS.fullmatch(line) or _TEMPLATE.fullmatch(line):
            return next(group for group in match.groups() if group)
    return ""


def _staged(lines: Iterable[str], comment: str) -> Iterator[str]:
    """The changes to be committed, the first ones that a template lists."""
    begun = False
    for line in lines:
        match = _STAGED.fullmatch(line.removeprefix(comment))
        if match and line.startswith(comment):
            begun = True
            old, arrow, new = match[2].partition(" -> ")
            kind = f"renamed from {old}" if arrow else _STATUS.get(match[1], "")
            yield f"{new or old} ({kind})" if kind else match[2]
        elif begun:
            return


def _of_listed(status: str | None, old: str, new: str | None, counted: str = "") -> str:
    """The file of a line of `git diff --raw`, `--name-status` or `--numstat`."""
    if status is None:
        return _of_rename(counted)
    kind = f"{'renamed' if status == 'R' else 'copied'} from {unquoted(old)}" if new else _STATUS.get(status, "")
    return f"{unquoted(new or old)} ({kind})" if kind else unquoted(old)


def _of_rename(name: str) -> str:
    """The new name of a diffstat's "dir/{old => new}/file" or "old => new"."""
    return unquoted(re.sub(r"\{[^{}]* => ([^{}]*)\}", r"\1", name).rpartition(" => ")[2].replace("//", "/"))
