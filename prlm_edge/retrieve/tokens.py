"""One tokenizer for every BM25 path: case-folded Unicode words, parts of identifiers, n-grams of unspaced scripts.

There is no stemming and there are no stop words, since profiles are of any language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

TOKENIZER_VERSION = f"1/{unicodedata.unidata_version}"  # part of every index key
MAX_CHARS = 200_000  # of one text; what follows is not indexed

_ASCII_WORD = re.compile(r"[A-Za-z0-9_]+")
# Where camelCase and SCREAMINGCase break: fooBar -> foo Bar, HTTPServer -> HTTP Server.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Scripts written without spaces (Han, kana, Thai, Lao, Myanmar, Khmer) and Hangul, whose words carry their particles.
_UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3131-\u318e\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_CHAR = re.compile(f"[{_UNSPACED}]")
_SCRIPT_RUN = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")


def tokenize(text: str) -> list[str]:
    """Split `text` into the terms that BM25 counts, in text order; at most its first `MAX_CHARS` characters.

    NFKC, then runs of letters, digits, combining marks and "_" in any script, case-folded. An identifier with "_" or
    inner capitals yields itself and its parts of two or more characters (`fooBar_baz` -> foobar_baz foo bar baz). A
    run of an unspaced script yields its characters and their bigrams.
    """
    text = text[:MAX_CHARS]
    if text.isascii():
        words = _ASCII_WORD.findall(text)
    else:
        words = _unicode_word().findall(unicodedata.normalize("NFKC", text))
    tokens: list[str] = []
    for word in words:
        if word.isascii():
            low = word.lower()
            if low[1:] == word[1:] and "_" not in word:  # most words: no capital but perhaps the first letter
                tokens.append(low)
            else:
                tokens.extend(_identifier(word))
        else:
            for run in _SCRIPT_RUN.findall(word):
                tokens.extend(_grams(run) if _UNSPACED_CHAR.match(run) else _identifier(run))
    return tokens


def _identifier(word: str) -> Iterator[str]:
    """The folded word, then its parts where it has more than one."""
    pieces = [part for piece in word.split("_") if piece for part in _HUMP.split(piece)]
    if not pieces:
        return  # underscores only: a rule or a placeholder
    yield _fold(word.strip("_"))
    if len(pieces) > 1:
        yield from (_fold(piece) for piece in pieces if len(piece) > 1)


def _fold(word: str) -> str:
    folded = word.casefold()
    return folded if folded.isascii() else unicodedata.normalize("NFKC", folded)


def _grams(run: str) -> Iterator[str]:
    yield from run
    yield from (run[i : i + 2] for i in range(len(run) - 1))


@cache
def _unicode_word() -> re.Pattern[str]:
    """Word runs in any script. Python's own word class leaves out combining marks, which cuts Indic words apart."""
    marks = "".join(chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
    return re.compile(f"[\\w{marks}]+")
