"""llama.cpp's context as slots: token sequences that are evaluated, forgotten, shared, saved and restored.

The low-level API is used directly: the high-level one can't batch sequences, can't be cancelled inside a prompt,
redirects file descriptors and sizes its context for itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from prlm_edge.backends.engine.prompt_tokens import CHUNK
from prlm_edge.backends.engine.slots import Cancelled
from prlm_edge.backends.llama import lib as llama_lib
from prlm_edge.errors import ModelError
from prlm_edge.types import Cancel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ABORTED = 2  # what llama_decode returns when the abort callback said so
_ROWS_AT_ONCE = 48  # from 64 on llama.cpp's attention takes another path, which rounds otherwise
_MAX_UNWATCHED = 32  # tokens of a call that is too short to be broken off
_LOOK_S = 0.02  # between two looks at whether a call is to be broken off; a graph node can take longer
_MAX_NEW = 64  # tokens a sequence may bring to one call of a batch; the tags between the phases are some ten


class Weights(NamedTuple):
    """A loaded model, and the LoRA adapter that its contexts apply: llama.cpp's pointers; no adapter is None."""

    model: Any
    adapter: Any = None


class Threads(NamedTuple):
    """Threads for calls of several tokens, and for calls of one."""

    prompt: int
    step: int


class LlamaSlots:
    """See `Slots`. Slots share `n_cells` cells.

    Args:
        lib: llama-cpp-python's low-level module.
        weights: The loaded model and its adapter.
        n_cells: Cells; llama.cpp may round up.
        threads: See `Threads`.
        n_slots: Slots.
        n_batch: Tokens a call at most.
        n_ubatch: Tokens that llama.cpp computes at a time; 0 for `n_batch`.

    Raises:
        ModelError: There is not enough memory.
    """

    def __init__(
        self,
        lib: ModuleType,
        weights: Weights,
        n_cells: int,
        threads: Threads,
        *,
        n_batch: int,
        n_ubatch: int = 0,
        n_slots: int = 1,
    ) -> None:
        self.lib = lib
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = n_cells, n_batch, n_ubatch or n_batch, n_slots
        params.n_threads, params.n_threads_batch = threads.step, threads.prompt
        params.no_perf = params.kv_unified = True
        self.ctx = lib.llama_init_from_model(weights.model, params)
        if not self.ctx:
            raise ModelError(
                f"llama.cpp could not make a context of {n_cells} tokens: {_reason()}",
                "lower n_ctx (`--n-ctx 2048`) or free memory",
            )
        if weights.adapter:
            adapters, scales = (lib.llama_adapter_lora_p_ctypes * 1)(weights.adapter), (ctypes.c_float * 1)(1.0)
            if lib.llama_set_adapters_lora(self.ctx, adapters, 1, scales):
                lib.llama_free(self.ctx)
                raise ModelError(f"llama.cpp could not apply the adapter: {_reason()}", "leave --adapter out")
        self.n_cells: int = lib.llama_n_ctx(self.ctx)
        self.lengths = [0] * n_slots
        self._n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(weights.model))
        self._memory = lib.llama_get_memory(self.ctx)
        self._batch = batch = lib.llama_batch_init(n_batch, 0, 1)
        for i in range(n_batch):
            batch.n_seq_id[i] = 1
        self._tokens, self._positions, self._wanted = batch.token, batch.pos, batch.logits
        self._seqs = [batch.seq_id[i] for i in range(n_batch)]
        self._cancel: Cancel | None = None
        self._watched = False  # whether llama.cpp calls back at each graph node
        self._abort = lib.ggml_abort_callback(
            llama_lib.guarded(lambda _data: self._cancel is not None and self._cancel.cancelled, True, _LOOK_S)
        )
        self._no_abort = lib.ggml_abort_callback(0)  # a null pointer, not a function

    def close(self) -> None:
        """Free the context. Idempotent."""
        if self.ctx:
            self.lib.llama_batch_free(self._batch)
            self.lib.llama_free(self.ctx)
            self.ctx = None

    def append(
        self,
        more: Sequence[tuple[int, Sequence[int]]],
        cancel: Cancel | None = None,
        wanted: Collection[int] | None = None,
    ) -> list[int]:
        """See `Slots`; `wanted`: the call's rows that get logits, in place of each pair's last."""
        self._cancel = cancel
        # In a call back Python also notices Ctrl-C. It costs half a microsecond a graph node; short calls do without.
        watched = cancel is not None or sum(len(new) for _, new in more) > _MAX_UNWATCHED
        if watched is not self._watched:
            self._watched = watched
            self.lib.llama_set_abort_callback(self.ctx, self._abort if watched else self._no_abort, None)
        tokens, positions, seqs = self._tokens, self._positions, self._seqs
        n_rows, ends = 0, []
        for slot, new in more:
            for position, token in enumerate(new, self.lengths[slot]):
                tokens[n_rows], positions[n_rows], seqs[n_rows][0] = token, position, slot
                n_rows += 1
            ends.append(n_rows - 1)
        ctypes.memset(self._wanted, 0, n_rows)
        for row in ends if wanted is None else wanted:
            self._wanted[row] = 1
        self._batch.n_tokens = n_rows
        code = self.lib.llama_decode(self.ctx, self._batch)
        if code:
            for slot, _ in more:
                self.lib.llama_memory_seq_rm(self._memory, slot, self.lengths[slot], -1)
            llama_lib.raise_caught()
            if code == _ABORTED:
                raise Cancelled
            raise ModelError(f"llama.cpp failed to evaluate (code {code}): {_reason()}", "try a smaller -k or --n-ctx")
        for slot, new in more:
            self.lengths[slot] += len(new)
        llama_lib.raise_caught()
        return ends

    def logits(self, row: int = -1) -> NDArray[np.float32]:
        """See `Slots`."""
        import numpy as np

        return np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.ctx, row), (self._n_vocab,))

    def truncate(self, slot: int, n_tokens: int = 0) -> int:
        """See `Slots`."""
        if n_tokens < self.lengths[slot]:
            if not self.lib.llama_memory_seq_rm(self._memory, slot, n_tokens, -1):
                self.lib.llama_memory_seq_rm(self._memory, slot, -1, -1)
                n_tokens = 0
            self.lengths[slot] = n_tokens
        return self.lengths[slot]

    def share(self, source: int, slot: int, n_tokens: int) -> None:
        """See `Slots`; the two share cells."""
        self.lib.llama_memory_seq_cp(self._memory, source, slot, 0, n_tokens)
        self.lengths[slot] = n_tokens

    def clear(self) -> None:
        """Forget everything."""
        self.lib.llama_memory_clear(self._memory, False)
        self.lengths = [0] * len(self.lengths)

    def save(self, slot: int = 0) -> bytearray:
        """See `Slots`; for any context of the same model and build."""
        state = bytearray(self.lib.llama_state_seq_get_size(self.ctx, slot))
        pointer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        written = self.lib.llama_state_seq_get_data(self.ctx, pointer, len(state), slot)
        if written != len(state):
            raise ModelError(f"llama.cpp could not save its state: {_reason()}", "run it again with --prefix-cache off")
        return state

    def restore(self, state: bytes | bytearray | memoryview, n_tokens: int, slot: int = 0) -> bool:
        """See `Slots`.

        A memoryview must be of writable memory, though it is only read: ctypes points into no other without a copy.
        """
        kind = ctypes.c_uint8 * len(state)
        pointer = kind.from_buffer_copy(state) if isinstance(state, bytes) else kind.from_buffer(state)
        whole = self.lib.llama_state_seq_set_data(self.ctx, pointer, len(state), slot) == len(state)
        if whole and self.lib.llama_memory_seq_rm(self._memory, slot, n_tokens, -1):
            self.lengths[slot] = n_tokens
            return True
        self.lib.llama_memory_seq_rm(self._memory, slot, -1, -1)
        self.lengths[slot] = 0
        return False

    def fits(self, n_new: int, n_all: int, n_promised: int) -> bool:
        """See `Slots`."""
        return sum(self.lengths) + n_promised + n_new <= self.n_cells


