"""Markdown as light plain text, and its first heading.

Markup goes, words stay; code blocks, comments, embeds and template tags go whole. `markdown_rules.py` tells the
parser of what CommonMark doesn't know.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from markdown_it.common.html_blocks import block_names
from markdown_it.rules_block.table import escapedSplit
from markdown_it.token import Token

from prlm_edge.ingest.markdown_rules import MARK, hide, parser

_CALLOUT = re.compile(r"\[![\w-]+\][+-]?[ \t]?")  # the kind of a quote in Obsidian
_BLOCK_ID = re.compile(r"(?:^|[ \t\n])\^[A-Za-z0-9-]{3,}$")  # Obsidian's; shorter ones are exponents
_TAG = re.compile(r"""<!--|<(/?)([A-Za-z][A-Za-z0-9-]*)((?:[^<>"']|"[^"<]*"|'[^'<]*')*+)>|<[!?][^<>]*>""")
_INLINE_TAGS = """a abbr area audio b bdi bdo big br button canvas cite code data del dfn em embed font i img input ins
kbd label map mark meter object output path picture pre progress q rb rp rt ruby s samp script select slot small span
strike strong style sub sup svg template textarea time tt u var video wbr"""
_TAGS = frozenset(("", *block_names, *_INLINE_TAGS.split()))


def reduce(markdown: str) -> tuple[str, str]:
    """(first heading, the rest as plain text).

    The heading is the first one of level 1, or one of any level that opens the text; "" where there is neither. It is
    taken out of the text.
    """
    tokens = parser().parse(markdown)
    hide(tokens)
    at = _title_at(tokens)
    heading = ""
    if at is not None:
        heading = " ".join(_inline(tokens[at + 1]).split())
        tokens = tokens[:at] + tokens[at + 3 :]
    return heading, _blocks(tokens, markdown.split("\n"))


def _title_at(tokens: Sequence[Token]) -> int | None:
    opens = True  # whether nothing that shows stands before
    for i, token in enumerate(tokens):
        is_title = token.type == "heading_open" and token.level == 0 and (opens or token.tag == "h1")
        if is_title and _inline(tokens[i + 1]):
            return i
        opens = opens and token.type != "hr" and not token.content.strip()
    return None


def _blocks(tokens: Sequence[Token], lines: Sequence[str]) -> str:
    parts: list[str] = []
    bullet = ""
    cells: list[str] | None = None
    row: Token | None = None
    for i, token in enumerate(tokens):
        if token.type in ("list_item_open", "list_item_close"):
            bullet = "- " if token.type == "list_item_open" else ""
        elif token.type == "tr_open":
            cells, row = [], None if tokens[i - 1].type == "thead_open" else token
        elif token.type == "tr_close":
            cells = [*(cells or ()), *_surplus(row, len(cells or ()), lines)]
            parts.append("  ".join(cells) + "\n")
            cells = None
        elif token.type != "inline":
            parts.append(_block(token, lines))
        else:
            text = _inline(token)
            if i > 1 and tokens[i - 2].type == "blockquote_open":
                text = text[match.end() :] if (match := _CALLOUT.match(text)) else text
            if cells is not None:
                cells.append(text)
            elif text:
                parts.append(f"{bullet}{text}{'' if token.level and bullet else chr(10)}\n")
                bullet = ""
    return re.sub(r"\n{3,}", "\n\n", "".join(parts)).strip()


def _block(token: Token, lines: Sequence[str]) -> str:
    if token.type == "html_block":
        return _without_tags(token.content) + "\n"
    if token.type == "fence" and not _is_closed(token, lines):
        return token.content + "\n"  # perhaps all the rest of the note
    return "\n" if token.type in ("bullet_list_close", "ordered_list_close", "table_close") else ""


def _surplus(row: Token | None, width: int, lines: Sequence[str]) -> list[str]:
    """The cells of a table's row beyond those of its header, which the parser leaves out. No row: none."""
    if row is None or row.map is None:
        return []
    cells = escapedSplit(lines[row.map[0]].strip(" \t>").removeprefix("|"))
    return [cell.strip() for cell in cells[width:] if cell.strip()]


def _is_closed(fence: Token, lines: Sequence[str]) -> bool:
    first, end = fence.map or (0, 0)
    return not fence.content or (end - 1 > first and lines[end - 1].rstrip().endswith(fence.markup))


def _inline(token: Token) -> str:
    words: list[str] = []
    children = token.children or []
    for child in children:
        if child.type in ("text", "code_inline", "text_special", MARK):
            words.append(child.content)
        elif child.type == "html_inline":
            words.append(_without_tags(child.content))
        elif child.type == "image":
            words.append(_inline(child) if child.children else child.content)
        elif child.type in ("softbreak", "hardbreak"):
            words.append("\n")
    text = "".join(words)
    if children and children[-1].type == "text":
        text = _BLOCK_ID.sub("", text)
    return text.strip()


def _without_tags(source: str) -> str:
    """HTML without its tags, comments, scripts and styles; a word in angle brackets that is no tag stays."""
    parts: list[str] = []
    at = 0
    missing: set[str] = set()  # ends that don't come any more
    while match := _TAG.search(source, at):
        parts.append(source[at : match.start()])
        at = match.end()
        name = (match[2] or "").lower()
        if match[0] == "<!--" or (name in ("script", "style") and not match[1]):
            closing = re.compile(rf"</{name}\s*>" if name else "-->", re.IGNORECASE)
            end = None if name in missing else closing.search(source, at)
            at = end.end() if end else at
            if end is None:
                missing.add(name)
                parts.append("" if name else match[0])
        elif name not in _TAGS and "-" not in name and not re.search("[=/]", match[3]):
            parts.append(match[0])  # <String>, <your name>
    return html.unescape("".join(parts) + source[at:])
