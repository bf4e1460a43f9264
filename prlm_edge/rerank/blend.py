"""Chooses by a weighted sum of counted features; the weights are learned from other users' candidates.

    agreement      mean ROUGE-1 with the other candidates
    logprob        mean log-probability of a token, in nats; 0 for all where the backend gives none
    style          share of the user's steady habits kept
    past           mean ROUGE-1 with what the user wrote for the items shown, and `nearest` the highest
    request        share of the candidate's words that the request has too, and `phrases` its ROUGE-2 with the request
    length         log(1 + words), and `unusual` how far that is from the mean of the past texts

`prlm-edge train blend` learns weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA, MissingError, ModelError, UsageError
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_2
from prlm_edge.storage import read_small
from prlm_edge.types import Candidate, Scoring

FEATURES = ("agreement", "logprob", "style", "past", "nearest", "request", "phrases", "length", "unusual")
FORMAT = 1
BUNDLED = Path(__file__).parents[1] / "assets" / "blend.json"  # comes with the package
_MAKE = "`prlm-edge train blend` makes one; the setting blend_weights names it"


def evidence(candidates: Sequence[Candidate], context: Scoring) -> list[dict[str, float]]:
    """The features of each candidate, by the names of `FEATURES`."""
    texts, request = [Counted(one.answer) for one in candidates], Counted(context.query)
    past, asked = [Counted(text) for text in context.past], frozenset(request.words)
    usual = _mean([math.log1p(len(one.words)) for one in past or texts])
    given = all(one.logprob is not None for one in candidates)
    found = []
    for i, (candidate, text) in enumerate(zip(candidates, texts, strict=True)):
        near = [rouge_1(text, one) for one in past]
        length = math.log1p(len(text.words))
        found.append(
            {
                "agreement": _mean([rouge_1(text, other) for j, other in enumerate(texts) if i != j]),
                "logprob": candidate.logprob or 0.0 if given else 0.0,
                "style": context.style.match(candidate.answer),
                "past": _mean(near),
                "nearest": max(near, default=0.0),
                "request": _mean([float(word in asked) for word in text.words]),
                "phrases": rouge_2(text, request),
                "length": length,
                "unusual": abs(length - usual),
            }
        )
    return found


class Blend:
    """A scorer: the weighted sum of a candidate's features (`evidence`).

    Args:
        weights: The file of the weights, read at the first score; None takes the one that comes with prlm-edge.
    """

    name = "blend"
    needs_logprobs = False

    def __init__(self, weights: str | Path | None = None) -> None:
        self.path, self._is_bundled = Path(weights or BUNDLED), not weights

    def check(self) -> None:
        """Read the weights.

        Raises:
            MissingError: prlm-edge came without weights.
            UsageError: No such file.
            ModelError: The file holds no weights, or those of another version.
        """
        _ = self._weights

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """Weighted sums; only differences between candidates of one call mean anything.

        Raises:
            PrlmError: As `check` says.
        """
        weights = self._weights
        # fsum does not depend on the order: equal candidates get equal scores, and the earliest wins
        return [math.fsum(weights[name] * one[name] for name in weights) for one in evidence(candidates, context)]

    @cached_property
    def _weights(self) -> dict[str, float]:
        if self._is_bundled and not self.path.exists():
            raise MissingError("this prlm-edge came without weights to blend by", _MAKE)
        return read_weights(self.path)


def read_weights(path: Path) -> dict[str, float]:
    """The weights in a file that `prlm-edge train blend` wrote.

    Raises:
        UsageError: The file can't be read.
        ModelError: It holds no weights, or those of another version.
    """
    try:
        found: Mapping[str, Any] = json.loads(read_small(path))
        weights = {str(name): float(value) for name, value in found["weights"].items()}
        known = found["format"] == FORMAT and weights.keys() == set(FEATURES)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", _MAKE) from None
    except BAD_DATA:
        raise ModelError(f"{path}: no weights to blend by", _MAKE) from None
    if not known:
        raise ModelError(
            f"{path}: weights of another version of prlm-edge", "learn them again: `prlm-edge train blend`"
        )
    if not all(map(math.isfinite, weights.values())):
        raise ModelError(f"{path}: a weight that is no finite number", _MAKE)
    return weights


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
