"""A Hugging Face tokenizer that yields, for the same turns, the very token ids that the llama.cpp runtime evaluates.

Training on other ids than the ones in use loses what was learned. So prompts are rendered by the runtime's own renderer
and chat template, span by span: control tokens are parsed in our own text alone, never in a user's (as in
`prlm_edge.backends.llama.vocab`). tests/train/test_tokens.py holds both to each other on real texts and prompts.

Not here: loading a tokenizer (`base.py`), which turns there are (`data.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prlm_edge.backends.engine.chat_template import CHATML, ChatTemplate
from prlm_edge.backends.engine.prompt_tokens import PromptTokenizer
from prlm_edge.backends.onnx.vocab import FastVocab
from prlm_edge.prompt import ANSWER_CLOSE, THINK_CLOSE, TO_ANSWER
from prlm_edge.types import ModelInfo, Span, TokenizedPrompt, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens:
    """Counts, cuts and encodes as the runtime does; stands in for a `Backend` where prompts are rendered.

    Args:
        tokenizer: A fast tokenizer with the model's own chat template.
        n_ctx: Tokens of prompt and answer at most.
        name: The model's, for the record.

    Attributes:
        vocab: The same tokenizer as the runtime takes one.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, tokenizer: PreTrainedTokenizerBase, n_ctx: int, name: str = "") -> None:
        self.tokenizer = tokenizer
        self.info = ModelInfo(name, n_ctx_max=n_ctx)
        backend: Any = tokenizer.backend_tokenizer
        template = tokenizer.chat_template
        bos, eos = str(tokenizer.bos_token or ""), str(tokenizer.eos_token or "")
        chat = ChatTemplate(template if isinstance(template, str) else CHATML, bos, eos)
        ends = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
        self.vocab = FastVocab(copy.deepcopy(backend), ends, _added_bos(tokenizer))
        self.prompts = PromptTokenizer(self.vocab, chat)
        self.end_of_turn = eos

    def encode_text(self, text: str, *, trusted: bool = False) -> list[int]:
        """Token ids of one text; control tokens are parsed in trusted text alone."""
        return self.vocab.encode_text(text, trusted=trusted)

    def encode(self, spans: Sequence[Span]) -> list[int]:
        """Token ids of a whole prompt, with the beginning-of-sequence token where the model wants one."""
        return self.vocab.with_bos([i for span in spans for i in self.encode_text(span.text, trusted=span.trusted)])

    def encode_turns(self, turns: Sequence[Turn], *, reasons: bool) -> TokenizedPrompt:
        """The whole prompt, the opening tag of the phase that the model begins with included."""
        return self.prompts.encode_turns(turns, reasons=reasons)

    def completion(self, answer: str, reasoning: str | None = None) -> tuple[list[int], list[bool]]:
        """What is to be learned behind the prompt's opening tag, and which of it the model itself writes.

        Args:
            answer: The answer.
            reasoning: What leads to it; None answers at once.

        Returns:
            Token ids up to and including the end of the turn, and for each whether it is the model's own. What stands
            between the two phases is put there by the forced format, but the model must close its reasoning itself.
        """
        parts = [
            (self.encode_text(answer), True),
            (self.encode_text(ANSWER_CLOSE + self.end_of_turn, trusted=True), True),
        ]
        if reasoning is not None:
            between = self.encode_text(TO_ANSWER, trusted=True)
            n_close = min(len(self.encode_text(THINK_CLOSE, trusted=True)), len(between))
            parts = [(self.encode_text(reasoning), True), (between[:n_close], True), (between[n_close:], False), *parts]
        return [token for ids, _ in parts for token in ids], [own for ids, own in parts for _ in ids]

    def count(self, text: str) -> int:
        """Tokens of an untrusted text."""
        return self.vocab.count(text)

    def truncate(self, text: str, n_tokens: int) -> str:
        """The longest prefix of `text` of at most `n_tokens` tokens."""
        return self.prompts.truncate(text, n_tokens)

    def count_turns(self, turns: Sequence[Turn]) -> int:
        """Tokens of the whole prompt, chat template included, opening tag excluded."""
        return self.prompts.count_turns(turns)


def _added_bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """[bos] where the tokenizer puts one in front by itself."""
    bos = tokenizer.bos_token_id
    if bos is None or not getattr(tokenizer, "add_bos_token", False):
        return []
    assert isinstance(bos, int)
    return [bos]
