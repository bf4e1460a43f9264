"""One tokenizer for every BM25 path: folded Unicode words, parts of identifiers, n-grams of unspaced scripts, symbols.

There is no stemming and there are no stop words, since profiles are of any language. What is stored stays as it is.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from functools import cache

TOKENIZER_VERSION = f"2/{unicodedata.unidata_version}"  # part of every index key
MAX_CHARS = 200_000  # of one text; what follows is not indexed

_SUFFIX = r"(?:(?:\+\+|#)(?![\w#+]))?"  # C++, C#, F#, g++
_ASCII_WORD = re.compile(rf"[A-Za-z0-9_]+{_SUFFIX}")
# Read past: soft hyphens, joiners, directions and other format characters; variants and skin tones of emoji.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u0640\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)
# Marks of Latin, Greek, Cyrillic, Hebrew and Arabic, which many leave out; not those that make another letter (\u0439,
# \u045e, \u0457), and not the vowels of Indic scripts.
_MARKS = re.compile(
    "(?<![\u0438\u0418\u0443\u0423])\u0306|(?<![\u0456\u0406])\u0308"
    "|[\u0300-\u0305\u0307\u0309-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0]"
)
_LETTERS = str.maketrans(
    {"\u00f8": "o", "\u0142": "l", "\u0111": "d", "\u00e6": "ae", "\u0153": "oe", "\u0131": "i", "\u0649": "\u064a"}
)
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
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

    NFKC, then runs of letters, digits, combining marks and "_" in any script, case-folded and without the marks that
    many leave out (café is cafe). An identifier with "_" or inner capitals yields itself and its parts of two or more
    characters (`fooBar_baz` -> foobar_baz foo bar baz), `C++` and `C#` keep their signs. A run of an unspaced script
    yields its characters and their bigrams; an emoji, a flag or another symbol that is not ASCII is a token.
    """
    text = text[:MAX_CHARS]
    if text.isascii():
        words = _ASCII_WORD.findall(text)
    else:
        plain = _MARKS.sub("", unicodedata.normalize("NFKD", _INVISIBLE.sub("", text)))
        words = _unicode_word().findall(unicodedata.normalize("NFC", plain))
    tokens: list[str] = []
    for word in words:
        if word.isascii():
            low = word.lower()
            if low[1:] == word[1:] and low.isalnum():  # most words: no capital but perhaps the first letter
                tokens.append(low)
            else:
                tokens.extend(_identifier(word))
        elif len(word) <= 2 and not word[0].isalnum():
            if unicodedata.category(word[0])[0] == "S":
                tokens.append(word)
        else:
            for run in _SCRIPT_RUN.findall(word):
                tokens.extend(_grams(run) if _UNSPACED_CHAR.match(run) else _identifier(run))
    return tokens


def _identifier(word: str) -> Iterator[str]:
    """The folded word, then its parts where it has more than one; with its sign, where it has one, and without."""
    if word[-1] in "+#":
        yield _fold(word)
        word = word.rstrip("+#")
        if len(word) == 1:
            return  # C is another language
    pieces = [part for piece in word.split("_") if piece for part in _HUMP.split(piece)]
    if not pieces:
        return  # underscores only: a rule or a placeholder
    yield _fold(word.strip("_"))
    if len(pieces) > 1:
        yield from (_fold(piece) for piece in pieces if len(piece) > 1)


def _fold(word: str) -> str:
    folded = word.casefold()
    return folded if folded.isascii() else unicodedata.normalize("NFKC", folded.translate(_LETTERS))


def _grams(run: str) -> Iterator[str]:
    yield from run
    yield from (run[i : i + 2] for i in range(len(run) - 1))


@cache
def _unicode_word() -> re.Pattern[str]:
    """Word runs in any script, flags, and single other characters that are not ASCII.

    Python's own word class leaves out combining marks, which cuts Indic words apart. Those of the first 65,536
    characters are looked for where there are any: Han, Hangul and private ones have none.
    """
    blocks = itertools.chain(range(0x300, 0x3100), range(0xA66F, 0xABEE), range(0xFB1E, 0xFE30))
    marks = "".join(chr(c) for c in blocks if unicodedata.category(chr(c)) in ("Mn", "Mc"))
    return re.compile(rf"[\w{marks}]+{_SUFFIX}|{_FLAG}|[^\x00-\x7f\s]")
