"""A tokenizer of the `tokenizers` package as a `Vocabulary`: for training, export and the ONNX backend alike.

It yields the token ids, and takes tokens for the bytes, that llama.cpp does with the same model
(tests/train/test_tokens.py holds both to each other).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Sequence
from functools import cache, cached_property
from typing import Any

from prlm_edge.backends.engine.vocabulary import cut_apart, spelled_out

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how SentencePiece spells a byte that is no text


class FastVocab:
    """See `Vocabulary`.

    Args:
        tokenizer: A `tokenizers.Tokenizer` of single bytes (GPT-2's way: Llama 3, Qwen, SmolLM2) or SentencePiece's;
            it is the vocabulary's own from now on.
        ends: Ids that end a turn. Other turn markers are control tokens, which end it too.
        bos: What begins every prompt: one id, or none.
        n_tokens: Size of the model's vocabulary, which may be filled up; 0 for the tokenizer's.
    """

    def __init__(self, tokenizer: Any, ends: Collection[int], bos: Sequence[int] = (), n_tokens: int = 0) -> None:
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._added = tokenizer.get_added_tokens_decoder()
        self._ends, self._bos = frozenset(ends), list(bos)
        self.n_tokens = n_tokens or int(tokenizer.get_vocab_size())
        self._byte_level = "ByteLevel" in str(tokenizer.decoder)
        self._pieces: dict[int, bytes] = {}
        self._lock = threading.Lock()  # one tokenizer, set to parse special tokens or not

    @property
    def words_apart(self) -> bool:
        """Tokenizers of single bytes split texts before the spaces of words, see `Vocabulary`."""
        return self._byte_level

    def with_bos(self, tokens: list[int]) -> list[int]:
        """`tokens` with the beginning-of-sequence token in front where the model wants one."""
        return [*self._bos, *tokens] if tokens[: len(self._bos)] != self._bos else tokens

    def encode_text(self, text: str, *, trusted: bool = False) -> list[int]:
        """Token ids of one text; control tokens are parsed in trusted text alone."""
        text = text.encode("utf-8", "replace").decode("utf-8")  # as llama.cpp takes it: no lone surrogates
        tokens = self._encode(text, trusted)
        if trusted or self._added.keys().isdisjoint(tokens):
            return tokens
        return [token for part in cut_apart(text, self._spelled_out) for token in self._encode(part, False)]

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; special tokens as they are spelled; b"" for ids that fill up the vocabulary."""
        if token not in self._pieces:
            self._pieces[token] = self._bytes_of(token)
        return self._pieces[token]

    def is_end(self, token: int) -> bool:
        """Whether the model ends its turn with this token."""
        return token in self._ends

    def is_token(self, text: str) -> bool:
        """Whether `text` is one token where control tokens are parsed, such as a turn marker."""
        return len(self.encode_text(text, trusted=True)) == 1

    def is_control(self, token: int) -> bool:
        """Whether this is a control token such as a turn marker."""
        return token in self._added and bool(self._added[token].special)

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """Spellings of all added tokens, control tokens or not, in the order of their ids."""
        return tuple(str(self._added[token].content) for token in sorted(self._added))

    @cached_property
    def _spelled_out(self) -> re.Pattern[str]:
        return spelled_out(self.special_texts)

    def _encode(self, text: str, trusted: bool) -> list[int]:
        if not text:
            return []
        with self._lock:
            self._tokenizer.encode_special_tokens = not trusted
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
            return ids

    def _bytes_of(self, token: int) -> bytes:
        if token in self._added:
            return str(self._added[token].content).encode()
        spelled = self._tokenizer.id_to_token(token)
        if spelled is None:
            return b""
        if self._byte_level:
            return bytes(_bytes()[character] for character in spelled)
        byte = _BYTE.fullmatch(spelled)
        return bytes([int(byte[1], 16)]) if byte else str(spelled).replace("\u2581", " ").encode()


@cache
def _bytes() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable ones as they are, the others as characters from U+0100 on, in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
