"""ONNX Runtime with a language model's graph: takes tokens and the cache of those before them, gives logits.

The cache is memory of ours that the graph's GroupQueryAttention reads and writes in place (keys and values in and out
are bound to one address), so a step copies nothing, and to forget tokens is to count fewer of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prlm_edge.backends.engine.slots import Cancelled
from prlm_edge.backends.onnx.folder import OnnxFolder
from prlm_edge.errors import ModelError, first_line, no_onnx
from prlm_edge.types import Cancel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_POLL_S = 0.02
_ADVICE = "pull or export it again, or try a smaller -k or --n-ctx"
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


class Session:
    """A loaded graph.

    Args:
        model: Its folder.
        n_threads: Threads.

    Attributes:
        model: Its folder.
        dtype: Of keys and values.
        cell_bytes: What a token takes in the cache.

    Raises:
        MissingError: onnxruntime is missing.
        ModelError: It can't be loaded, or is no language model with a cache.
    """

    def __init__(self, model: OnnxFolder, n_threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise no_onnx("an ONNX model") from None
        import numpy as np

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
        options.log_severity_level = 4  # what is fatal; errors are raised
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it starves whatever else runs
        try:
            self._session = onnxruntime.InferenceSession(str(model.file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own
            raise ModelError(f"{model.file}: ONNX Runtime can't load it: {first_line(error)}", _ADVICE) from error
        self._onnxruntime, self.model = onnxruntime, model
        types = {entry.name: entry.type for entry in self._session.get_inputs()}
        kind = _TYPES.get(types.get("past_key_values.0.key", ""))
        if kind is None or not {"input_ids", "attention_mask"} <= types.keys():
            raise ModelError(f"{model.file}: no language model with a key-value cache", _ADVICE)
        self.dtype = np.dtype(kind)
        logits = next(entry for entry in self._session.get_outputs() if entry.name == "logits")
        self._logits_type = np.dtype(_TYPES.get(logits.type, "float32"))
        self._last_only = logits.shape[1] == 1  # as in our exports: those of a prompt's other tokens are not computed
        self._takes_positions = "position_ids" in types
        self.cell_bytes = 2 * model.n_layers * model.n_kv_heads * model.head_size * self.dtype.itemsize

    def buffers(self, n_rows: int, n_cells: int) -> list[NDArray[Any]]:
        """Keys and values, layer by layer, each [rows, heads, cells, head size]; memory is taken as it is filled."""
        import numpy as np

        model = self.model
        shape = (n_rows, model.n_kv_heads, n_cells, model.head_size)
        try:
            return [np.zeros(shape, self.dtype) for _ in range(2 * model.n_layers)]
        except MemoryError:
            raise ModelError(
                f"no memory for a context of {n_rows} x {n_cells} tokens", "lower n_ctx (`--n-ctx 2048`)"
            ) from None

    def bind(self, buffers: Sequence[NDArray[Any]], first_row: int, n_rows: int) -> Any:
        """A binding of the cache's rows `first_row` to before `first_row + n_rows`, for `run`."""
        binding = self._session.io_binding()
        for place, buffer in enumerate(buffers):
            layer, what = place // 2, ("key", "value")[place % 2]
            address = buffer.ctypes.data + first_row * buffer.strides[0]
            shape = [n_rows, *buffer.shape[1:]]
            binding.bind_input(f"past_key_values.{layer}.{what}", "cpu", 0, buffer.dtype.type, shape, address)
            binding.bind_output(f"present.{layer}.{what}", "cpu", 0, buffer.dtype.type, shape, address)
        return binding

    def run(
        self, binding: Any, tokens: NDArray[np.int64], lengths: Sequence[int], cancel: Cancel | None = None
    ) -> NDArray[Any]:
        """Append tokens to the rows that are bound.

        Args:
            binding: Of `bind`.
            tokens: [rows, tokens]; only a single row may bring several that follow others.
            lengths: Tokens that each row has already.
            cancel: Breaks off, once set.

        Returns:
            Logits of each row's last token, [rows, vocabulary].

        Raises:
            Cancelled: `cancel` was set.
            ModelError: It failed.
        """
        import numpy as np

        if cancel is not None and cancel.cancelled:
            raise Cancelled
        n_rows, n_new = tokens.shape
        mask = np.zeros((n_rows, max(lengths) + n_new), np.int64)
        for row, length in enumerate(lengths):
            mask[row, : length + n_new] = 1
        feeds = {"input_ids": tokens, "attention_mask": mask}
        if self._takes_positions:
            feeds["position_ids"] = np.array(lengths, np.int64)[:, None] + np.arange(n_new)
        out = np.empty((n_rows, 1 if self._last_only else n_new, self.model.n_vocab), self._logits_type)
        for name, value in feeds.items():
            binding.bind_cpu_input(name, value)
        binding.bind_output("logits", "cpu", 0, self._logits_type.type, list(out.shape), out.ctypes.data)
        options = self._onnxruntime.RunOptions()
        try:
            with _terminating(options, cancel):
                self._session.run_with_iobinding(binding, options)
        except Exception as error:  # onnxruntime raises classes of its own
            if cancel is not None and cancel.cancelled:
                raise Cancelled from error
            raise ModelError(f"{self.model.file}: ONNX Runtime failed: {first_line(error)}", _ADVICE) from error
        return out[:, -1]


@contextlib.contextmanager
def _terminating(options: Any, cancel: Cancel | None) -> Iterator[None]:
    """Let a run end early once `cancel` is set: a thread looks at it, since a run gives no control back."""
    if cancel is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(_POLL_S):
            if cancel.cancelled:
                options.terminate = True
                return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
