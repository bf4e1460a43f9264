"""What the importers share: callbacks, stable ids, and bytes as text."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Callable
from hashlib import blake2b

OnSkip = Callable[[str, str], None]
"""Told (where, why) of each thing that is left out."""

OnProgress = Callable[[int, "int | None"], None]
"""Told (done, total) as the work goes on; total is None where it isn't known."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 1024


def ignore_skip(where: str, why: str) -> None:
    """An OnSkip for callers that don't ask."""


def ignore_progress(done: int, total: int | None) -> None:
    """An OnProgress for callers that don't watch."""


def stable_id(prefix: str, *parts: str) -> str:
    """`prefix` and 12 hex digits over `parts`; the same for either Unicode normal form of a file name."""
    joined = "\0".join(unicodedata.normalize("NFC", part) for part in parts)
    return prefix + blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def encoding_of(head: bytes) -> str:
    """The encoding that the first bytes of a file tell: by their mark, by the NUL bytes of UTF-16, else UTF-8."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    even, odd = head[:_SAMPLE_BYTES:2], head[1:_SAMPLE_BYTES:2]
    for sparse, dense, name in ((even, odd, "utf-16-le"), (odd, even, "utf-16-be")):
        if len(dense) > 1 and dense.count(0) * 2 > len(dense) and sparse.count(0) * 8 <= dense.count(0):
            return name
    return "utf-8"


def decode(data: bytes, errors: str = "strict") -> str:
    """`data` as text whose only line breaks are newlines.

    Raises:
        ValueError: It is no text; the message is one clause.
    """
    try:
        text = data.decode(encoding_of(data), errors)
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid {error.encoding.upper()} at byte {error.start + 1}") from None
    if "\0" in text:
        raise ValueError("binary data")
    return text.replace("\r\n", "\n").replace("\r", "\n")
