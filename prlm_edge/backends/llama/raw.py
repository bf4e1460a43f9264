"""llama.cpp's context as few calls as we need of it: decode rows, remove, copy, save and restore sequences.

The low-level API is used directly: the high-level one can't batch sequences, can't be cancelled inside a prompt,
redirects file descriptors and sizes its context for itself. Not here: what the sequences mean (`context.py`,
`llama_cells.py`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

from prlm_edge.backends.engine.raw import Cancelled, Row
from prlm_edge.backends.llama import lib as llama_lib
from prlm_edge.errors import ModelError
from prlm_edge.types import Cancel

_ABORTED = 2  # what llama_decode returns when the abort callback said so


class Weights(NamedTuple):
    """A loaded model, and the LoRA adapter that its contexts apply: llama.cpp's pointers; no adapter is None."""

    model: Any
    adapter: Any = None


class Threads(NamedTuple):
    """Threads for calls of several tokens, and for calls of one."""

    prompt: int
    step: int


class RawContext:
    """A llama.cpp context.

    Args:
        lib: llama-cpp-python's low-level module.
        weights: The loaded model and its adapter.
        n_ctx: Cells.
        threads: See `Threads`.
        n_batch: Rows a call at most.
        n_ubatch: Rows that llama.cpp computes at a time.
        n_seq: How many sequences, numbered from 0.

    Raises:
        ModelError: There is not enough memory.
    """

    def __init__(
        self,
        lib: ModuleType,
        weights: Weights,
        n_ctx: int,
        threads: Threads,
        *,
        n_batch: int,
        n_ubatch: int = 0,
        n_seq: int = 1,
    ) -> None:
        self.lib = lib
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = n_ctx, n_batch, n_ubatch or n_batch, n_seq
        params.n_threads, params.n_threads_batch = threads.step, threads.prompt
        params.no_perf = params.kv_unified = True
        self.ctx = lib.llama_init_from_model(weights.model, params)
        if not self.ctx:
            raise ModelError(
                f"llama.cpp could not make a context of {n_ctx} tokens: {_reason()}",
                "lower n_ctx (`--n-ctx 2048`) or free memory",
            )
        if weights.adapter:
            adapters, scales = (lib.llama_adapter_lora_p_ctypes * 1)(weights.adapter), (ctypes.c_float * 1)(1.0)
            if lib.llama_set_adapters_lora(self.ctx, adapters, 1, scales):
                lib.llama_free(self.ctx)
                raise ModelError(f"llama.cpp could not apply the adapter: {_reason()}", "leave --adapter out")
        self.n_ctx: int = lib.llama_n_ctx(self.ctx)
        self.n_batch = n_batch
        self._memory = lib.llama_get_memory(self.ctx)
        self._batch = batch = lib.llama_batch_init(n_batch, 0, 1)
        for i in range(n_batch):
            batch.n_seq_id[i] = 1
        self._tokens, self._positions, self._wanted = batch.token, batch.pos, batch.logits
        self._seqs = [batch.seq_id[i] for i in range(n_batch)]
        self._cancel: Cancel | None = None
        self._abort = lib.ggml_abort_callback(lambda _data: self._cancel is not None and self._cancel.cancelled)
        self._no_abort = lib.ggml_abort_callback(0)  # a null pointer, not a function

    def close(self) -> None:
        """Free the context. Idempotent."""
        if self.ctx:
            self.lib.llama_batch_free(self._batch)
            self.lib.llama_free(self.ctx)
            self.ctx = None

    def decode(self, rows: Sequence[Row]) -> None:
        """Evaluate `rows` in one call. On failure what the call may have left of them is removed.

        Raises:
            Cancelled: The `watch`ed flag was set.
            ModelError: llama.cpp failed.
        """
        tokens, positions, wanted, seqs = self._tokens, self._positions, self._wanted, self._seqs
        for i, (token, position, seq, logits) in enumerate(rows):
            tokens[i], positions[i], wanted[i] = token, position, logits
            seqs[i][0] = seq
        self._batch.n_tokens = len(rows)
        code = self.lib.llama_decode(self.ctx, self._batch)
        if code == 0:
            return
        for row in rows:
            self.lib.llama_memory_seq_rm(self._memory, row.seq, row.position, -1)
        if code == _ABORTED:
            raise Cancelled
        raise ModelError(f"llama.cpp failed to evaluate (code {code}): {_reason()}", "try a smaller -k or --n-ctx")

    def watch(self, cancel: Cancel | None) -> None:
        """Abort running calls once `cancel` is set; None stops watching, since it costs a Python call a graph node."""
        self._cancel = cancel
        if self.ctx:  # a closed backend may outlive an abandoned stream
            self.lib.llama_set_abort_callback(self.ctx, self._abort if cancel else self._no_abort, None)

    def remove(self, seq: int, start: int = 0) -> bool:
        """Forget the tokens of `seq` from position `start` on; False where the model can't forget a part."""
        return bool(self.lib.llama_memory_seq_rm(self._memory, seq, start, -1))

    def copy(self, source: int, target: int, start: int = 0, stop: int = -1) -> None:
        """Let `target` share the cells of `source` from position `start` to before `stop`."""
        self.lib.llama_memory_seq_cp(self._memory, source, target, start, stop)

    def clear(self) -> None:
        """Forget everything."""
        self.lib.llama_memory_clear(self._memory, False)

    def save(self, seq: int = 0) -> bytearray:
        """The state of a sequence, for `restore` in any context of the same model and build."""
        state = bytearray(self.lib.llama_state_seq_get_size(self.ctx, seq))
        pointer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        written = self.lib.llama_state_seq_get_data(self.ctx, pointer, len(state), seq)
        if written != len(state):
            raise ModelError(f"llama.cpp could not save its state: {_reason()}", "run it again with --prefix-cache off")
        return state

    def restore(self, state: bytes | bytearray | memoryview, seq: int = 0) -> bool:
        """Replace a sequence by a saved one; False where llama.cpp refuses it (the sequence is then empty).

        A memoryview must be of writable memory, though it is only read: ctypes points into no other without a copy.
        """
        kind = ctypes.c_uint8 * len(state)
        pointer = kind.from_buffer_copy(state) if isinstance(state, bytes) else kind.from_buffer(state)
        if self.lib.llama_state_seq_set_data(self.ctx, pointer, len(state), seq) == len(state):
            return True
        self.remove(seq)
        return False


def _reason() -> str:
    return llama_lib.last_errors[-1] if llama_lib.last_errors else "no reason given"
