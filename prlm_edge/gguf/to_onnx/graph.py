"""The graph of a language model of the llama or qwen2 architecture, written layer by layer from a GGUF file's tensors.

ONNX Runtime's own operators do the work: `GroupQueryAttention` over a cache that stays in place, matrices in blocks
(`MatMulNBits`), and tokens looked up in the rows of the output layer where the two are one. Inputs and outputs are
those of onnxruntime-genai's builder: input_ids, attention_mask and past_key_values in; logits of the last token and
present out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from prlm_edge.errors import ModelError
from prlm_edge.gguf.to_onnx.weights import BLOCK, Blocks, Tensors, stacked
from prlm_edge.gguf.to_onnx.wire import FLOAT, INT32, INT64, Graph

#: Architectures, and whether a head's rotation mixes neighbours (or the two halves of the head).
ARCHITECTURES = {"llama": True, "qwen2": False}
_OTHERWISE = "install the engine that runs GGUF files: prlm-edge[gguf]"
_INT8 = 4  # accuracy_level: what is multiplied with the blocks is rounded to 8 bits too, as llama.cpp does


@dataclass(frozen=True)
class Shape:
    """The numbers of a model; `rope_base` and `epsilon` are those of the rotations and the norms."""

    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    width: int
    n_ctx: int
    epsilon: float
    rope_base: float


def shape_of(metadata: Mapping[str, Any]) -> Shape:
    """What a GGUF file's metadata says.

    Raises:
        ModelError: It is of an architecture or has a feature that this graph has not.
    """
    kind = str(metadata.get("general.architecture"))
    if kind not in ARCHITECTURES:
        raise ModelError(f"{kind} models can't be run by ONNX Runtime here", _OTHERWISE)
    says: Callable[..., Any] = lambda key, default=None: metadata.get(f"{kind}.{key}", default)  # noqa: E731
    width, n_heads = int(says("embedding_length")), int(says("attention.head_count"))
    head_size = int(says("attention.key_length", width // n_heads))
    scaled = says("rope.scaling.type", "none") != "none"
    partly = int(says("rope.dimension_count", head_size)) != head_size
    if scaled or partly or says("expert_count") or says("attention.sliding_window"):
        raise ModelError(f"a {kind} model of this kind can't be run by ONNX Runtime here", _OTHERWISE)
    return Shape(
        kind,
        int(says("block_count")),
        n_heads,
        int(says("attention.head_count_kv", n_heads)),
        head_size,
        width,
        int(says("context_length")),
        float(says("attention.layer_norm_rms_epsilon", 1e-5)),
        float(says("rope.freq_base", 10_000.0)),
    )


class _Matrix(NamedTuple):
    """A matrix that is in the graph: the names of its tensors, and its size."""

    numbers: str
    scales: str
    n_rows: int
    n_columns: int
    bits: int


class Decoder:
    """A model's graph in the making.

    Args:
        graph: An empty one.
        shape: The model's numbers.
        weights: Its tensors.
    """

    def __init__(self, graph: Graph, shape: Shape, weights: Tensors) -> None:
        self._graph, self._shape, self._weights = graph, shape, weights

    def write(self, progress: Callable[[int, int], None]) -> int:
        """Write all nodes and tensors; returns the number of logits.

        Raises:
            ModelError: A tensor is missing, or there is one that this graph has not.
        """
        graph, n_layers = self._graph, self._shape.n_layers
        graph.value("in", "input_ids", INT64, "batch", "tokens")
        graph.value("in", "attention_mask", INT64, "batch", "cells")
        known = [*self._lengths(), *self._rotations()]
        stream, head, n_tokens = self._embedding()
        norm = {"epsilon": self._shape.epsilon, "axis": -1}
        inputs = [stream, self._vector("blk.0.attn_norm.weight")]
        normed = graph.node("SimplifiedLayerNormalization", inputs, "first", **norm)
        for layer in range(n_layers):
            progress(layer, n_layers)
            name = f"blk.{layer}"
            normed, stream = self._added(self._attention(layer, normed, known), stream, f"{name}.ffn_norm.weight")
            next_norm = f"blk.{layer + 1}.attn_norm" if layer + 1 < n_layers else "output_norm"
            normed, stream = self._added(self._feed_forward(name, normed), stream, f"{next_norm}.weight")
        last = graph.node("Gather", [normed, self._whole("last", -1)], "last_hidden", axis=1)
        self._multiplied("output", last, head, "logits")
        graph.value("out", "logits", FLOAT, "batch", 1, n_tokens)
        if self._weights.left:
            name = self._weights.left[0]
            raise ModelError(f"the model has {name}, for which ONNX Runtime has no place here", _OTHERWISE)
        progress(n_layers, n_layers)
        return n_tokens

    def _lengths(self) -> tuple[str, str]:
        """Cells of each row that are in use, less one; and cells of the longest row."""
        graph = self._graph
        sums = graph.node("ReduceSum", ["attention_mask", self._whole("axis", 1)], "sums", keepdims=0)
        less = graph.node("Sub", [sums, self._whole("one", 1)], "less")
        sizes = graph.node("Shape", ["attention_mask"], "sizes")
        longest = graph.node("Gather", [sizes, self._whole("second", 1, scalar=True)], "longest", axis=0)
        return (
            graph.node("Cast", [less], "rows_less_one", to=INT32),
            graph.node("Cast", [longest], "cells_in_all", to=INT32),
        )

    def _rotations(self) -> tuple[str, str]:
        """Cosines and sines of each position's angles, [positions, half a head]."""
        import numpy as np

        shape, half = self._shape, self._shape.head_size // 2
        speeds = shape.rope_base ** -(np.arange(half, dtype=np.float64) / half)
        if "rope_freqs.weight" in self._weights:
            speeds = speeds / self._weights.vector("rope_freqs.weight")
        angles = np.outer(np.arange(shape.n_ctx), speeds)
        return (
            self._graph.large("cos_cache", np.cos(angles).astype(np.float32)),
            self._graph.large("sin_cache", np.sin(angles).astype(np.float32)),
        )

    def _embedding(self) -> tuple[str, _Matrix, int]:
        """The embedded tokens, the output layer, and how many logits it gives."""
        rows = self._weights.rows("token_embd.weight")
        n_tokens = rows.shape[0]
        numbers = self._graph.large("embedding", rows.numbers, ("embedding_rows", (n_tokens, -1)))
        scales = self._graph.large("embedding_scales", rows.scales)
        how = {"bits": rows.bits, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        inputs = ["embedding_rows", "input_ids", scales]
        stream = self._graph.node("GatherBlockQuantized", inputs, "embedded", **how)
        if "output.weight" not in self._weights:
            return stream, _Matrix(numbers, scales, *rows.shape, rows.bits), n_tokens
        head = self._weights.rows("output.weight")
        return stream, self._stored("output.weight", head), head.shape[0]

    def _attention(self, layer: int, normed: str, known: Sequence[str]) -> str:
        """What a layer's heads gather from the tokens so far."""
        shape, name, graph = self._shape, f"blk.{layer}", self._graph
        parts = [f"{name}.attn_{which}" for which in "qkv"]
        rows = stacked([self._weights.rows(f"{part}.weight") for part in parts])
        qkv = self._multiplied(
            f"{name}.qkv", normed, self._stored(f"{name}.qkv.weight", rows), bias=self._bias(name, parts)
        )
        cache = (shape.n_kv_heads, "cells", shape.head_size)
        past = [graph.value("in", f"past_key_values.{layer}.{one}", FLOAT, "batch", *cache) for one in ("key", "value")]
        present = [graph.value("out", f"present.{layer}.{one}", FLOAT, "batch", *cache) for one in ("key", "value")]
        how = {"num_heads": shape.n_heads, "kv_num_heads": shape.n_kv_heads, "do_rotary": 1}
        how["rotary_interleaved"] = int(ARCHITECTURES[shape.architecture])
        heads = graph.node("GroupQueryAttention", [qkv, "", "", *past, *known], f"{name}.heads", *present, **how)
        return self._linear(f"{name}.attn_output", heads)

    def _bias(self, name: str, parts: Sequence[str]) -> str:
        """The biases of queries, keys and values together; "" where there are none."""
        import numpy as np

        if f"{parts[0]}.bias" not in self._weights:
            return ""
        vectors = [self._weights.vector(f"{part}.bias") for part in parts]
        return self._graph.small(f"{name}.qkv.bias", np.concatenate(vectors))

    def _feed_forward(self, name: str, normed: str) -> str:
        """down(gate · sigmoid(gate) · up)."""
        gate, up = (self._linear(f"{name}.ffn_{which}", normed) for which in ("gate", "up"))
        open_ = self._graph.node("Sigmoid", [gate], f"{name}.sigmoid")
        swish = self._graph.node("Mul", [gate, open_], f"{name}.swish")
        return self._linear(f"{name}.ffn_down", self._graph.node("Mul", [swish, up], f"{name}.gated"))

    def _added(self, more: str, stream: str, norm: str) -> tuple[str, str]:
        """`more` added to the stream of a token: that sum normed, and the sum itself."""
        outputs = (f"{norm}.normed", "", "", f"{norm}.sum")
        how = {"epsilon": self._shape.epsilon}
        self._graph.node("SkipSimplifiedLayerNormalization", [more, stream, self._vector(norm)], *outputs, **how)
        return outputs[0], outputs[3]

    def _linear(self, name: str, inputs: str) -> str:
        return self._multiplied(name, inputs, self._stored(f"{name}.weight", self._weights.rows(f"{name}.weight")))

    def _multiplied(self, name: str, inputs: str, by: _Matrix, output: str = "", *, bias: str = "") -> str:
        how = {"N": by.n_rows, "K": by.n_columns, "bits": by.bits, "block_size": BLOCK, "accuracy_level": _INT8}
        names = [inputs, by.numbers, by.scales, *(["", "", bias] if bias else [])]
        return self._graph.node("MatMulNBits", names, output or f"{name}.product", **how)

    def _stored(self, name: str, rows: Blocks) -> _Matrix:
        scales = self._graph.large(f"{name}.scales", rows.scales)
        return _Matrix(self._graph.large(name, rows.numbers), scales, *rows.shape, rows.bits)

    def _vector(self, name: str) -> str:
        return self._graph.small(name, self._weights.vector(name))

    def _whole(self, name: str, number: int, *, scalar: bool = False) -> str:
        import numpy as np

        return self._graph.small(name, np.array(number if scalar else [number], np.int64))
