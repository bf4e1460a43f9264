"""Tokenizes texts and prompts for the models in this process, and says where a prompt's evaluation is cut into calls.

Logits depend on how many tokens llama.cpp evaluates in one call (by 0.4 for a last call of 11 against 75). So where the
calls end follows from the prompt alone: where each user turn begins (requests share what comes before), and
every `CHUNK` tokens from there. A kept state is reused up to a cut only, and only where all calls up to it were the
same: then warm logits are bit for bit the cold ones. Digests, chained over tokens and cuts, say so.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

from prlm_edge.backends.engine.chat_template import ChatTemplate, append
from prlm_edge.backends.engine.vocabulary import Vocabulary, longest_prefix
from prlm_edge.prompt import ANSWER_OPEN, THINK_OPEN
from prlm_edge.types import Request, Span, TokenizedPrompt, Turn

CHUNK = 256  # tokens a call at most; 512 is 3% faster but coarser for progress, 128 is 4% slower
_KEPT = 1000  # texts whose tokens are remembered: 2 MB as a rule, 20 MB at most
_LONGEST_KEPT = 2000  # characters; longer texts are taken apart
_CHARS_PER_TOKEN = 64  # more than any vocabulary's average
_APART = re.compile(r"(?<=[.,:;!?)])(?= [^\W\d_])")  # between a sign and the space before a word


class PromptTokenizer:
    """A model's tokenizer and chat template together, for the prompt's budget, the engine and training.

    What was tokenized lately is remembered, since a prompt's parts are measured before they are put together, and
    requests share their past items.

    Args:
        vocab: The model's tokenizer.
        template: The model's chat template.
    """

    def __init__(self, vocab: Vocabulary, template: ChatTemplate) -> None:
        self._vocab, self._template = vocab, template
        self._remembered = lru_cache(_KEPT)(self._encode)

    def ids(self, text: str, *, trusted: bool = False) -> Sequence[int]:
        """Token ids of a text; control tokens are parsed in trusted text alone."""
        if len(text) <= _LONGEST_KEPT:
            return self._remembered(text, trusted)
        return list(itertools.chain.from_iterable(self._part(part, trusted) for part in self._parts(text, trusted)))

    def count(self, text: str) -> int:
        """Tokens of an untrusted text."""
        return len(self.ids(text))

    def truncate(self, text: str, n_tokens: int) -> str:
        """The longest prefix of `text` that is at most `n_tokens` tokens, never cutting a character."""

        def fits(start: str) -> bool:
            n = itertools.accumulate(len(self._part(part)) for part in self._parts(start))
            return all(n_so_far <= n_tokens for n_so_far in n)

        return longest_prefix(fits, text[: max(n_tokens, 0) * _CHARS_PER_TOKEN])

    def count_turns(self, turns: Sequence[Turn]) -> int:
        """Tokens of the whole prompt, chat template included, opening tag excluded."""
        ids = [token for span in self._template.render(turns) for token in self.ids(span.text, trusted=span.trusted)]
        return len(self._vocab.with_bos(ids))

    def encode_turns(self, turns: Sequence[Turn], *, reasons: bool) -> TokenizedPrompt:
        """The whole prompt, followed by the tag that opens reasoning or answer."""
        spans = self._template.render(turns)
        n_before = self._count_last(spans)
        append(spans, Span(THINK_OPEN if reasons else ANSWER_OPEN, trusted=True))
        tokens: list[int] = []
        user_turns: list[int] = []  # where they begin, except one at the very beginning
        replies: list[tuple[int, int]] = []
        role = ""
        for span in spans:
            start = len(tokens)
            tokens += self.ids(span.text, trusted=span.trusted)
            if span.role == "user" and role != "user" and not span.trusted and start:
                user_turns.append(start)
            if span.role == "assistant" and not span.trusted:
                replies.append((start, len(tokens)))
            role = span.role
        n_opening = self._count_last(spans) - n_before
        ids = self._vocab.with_bos(tokens)
        n_bos = len(ids) - len(tokens)
        cuts: list[int] = []
        n_stable = 0
        for start, end in itertools.pairwise([0, *(n_bos + place for place in user_turns), len(ids)]):
            n_stable = len(cuts)
            cuts += [*range(start + CHUNK, end, CHUNK), end]
        return TokenizedPrompt(
            tuple(ids),
            tuple(cuts),
            _digests(ids, cuts),
            n_stable,
            n_opening,
            tuple((n_bos + start, n_bos + end) for start, end in replies),
            turns,
            reasons,
            self,
        )

    def prompt_of(self, request: Request) -> TokenizedPrompt:
        """A request's prompt: as it was measured if that was done here, else tokenized now."""
        made, reasons = request.tokenized, request.reasoning_tokens > 0
        if made and made.maker is self and made.turns is request.turns and made.reasons == reasons:
            return made
        return self.encode_turns(request.turns, reasons=reasons)

    def _count_last(self, spans: Sequence[Span]) -> int:
        """Tokens of the last span if it is trusted, and so is joined to a tag after it."""
        last = spans[-1] if spans else Span("")
        return len(self.ids(last.text, trusted=True)) if last.trusted else 0

    def _parts(self, text: str, trusted: bool = False) -> Iterator[str]:
        """`text` in parts that tokenize apart as they do together; whole where the vocabulary doesn't promise that."""
        start = 0
        for match in () if trusted or not self._vocab.words_apart else _APART.finditer(text):
            yield text[start : match.start()]
            start = match.start()
        yield text[start:]

    def _part(self, text: str, trusted: bool = False) -> Sequence[int]:
        return self._remembered(text, trusted) if len(text) <= _LONGEST_KEPT else self._encode(text, trusted)

    def _encode(self, text: str, trusted: bool) -> tuple[int, ...]:
        return tuple(self._vocab.encode_text(text, trusted=trusted))


def _digests(tokens: Sequence[int], cuts: Sequence[int]) -> tuple[bytes, ...]:
    digests, last, start = [], b"", 0
    for cut in cuts:
        last = blake2b(last + array("i", tokens[start:cut]).tobytes(), digest_size=16).digest()
        digests.append(last)
        start = cut
    return tuple(digests)
