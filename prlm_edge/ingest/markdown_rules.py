"""What Obsidian, Jekyll and Hugo add to CommonMark, as rules of the Markdown parser.

Wiki links, embeds, footnotes, template tags and comments are so told from code, which the parser knows. All rules look
no further than the next construct of their kind, so their work is linear.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, reference
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

MARK = "mark"
"""Type of the inline tokens that begin or end a hidden passage; what `hide` leaves of them is plain text."""

_NOTES = "footnotes"  # key of the parser's environment: labels of the footnotes that are defined
_COUNTS = "footnote_marks"  # another: how often each mark stands in the text
_EMBED = re.compile(r"!\[\[[^\[\]\n]*\]\]")
_WIKI_LINK = re.compile(r"\[\[(?![ \t])(?:[^\[\]\n]*\|)?([^\[\]|\n]+)\]\]")  # its alias, else its page
_NOTE_MARK = re.compile(r"\[\^([^\[\]\s]+)\]")
_NOTE = re.compile(r"\[\^([^\[\]\s]+)\]:")
_TAG_END = {"{%": re.compile(r"%\}|\{%"), "{{": re.compile(r"\}\}\}?|\{\{")}
_HIDING_TAG = re.compile(r"\{%-?\s*(end)?(comment|highlight)\b.*%\}", re.DOTALL)
_PERCENTS = re.compile("%+")


@cache
def parser() -> MarkdownIt:
    """The parser: CommonMark, tables, strikethrough and the rules below."""
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    markdown.block.ruler.at("reference", _reference)
    markdown.block.ruler.before("reference", "footnote", _footnote, {"alt": ["paragraph", "reference"]})
    markdown.inline.ruler.before("link", "construct", _construct)
    return markdown


def hide(tokens: Sequence[Token]) -> None:
    """Empty all that stands between the two marks of a pair, which may be far apart; single marks become text."""
    paired = set(map(id, _paired(tokens)))
    hidden = False
    for token in tokens:
        if token.type != "inline":
            token.content = "" if hidden else token.content
            continue
        kept: list[Token] = []
        for child in token.children or ():
            if id(child) in paired:
                hidden = not hidden
            elif not hidden:
                kept.append(child)
        if len(kept) < len(token.children or ()):
            token.children = kept
            token.content = "".join(child.content for child in kept)


def _paired(tokens: Sequence[Token]) -> Iterator[Token]:
    opened: Token | None = None
    for token in tokens:
        for child in token.children or ():
            if child.type != MARK:
                continue
            if opened is None:
                opened = child if child.meta["opens"] else None
            elif child.tag == opened.tag:
                if child.meta["closes"]:
                    yield from (opened, child)
                opened = None  # two that only open are prose, such as "%%i in (*) do echo %%i"


def _footnote(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    """A footnote, "[^label]: text": its mark goes, and what is indented below belongs to it."""
    start = state.bMarks[first] + state.tShift[first]
    match = _NOTE.match(state.src, start, state.eMarks[first])
    if match is None or state.is_code_block(first):
        return False
    if _COUNTS not in state.env:
        state.env[_COUNTS] = Counter(_NOTE_MARK.findall(state.src))
    if state.env[_COUNTS][match[1]] < 2:  # nothing refers to it: prose, such as "[^a-z]: any other letter"
        return False
    if silent:
        return True
    state.env.setdefault(_NOTES, set()).add(match[1])
    before = state.bMarks[first], state.tShift[first], state.sCount[first]
    text = state.skipSpaces(match.end())
    state.bMarks[first], state.tShift[first] = match.end(), text - match.end()
    state.blkIndent += 4
    state.level += 1
    state.sCount[first] = state.blkIndent
    state.md.block.tokenize(state, first, end)
    state.blkIndent -= 4
    state.level -= 1
    state.bMarks[first], state.tShift[first], state.sCount[first] = before
    return True


def _reference(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    """A link reference of CommonMark, but for "[^label]: word"."""
    start = state.bMarks[first] + state.tShift[first]
    return not state.src.startswith("[^", start) and reference(state, first, end, silent)


def _construct(state: StateInline, silent: bool) -> bool:
    """Wiki links, embeds, marks of footnotes, template tags, and the marks of comments."""
    source, pos = state.src, state.pos
    two = source[pos : pos + 2]
    text, mark = "", None
    if two == "[[" and (match := _WIKI_LINK.match(source, pos)):
        text, end = match[1], match.end()
    elif (two == "![" and (match := _EMBED.match(source, pos))) or (
        two == "[^" and (match := _NOTE_MARK.match(source, pos)) and match[1] in state.env.get(_NOTES, ())
    ):
        end = match.end()
    elif two in _TAG_END and (match := _TAG_END[two].search(source, pos + 2)) and match[0] != two:
        end = match.end()
        if hiding := _HIDING_TAG.fullmatch(source, pos, end):
            mark = (hiding[2], not hiding[1], bool(hiding[1]))
    elif two == "%%" and (match := _PERCENTS.match(source, pos)):
        end = match.end()
        text = match[0]
        mark = ("%%", *_roles(source, pos, end)) if len(text) == 2 else None
    else:
        return False
    if not silent:
        if mark:
            token = state.push(MARK, mark[0], 0)
            token.content, token.meta = text, {"opens": mark[1], "closes": mark[2]}
        else:
            state.pending += text
    state.pos = end
    return True


def _roles(source: str, start: int, end: int) -> tuple[bool, bool]:
    """Whether "%%" may open and close a comment: not as "100%%", nor as the second of "%%i in (*) do echo %%i"."""
    before, after = source[start - 1 : start], source[end : end + 1]
    if before + after in ('""', "''", "“”", "‘’", "()"):  # the sign itself is spoken of
        return False, False
    word_behind = after.isalnum() or after == "_"
    return not before.isdigit(), not word_behind or not (before == "" or before.isspace())
