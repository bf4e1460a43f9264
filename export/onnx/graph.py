"""A change to the graph that onnxruntime-genai builds: 8-bit rows used twice.

Where a model's embedding is its output layer, the builder stores it twice at 8 bits: once quantized, once as 32-bit
floats (113 of SmolLM2's 259 MB). Here tokens are looked up in the quantized rows instead. (At 4 bits and at 32 the
builder itself stores it once.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prlm_edge.errors import ModelError


def share_embedding(built: Path, target: Path) -> None:
    """Write the graph `built` as `target`, its weights next to it as `target`.data.

    Args:
        built: The builder's model.onnx, of a model whose embedding is its output layer.
        target: In another folder.

    Raises:
        ModelError: The graph has another shape than the builder's.
    """
    import onnx_ir as ir

    model = ir.load(built)
    heads = [node for value in model.graph.outputs if value.name == "logits" and (node := value.producer())]
    if not heads:
        raise ModelError(f"{built}: its logits come from nowhere", "is onnxruntime-genai the pinned version?")
    lookup = next((node for node in model.graph if node.op_type == "Gather" and _looks_up(node)), None)
    if lookup is not None and heads[0].op_type == "MatMulNBits":
        _share(ir, model.graph, heads[0], lookup)
    ir.save(model, target, external_data=f"{target.name}.data")


def _looks_up(node: Any) -> bool:
    """Whether this is the lookup of the tokens."""
    return len(node.inputs) == 2 and node.inputs[1].name == "input_ids"


def _share(ir: Any, graph: Any, head: Any, lookup: Any) -> None:
    """Look tokens up in the output layer's 8-bit rows instead of the builder's table of floats."""
    bits, block, width, n_rows = (head.attributes[name].as_int() for name in ("bits", "block_size", "K", "N"))
    if bits != 8 or width % block:
        return
    weights, scales, *zeros = head.inputs[1:4]
    rows = _reshape(ir, graph, lookup, weights, [n_rows, width])
    row_scales = _reshape(ir, graph, lookup, scales, [n_rows, width // block])
    row_zeros = [_reshape(ir, graph, lookup, zero, [n_rows, width // block]) for zero in zeros if zero is not None]
    how = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    inputs = [rows, lookup.inputs[1], row_scales, *row_zeros]
    name = "/model/embed_tokens/GatherBlockQuantized"
    found = _node(ir, "GatherBlockQuantized", name, inputs, domain="com.microsoft", **how)
    table, old = lookup.inputs[0], lookup.outputs[0]
    found.outputs[0].type, found.outputs[0].shape = old.type, old.shape
    graph.insert_before(lookup, found)
    old.replace_all_uses_with(found.outputs[0])
    graph.remove(lookup, safe=True)
    if not table.uses():
        del graph.initializers[table.name]


def _reshape(ir: Any, graph: Any, before: Any, value: Any, shape: list[int]) -> Any:
    name = f"/model/embed_tokens/{value.name}/Reshape"
    node = _node(ir, "Reshape", name, [value, _constant(ir, graph, f"{name}/shape", shape)])
    graph.insert_before(before, node)
    return node.outputs[0]


def _constant(ir: Any, graph: Any, name: str, numbers: list[int]) -> Any:
    import numpy as np

    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _node(ir: Any, kind: str, name: str, inputs: list[Any], *, domain: str = "", **attributes: int) -> Any:
    node = ir.node(kind, inputs, attributes or None, domain=domain, name=name)
    node.outputs[0].name = f"{name}/output_0"
    return node
