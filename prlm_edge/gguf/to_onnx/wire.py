"""Writes an ONNX graph: nodes and tensors as protocol buffers (the ONNX project's onnx.proto), weights in another file.

ONNX Runtime only reads such files. The package that writes them takes 45 MB with what it needs; the few messages that a
graph needs are a number, a kind and the bytes of each field.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOAT, UINT8, INT32, INT64 = 1, 2, 6, 7  # TensorProto.DataType
_TYPES = {"float32": FLOAT, "uint8": UINT8, "int32": INT32, "int64": INT64}
_PAGE = 4096  # weights begin at pages, so that they can be mapped into memory
_IR_VERSION, _OPSET, _MICROSOFT = 10, 21, "com.microsoft"
_OWN = ("GatherBlockQuantized", "GroupQueryAttention", "MatMulNBits", "SkipSimplifiedLayerNormalization")


def message(*fields: tuple[int, int | float | str | bytes]) -> bytes:
    """A message of (number, value) fields: whole numbers as varints, floats as 32 bits, texts and bytes by length."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, float):
            out += _varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return bytes(out)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers take ten bytes
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Graph:
    """A graph in the making.

    Args:
        weights: An empty binary file that takes the large tensors.
        file: Its name, as the graph names it.
    """

    def __init__(self, weights: IO[bytes], file: str) -> None:
        self._weights, self._file = weights, file
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._ends: dict[str, list[bytes]] = {"in": [], "out": []}

    def node(self, kind: str, inputs: Sequence[str], *outputs: str, **how: int | float) -> str:
        """Add a node of an operator; returns the name of its first output. "" leaves an input or output out."""
        fields: list[tuple[int, Any]] = [*((1, name) for name in inputs), *((2, name) for name in outputs)]
        fields += [(3, outputs[0]), (4, kind), (7, _MICROSOFT if kind in _OWN else "")]
        for name, value in how.items():
            typed = ((2, value), (20, 1)) if isinstance(value, float) else ((3, value), (20, 2))
            fields.append((5, message((1, name), *typed)))
        self._nodes.append(message(*fields))
        return outputs[0]

    def value(self, way: str, name: str, type_: int, *shape: int | str) -> str:
        """Declare an input (`way` "in") or output ("out"); a size of `shape` may have a name instead of a number."""
        dims = [(1, message((2 if isinstance(size, str) else 1, size))) for size in shape]
        tensor = message((1, type_), (2, message(*dims)))
        self._ends[way].append(message((1, name), (2, message((1, tensor)))))
        return name

    def small(self, name: str, array: NDArray[Any]) -> str:
        """Add a tensor that is kept in the graph itself."""
        self._tensors.append(_tensor(name, array, (9, array.tobytes())))
        return name

    def large(self, name: str, array: NDArray[Any], *others: tuple[str, Sequence[int]]) -> str:
        """Add a tensor that is kept in the weights' file; `others` are names and shapes of the same bytes."""
        self._weights.write(b"\0" * (-self._weights.tell() % _PAGE))
        at = self._weights.tell()
        self._weights.write(array.data.cast("B") if array.flags.c_contiguous else array.tobytes())
        places = {"location": self._file, "offset": str(at), "length": str(array.nbytes)}
        outside = [(13, message((1, key), (2, value))) for key, value in places.items()]
        for own_name, shape in ((name, array.shape), *others):
            self._tensors.append(_tensor(own_name, array.reshape(shape), *outside, (14, 1)))
        return name

    def model(self) -> bytes:
        """The whole file's bytes."""
        parts = [(1, node) for node in self._nodes] + [(2, "prlm-edge")] + [(5, tensor) for tensor in self._tensors]
        graph = message(*parts, *((11, one) for one in self._ends["in"]), *((12, one) for one in self._ends["out"]))
        opsets = [(8, message((1, name), (2, version))) for name, version in (("", _OPSET), (_MICROSOFT, 1))]
        return message((1, _IR_VERSION), (2, "prlm-edge"), (7, graph), *opsets)


def _tensor(name: str, array: NDArray[Any], *data: tuple[int, int | bytes]) -> bytes:
    dims = [(1, int(size)) for size in array.shape]
    return message(*dims, (2, _TYPES[array.dtype.name]), (8, name), *data)
