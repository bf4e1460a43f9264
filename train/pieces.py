"""What the forced format's `Phase` asks of a vocabulary, from a Hugging Face tokenizer: a token's bytes, and its role.

So a phase ends at the same token whoever draws, llama.cpp or Transformers. Not here: text -> tokens (`tokens.py`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how SentencePiece spells a byte that is no text


class Pieces:
    """The token side of `prlm_edge.backends.llama_vocab.Vocab`.

    Args:
        tokenizer: A fast tokenizer, of single bytes (GPT-2's way: Llama 3, Qwen, SmolLM2) or SentencePiece's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._backend: Any = tokenizer.backend_tokenizer
        self._added = self._backend.get_added_tokens_decoder()
        self._end = tokenizer.eos_token_id
        self._byte_level = "ByteLevel" in str(self._backend.decoder)
        self._known: dict[int, bytes] = {}

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; special tokens as they are spelled; b"" for ids that fill up the vocabulary."""
        if token not in self._known:
            self._known[token] = self._bytes_of(token)
        return self._known[token]

    def is_end(self, token: int) -> bool:
        """Whether this is the end of a turn. Other turn markers are control tokens, which end it too."""
        return bool(token == self._end)

    def is_control(self, token: int) -> bool:
        """Whether this is a control token such as a turn marker."""
        return token in self._added and bool(self._added[token].special)

    def _bytes_of(self, token: int) -> bytes:
        if token in self._added:
            return str(self._added[token].content).encode()
        spelled = self._backend.id_to_token(token)
        if spelled is None:
            return b""
        if self._byte_level:
            return bytes(_bytes()[character] for character in spelled)
        byte = _BYTE.fullmatch(spelled)
        return bytes([int(byte[1], 16)]) if byte else spelled.replace("\u2581", " ").encode()


@cache
def _bytes() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable ones as they are, the others as characters from U+0100 on, in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