class BatchSlots(LlamaSlots):
    """Slots that are decoded together, in cells that never change order.

    Attention adds up cell by cell, so a token in a freed cell in front of earlier tokens would round otherwise than in
    a context of its own. Hence nothing is freed while sequences run: what is forgotten goes to a hidden sequence, until
    all are moved together (`compact`) or cleared. With that, batched logits are bit for bit those of a single sequence,
    as long as that decodes on one thread (llama.cpp divides the attention of a lone token among threads) and no adapter
    is applied (its product with a lone row rounds otherwise: log-probabilities differ by some hundredths).
    """

    def __init__(self, lib: ModuleType, weights: Weights, n_cells: int, threads: Threads, n_slots: int) -> None:
        n_batch = max(n_slots * _MAX_NEW, CHUNK)
        super().__init__(lib, weights, n_cells, threads, n_batch=n_batch, n_ubatch=_ROWS_AT_ONCE, n_slots=n_slots + 1)
        self._forgotten = n_slots
        del self.lengths[n_slots]
        self._n_used = 0  # cells that hold anything, what is forgotten included

    def append(
        self,
        more: Sequence[tuple[int, Sequence[int]]],
        cancel: Cancel | None = None,
        wanted: Collection[int] | None = None,
    ) -> list[int]:
        """See `Slots`."""
        ends = super().append(more, cancel, wanted)
        self._n_used += ends[-1] + 1
        return ends

    def truncate(self, slot: int, n_tokens: int = 0) -> int:
        """See `Slots`; frees no cell, unless the model can't forget a part."""
        if n_tokens < self.lengths[slot]:
            self.lib.llama_memory_seq_cp(self._memory, slot, self._forgotten, n_tokens, -1)
        held = super().truncate(slot, n_tokens)
        if held < n_tokens:
            self.lib.llama_memory_seq_rm(self._memory, self._forgotten, -1, -1)
            self._n_used = sum(self.lengths)
        return held

    def restore(self, state: bytes | bytearray | memoryview, n_tokens: int, slot: int = 0) -> bool:
        """See `Slots`."""
        self._n_used += n_tokens
        return super().restore(state, n_tokens, slot)

    def fits(self, n_new: int, n_all: int, n_promised: int) -> bool:
        """See `Slots`."""
        if self._n_used + n_promised + n_new <= self.n_cells:
            return True
        if not super().fits(n_new, n_all, n_promised):
            return False
        self.compact()
        return True

    def compact(self) -> None:
        """Move all sequences together; what they shared they no longer share."""
        states = [(self.save(slot), n_tokens, slot) for slot, n_tokens in enumerate(self.lengths) if n_tokens]
        self.clear()
        for state in states:
            if not self.restore(*state):
                raise ModelError("llama.cpp refused a sequence that it had saved itself", "free memory and try again")

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._n_used = 0


def _reason() -> str:
    """The latest error line; earlier ones may be of calls long ago."""
    return llama_lib.last_errors[-1] if llama_lib.last_errors else "no reason given"
