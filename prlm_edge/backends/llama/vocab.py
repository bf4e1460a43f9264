"""A GGUF model's tokenizer: trusted and untrusted text, token pieces, counting and cutting.

Untrusted text never yields a control token: it is tokenized with `parse_special=False`, and where that yields a special
token all the same (llama.cpp parses "user-defined" ones even then; Qwen3's <think> is one), every spelled-out special
token is cut after its first character.
Not done: undoing the space that SentencePiece vocabularies with `add_space_prefix` put before each span.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

from prlm_edge.backends.engine.vocabulary import cut_apart, spelled_out
from prlm_edge.errors import ModelError

_CONTROL, _USER_DEFINED = 1 << 3, 1 << 4  # llama_token_attr bits
_BYTE_LEVEL = 2  # LLAMA_VOCAB_TYPE_BPE
_MAX_PIECE = 1 << 16


class LlamaVocab:
    """The tokenizer of a loaded model.

    Args:
        lib: llama-cpp-python's low-level module.
        model: The loaded `llama_model` pointer, which must outlive this object.
    """

    def __init__(self, lib: ModuleType, model: Any) -> None:
        self._lib = lib
        self._vocab = lib.llama_model_get_vocab(model)
        self.n_tokens: int = lib.llama_vocab_n_tokens(self._vocab)
        self._pieces: dict[int, bytes] = {}
        self._plain: set[int] = set()  # tokens known to be neither control nor user-defined ones
        if self.n_tokens == 0 or lib.llama_vocab_type(self._vocab) == 0:
            raise ModelError("the model has no tokenizer", "choose a language model in GGUF format")

    @property
    def words_apart(self) -> bool:
        """Tokenizers of single bytes split texts before the spaces of words, see `Vocabulary`."""
        return bool(self._lib.llama_vocab_type(self._vocab) == _BYTE_LEVEL)

    def with_bos(self, tokens: list[int]) -> list[int]:
        """`tokens` with the beginning-of-sequence token in front where the model wants one."""
        bos = self._lib.llama_vocab_bos(self._vocab)
        if self._lib.llama_vocab_get_add_bos(self._vocab) and tokens[:1] != [bos]:
            return [bos, *tokens]
        return tokens

    def encode_text(self, text: str, *, trusted: bool = False) -> list[int]:
        """Token ids of one text; control tokens are parsed in trusted text alone."""
        tokens = self._tokenize(text, parse_special=trusted)
        if trusted or not self._any_special(tokens):
            return tokens
        parts = cut_apart(text, self._spelled_out)
        return [token for part in parts for token in self._tokenize(part, parse_special=False)]

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; special tokens as they are spelled. A character may span several tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            buffer = ctypes.create_string_buffer(256)
            n = self._lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
            if n < 0:
                buffer = ctypes.create_string_buffer(min(-n, _MAX_PIECE))
                n = self._lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
            piece = self._pieces[token] = buffer.raw[: max(n, 0)]
        return piece

    def is_end(self, token: int) -> bool:
        """Whether the model ends its turn with this token (any end-of-generation id, not EOS alone)."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def is_token(self, text: str) -> bool:
        """Whether `text` is one token where control tokens are parsed, such as a turn marker."""
        return len(self._tokenize(text, parse_special=True)) == 1

    def is_control(self, token: int) -> bool:
        """Whether this is a control token such as a turn marker."""
        return bool(self._lib.llama_vocab_is_control(self._vocab, token))

    def text_of(self, which: str) -> str:
        """The spelling of the "bos" or "eos" token; "" where the model has none."""
        token = getattr(self._lib, f"llama_vocab_{which}")(self._vocab)
        return self.piece(token).decode("utf-8", "replace") if token >= 0 else ""

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """Spellings of all control and user-defined tokens, whitespace runs aside, longest first."""
        special = (
            self.piece(token).decode("utf-8", "replace") for token in range(self.n_tokens) if self._is_special(token)
        )
        return tuple(sorted({text for text in special if len(text) > 1 and not text.isspace()}, key=len, reverse=True))

    @cached_property
    def _spelled_out(self) -> re.Pattern[str]:
        return spelled_out(self.special_texts)

    def _any_special(self, tokens: Sequence[int]) -> bool:
        """Asked of the tokens that a text has: the spellings, for which all must be asked, take 24 ms to list."""
        new = set(tokens) - self._plain
        special = {token for token in new if self._is_special(token)}
        self._plain |= new - special
        return bool(special)

    def _is_special(self, token: int) -> bool:
        return bool(self._lib.llama_vocab_get_attr(self._vocab, token) & (_CONTROL | _USER_DEFINED))

    def _tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        if not data:
            return []
        room = len(data) + 16
        buffer = (self._lib.llama_token * room)()
        n = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, False, parse_special)
        if n < 0:
            buffer = (self._lib.llama_token * -n)()
            n = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, -n, False, parse_special)
        return list(buffer[:n])
