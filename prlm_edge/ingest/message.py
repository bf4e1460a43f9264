"""A commit message's body without what tools put there: trailers, ids, e-mail addresses, lines of git's own."""

from __future__ import annotations

import re

# The last label is letters, so that "pkg@1.2.3" stays; "icon@2x.png" is a file name.
_EMAIL = re.compile(r"<?\b[\w.+-]{1,64}@(?!\d+x\.)[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[A-Za-z]{2,24}\b>?")

_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]*)\s*:\s+(\S.*)")
_PERSON = re.compile(r".*<[^\s<>]+@[^\s<>]+>(?: *[\[(#].*)?|\S+@\S+")
_BY = re.compile(
    r"(?:signed-off|co-?authored|co-developed|(?:reviewed|acked|tested)(?:-and-\w+)?|reported|suggested|requested|helped|"
    r"mentored|based-on-patch|original-patch|approved|diagnosed|analyzed|improved|noticed|debugged|submitted|committed|"
    r"inspired|found|fixed|assisted|generated|made|pair(?:ed)?-with)(?:-by)?",
    re.IGNORECASE,
)
_REFERENCE = r"(?:#?\d+|[\w./-]*#\d+|[A-Z][A-Z0-9]+-\d+|https?://\S+|[0-9a-f]{7,64}|I[0-9a-f]{8,}|\S+@\S+)"
_REFERENCES = re.compile(rf"{_REFERENCE}(?:[\s,]+{_REFERENCE})*(?: *\(.*\))?")
_SIMPLE_KEYS = "|bug|closes|fixes|implements|issue|jira|link|pr|ref|refs|related|resolves|see|ticket|url|cc|"
_UNMISTAKABLE = re.compile(r"change-id: I[0-9a-f]{8,}|git-svn-id: \S+@\d+ .*|tree-sha1: [0-9a-f]{40}", re.IGNORECASE)

_OF_GIT = re.compile(
    r"^(?:\((?:cherry[ -]?picked|backported) from (?:commit )?[0-9a-f]{7,64}.*\)"
    r"|This (?:reverts|reapplies) commit [0-9a-f]{7,64}(?:, reversing\nchanges made to [0-9a-f]{7,64})?\.?"
    r"|# This is (?:a combination of \d+ commits|the .*commit message.*)[.:]"
    r"|(?:# )?Conflicts:(?:\n(?:#?\t.*)?)*"
    r"|Squashed commit of the following:|-{9}"
    r"|commit [0-9a-f]{40,64}(?:\n(?:Merge|Author|AuthorDate|Commit|CommitDate|Date): .*)+)$",
    re.MULTILINE,
)
_INDENT = re.compile(r"^ {4}", re.MULTILINE)


def redact(text: str) -> str:
    """`text` without e-mail addresses: "Ann Lee <ann@example.org>" becomes "Ann Lee", a bare address "[email]"."""
    if "@" not in text:
        return text
    text = re.sub(r"(?<=\S) ?<[^\s<>]*@[^\s<>]*>", "", text)
    return _EMAIL.sub("[email]", text)


def clean_body(body: str) -> str:
    """A body without trailers, git's own lines and e-mail addresses, its blank lines tidied.

    Trailers go from the last paragraph, as `git interpret-trailers` sees it, and from the one before where nothing else
    is left. Elsewhere only lines go that no one writes by hand: a person with an address behind "...-by:", Change-Id.
    """
    body = body.replace("\r\n", "\n")
    text = _OF_GIT.sub("", body)
    if text != body and "Squashed commit of the following:" in body:
        text = _INDENT.sub("", text)
    lines = [line.rstrip() for line in text.split("\n") if not _is_tool_line(line.strip())]
    paragraphs = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip().split("\n\n")
    while paragraphs:
        rest = _without_trailers(paragraphs[-1])
        if rest == paragraphs[-1]:
            break
        paragraphs[-1:] = [rest] if rest else []
    return redact("\n\n".join(paragraphs))


def _is_tool_line(line: str) -> bool:
    match = _TRAILER.fullmatch(line)
    if match is None:
        return False
    by_person = match[1].lower() == "cc" or _BY.fullmatch(match[1]) is not None
    return (by_person and _PERSON.fullmatch(match[2]) is not None) or _UNMISTAKABLE.fullmatch(line) is not None


def _without_trailers(paragraph: str) -> str:
    """The lines that are neither trailers nor go on one."""
    kept: list[str] = []
    in_trailer = False
    for line in paragraph.split("\n"):
        in_trailer = _is_trailer(line) or (in_trailer and line[:1].isspace())
        if not in_trailer:
            kept.append(line)
    return "\n".join(kept)


def _is_trailer(line: str) -> bool:
    """Whether a line is "Key: value" where a tool may have written it: "Fixes: #12" is, "Fixes: the crash" is prose."""
    match = _TRAILER.fullmatch(line)
    if match is None:
        return False
    key, value = match[1].lower(), match[2]
    if _BY.fullmatch(key):
        return len(value.split()) <= 5 or _PERSON.fullmatch(value) is not None
    if "-" in key or f"|{key}|" in _SIMPLE_KEYS:
        return _REFERENCES.fullmatch(value) is not None or _PERSON.fullmatch(value) is not None
    return False
