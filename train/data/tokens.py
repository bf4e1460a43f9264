"""A Hugging Face tokenizer that yields, for the same turns, the very token ids that the llama.cpp runtime evaluates.

Training on other ids than the ones in use loses what was learned. So prompts are tokenized by the runtime's own
`PromptTokenizer`, span by span: control tokens are parsed in our own text alone, never in a user's.
tests/train/test_tokens.py holds both to each other on real texts and prompts.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from prlm_edge.backends.engine.chat_template import ChatTemplate, template_for
from prlm_edge.backends.engine.prompt_tokens import PromptTokenizer
from prlm_edge.backends.onnx.vocab import FastVocab
from prlm_edge.prompt import ANSWER_CLOSE, THINK_CLOSE, TO_ANSWER
from prlm_edge.types import ModelInfo

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens:
    """The base model's tokenizer, for prompts and for the completions that are learned.

    Args:
        tokenizer: A fast tokenizer with the model's own chat template.
        n_ctx: Tokens of prompt and answer at most.
        name: The model's, for the record.

    Attributes:
        info: The base, as prompts are planned for it.
        vocab: The same tokenizer as the runtime takes one.
        prompts: Measures and tokenizes prompts.
        end_of_turn: The text of the token that ends a turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, n_ctx: int, name: str = "") -> None:
        self.tokenizer = tokenizer
        self.info = ModelInfo(name, n_ctx_max=n_ctx)
        backend: Any = tokenizer.backend_tokenizer
        template = tokenizer.chat_template
        bos, eos = str(tokenizer.bos_token or ""), str(tokenizer.eos_token or "")
        ends = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
        self.vocab = FastVocab(copy.deepcopy(backend), ends, _added_bos(tokenizer))
        source = template if isinstance(template, str) else template_for(self.vocab.is_token)
        self.prompts = PromptTokenizer(self.vocab, ChatTemplate(source, bos, eos))
        self.end_of_turn = eos

    def encode_text(self, text: str, *, trusted: bool = False) -> list[int]:
        """Token ids of one text; control tokens are parsed in trusted text alone."""
        return self.vocab.encode_text(text, trusted=trusted)

    def completion(self, answer: str, reasoning: str | None = None) -> tuple[list[int], list[bool]]:
        """The completion that is learned, from the prompt's opening tag on, and which of it the model itself writes.

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
        return self.prompts.count(text)


def _added_bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """[bos] where the tokenizer puts one in front by itself."""
    bos = tokenizer.bos_token_id
    if bos is None or not getattr(tokenizer, "add_bos_token", False):
        return []
    assert isinstance(bos, int)
    return [bos]
