"""What the engine asks of a model's tokenizer (`llama/vocab.py`, `onnx/vocab.py`), and what these share."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Protocol


class Vocabulary(Protocol):
    """A model's tokenizer. Untrusted text never yields a control token.

    Attributes:
        n_tokens: Size of the vocabulary.
        words_apart: Whether no token reaches from a sign over the space after it into the next word, so that a text
            cut there yields the same tokens as the whole.
    """

    n_tokens: int

    @property
    def words_apart(self) -> bool:
        """See above."""
        ...

    def encode_text(self, text: str, *, trusted: bool = False) -> list[int]:
        """Token ids of one text; control tokens are parsed in trusted text alone."""
        ...

    def with_bos(self, tokens: list[int]) -> list[int]:
        """`tokens` with the beginning-of-sequence token in front where the model wants one."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; special tokens as they are spelled."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether the model ends its turn with this token."""
        ...

    def is_token(self, text: str) -> bool:
        """Whether `text` is one token where control tokens are parsed, such as a turn marker."""
        ...

    def is_control(self, token: int) -> bool:
        """Whether this is a control token such as a turn marker."""
        ...


def spelled_out(texts: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the special tokens' `texts`, the longest first; never anything where there are none."""
    listed = sorted({text for text in texts if len(text) > 1 and not text.isspace()}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, listed)) or r"(?!)")


def cut_apart(text: str, special: re.Pattern[str]) -> list[str]:
    """`text` in pieces, each special token in it cut after its first character: then no tokenizer can see it."""
    cuts = [0, *(match.start() + 1 for match in special.finditer(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(cuts) if end > start]


def longest_prefix(fits: Callable[[str], bool], text: str) -> str:
    """The longest prefix of `text` that `fits`, never cutting a character."""
    if fits(text):
        return text
    shortest, longest = 0, len(text)  # characters; prefixes of a text can't need more tokens than the text, nearly
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if fits(text[:middle]):
            shortest = middle
        else:
            longest = middle - 1
    return text[:shortest]
