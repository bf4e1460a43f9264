"""A prompt as tokens, with the places at which its evaluation is cut into calls.

Logits depend on how many tokens llama.cpp evaluates in one call (by 0.4 for a last call of 11 against 75). So where the
calls end follows from the prompt alone: where each user turn begins (what stands before is what requests share), and
every `CHUNK` tokens from there. A kept state is reused up to a cut only, and only where all calls up to it were the
same: then warm logits are bit for bit the cold ones. Digests, chained over tokens and cuts, say so.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from prlm_edge.backends.engine.vocabulary import Vocabulary
from prlm_edge.types import Span, Turn

CHUNK = 256  # tokens a call at most; 512 is 3% faster but coarser for progress, 128 is 4% slower


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt ready to be evaluated.

    Attributes:
        tokens: Token ids.
        cuts: Where calls end, increasing; the last one is the prompt's length.
        digests: For each cut, 16 bytes that are equal where all tokens and cuts up to it are equal.
        n_stable: How many of the cuts lie before the last user turn: what other requests may share.
    """

    tokens: tuple[int, ...]
    cuts: tuple[int, ...]
    digests: tuple[bytes, ...]
    n_stable: int

    def shared(self, digests: Sequence[bytes]) -> int:
        """How many leading cuts are those of `digests`."""
        pairs = enumerate(zip(self.digests, digests, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(self.digests), len(digests)))


def tokenize(vocab: Vocabulary, spans: Sequence[Span], turns: Sequence[Turn]) -> TokenizedPrompt:
    """Tokenize a rendered prompt.

    Args:
        vocab: The model's tokenizer.
        spans: The whole prompt, as a chat template rendered it.
        turns: The turns it was rendered from; each user turn's first untrusted span opens a segment.
    """
    opening = {id(span) for turn in turns if turn.role == "user" for span in turn.spans[:1] if not span.trusted}
    segments: list[list[Span]] = [[]]
    for span in spans:
        if id(span) in opening and segments[-1]:
            segments.append([])
        segments[-1].append(span)
    parts = [
        [token for span in part for token in vocab.encode_text(span.text, trusted=span.trusted)] for part in segments
    ]
    parts[0] = vocab.with_bos(parts[0])
    cuts: list[int] = []
    end = n_stable = 0
    for part in parts:
        n_stable = len(cuts)
        start, end = end, end + len(part)
        cuts += [*range(start + CHUNK, end, CHUNK), end]
    tokens = tuple(token for part in parts for token in part)
    return TokenizedPrompt(tokens, tuple(cuts), _digests(tokens, cuts), n_stable)


def _digests(tokens: Sequence[int], cuts: Sequence[int]) -> tuple[bytes, ...]:
    digests, last, start = [], b"", 0
    for cut in cuts:
        last = blake2b(last + array("i", tokens[start:cut]).tobytes(), digest_size=16).digest()
        digests.append(last)
        start = cut
    return tuple(digests)
