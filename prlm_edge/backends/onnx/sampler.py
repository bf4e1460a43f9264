"""Drawing tokens from logits with numpy: the chain of `llama/sampler.py`, in the same order and with the same meaning.

Not the same draws: another random generator. Greedy text is the same wherever the logits are.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

from prlm_edge.types import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PENALTY_WINDOW = 64  # tokens, as with llama.cpp


class OnnxSampler:
    """Penalties, top-k, top-p, min-p, temperature, seeded draw; greedy at temperature 0. One a sequence.

    Args:
        sampling: How.
    """

    def __init__(self, sampling: Sampling) -> None:
        import numpy as np

        self._how = sampling
        self._recent: collections.deque[int] = collections.deque(maxlen=PENALTY_WINDOW)
        self._random = np.random.default_rng(sampling.seed & 0xFFFFFFFF)

    def next(self, slots: Any, row: int = -1) -> int:
        """Draw a token from the logits of a row of the latest call (`OnnxRaw.row`)."""
        import numpy as np

        logits = penalized(slots.logits(row), self._recent, self._how.repeat_penalty)
        token = int(np.argmax(logits)) if self._how.temperature <= 0 else self._draw(logits)
        self._recent.append(token)
        return token

    def forget(self) -> None:
        """Forget the tokens drawn so far: a new phase may repeat the words of the last one unpenalized."""
        self._recent.clear()

    def close(self) -> None:
        """Nothing to free."""

    def _draw(self, logits: NDArray[np.float32]) -> int:
        import numpy as np

        ids, chances = distribution(logits, self._how)
        total = np.cumsum(chances)
        place = int(np.searchsorted(total, self._random.random() * total[-1], side="right"))
        return int(ids[min(place, len(ids) - 1)])


def penalized(logits: NDArray[np.float32], recent: collections.deque[int], penalty: float) -> NDArray[np.float32]:
    """`logits` with those of tokens in `recent` made less likely, once for each token."""
    import numpy as np

    if penalty == 1.0 or not recent:
        return logits
    ids = np.fromiter(set(recent), np.int64)
    out = logits.copy()
    out[ids] = np.where(out[ids] <= 0, out[ids] * penalty, out[ids] / penalty)
    return out


def distribution(logits: NDArray[np.float32], how: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Token ids, likeliest first, and their probabilities, after top-k, top-p, min-p and temperature."""
    import numpy as np

    ids = np.arange(len(logits))
    if 0 < how.top_k < len(logits):
        ids = np.argpartition(logits, -how.top_k)[-how.top_k :]
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    kept = logits[ids].astype(np.float64)
    if how.top_p < 1:
        n_kept = int(np.searchsorted(np.cumsum(_softmax(kept)), how.top_p)) + 1
        ids, kept = ids[:n_kept], kept[:n_kept]
    if how.min_p > 0:
        n_kept = max(1, int((kept >= kept[0] + np.log(how.min_p)).sum()))
        ids, kept = ids[:n_kept], kept[:n_kept]
    return ids, _softmax(kept / how.temperature)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    powers: NDArray[np.float64] = np.exp(logits - logits.max())
    powers /= powers.sum()
    return powers
