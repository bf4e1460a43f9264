"""Drawing tokens with llama.cpp's sampler chain."""

from __future__ import annotations

from types import ModuleType

from prlm_edge.backends.llama.slots import LlamaSlots
from prlm_edge.types import Sampling

_PENALTY_WINDOW = 64


class LlamaSampler:
    """Penalties, top-k, top-p, min-p, temperature, seeded draw; greedy at temperature 0. One a request.

    Args:
        lib: llama-cpp-python's low-level module.
        sampling: How.
        n_vocab: Tokens in the vocabulary.
    """

    def __init__(self, lib: ModuleType, sampling: Sampling, n_vocab: int) -> None:
        self._lib = lib
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        parts = []
        if sampling.repeat_penalty != 1.0:
            penalty = sampling.repeat_penalty
            parts.append(lib.llama_sampler_init_penalties(n_vocab, _PENALTY_WINDOW, penalty, 0.0, 0.0))
        if sampling.temperature <= 0:
            parts.append(lib.llama_sampler_init_greedy())
        else:
            parts += [
                lib.llama_sampler_init_top_k(sampling.top_k),
                lib.llama_sampler_init_top_p(sampling.top_p, 1),
                lib.llama_sampler_init_min_p(sampling.min_p, 1),
                lib.llama_sampler_init_temp(sampling.temperature),
                lib.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF),
            ]
        for part in parts:
            lib.llama_sampler_chain_add(self._chain, part)

    def next(self, slots: LlamaSlots, row: int = -1) -> int:
        """See `Sampler`."""
        token: int = self._lib.llama_sampler_sample(self._chain, slots.ctx, row)
        return token

    def forget(self) -> None:
        """See `Sampler`."""
        self._lib.llama_sampler_reset(self._chain)

    def close(self) -> None:
        """Free the chain. Idempotent."""
        if self._chain:
            self._lib.llama_sampler_free(self._chain)
            self._chain = None
