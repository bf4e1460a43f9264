"""The weights of a GGUF file as ONNX Runtime's `MatMulNBits` takes them: rows in blocks of 32 numbers of 8 or 4 bits.

Q8_0 and Q4_0 hold the same: a block's scale and its whole numbers. They are taken over as they are, number by number;
what is in another format is rounded to Q8_0 first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge.errors import ModelError
from prlm_edge.gguf.header import Header, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 32
_F32, _Q4_0, _Q8_0 = 0, 2, 8  # ggml's types


@dataclass(frozen=True)
class Blocks:
    """A matrix in blocks: `scales` [rows, blocks], `numbers` [rows, blocks, bytes of a block].

    A byte holds one number plus 128 (8 bits), or two plus 8 each, the earlier one in the lower half (4 bits).
    """

    bits: int
    scales: NDArray[np.float32]
    numbers: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, blocks = self.scales.shape
        return rows, blocks * BLOCK

    def widened(self) -> Blocks:
        """The same numbers in 8 bits."""
        import numpy as np

        if self.bits == 8:
            return self
        pairs = np.stack([self.numbers & 0x0F, self.numbers >> 4], axis=-1)
        return Blocks(8, self.scales, (pairs + np.uint8(128 - 8)).reshape(*self.scales.shape, BLOCK))


class Tensors:
    """The tensors of a GGUF file, each taken once.

    Args:
        path: The file.
        header: What it says of itself.
    """

    def __init__(self, path: Path, header: Header) -> None:
        import numpy as np

        self._path, self._start = path, header.start
        self._left: dict[str, TensorInfo] = {tensor.name: tensor for tensor in header.tensors}
        self._bytes: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")

    def __contains__(self, name: str) -> bool:
        return name in self._left

    @property
    def left(self) -> list[str]:
        """Names of the tensors that were not taken."""
        return list(self._left)

    def vector(self, name: str) -> NDArray[np.float32]:
        """A vector of floats.

        Raises:
            ModelError: The file has no such vector.
        """
        import numpy as np

        info = self._take(name)
        if info.type != _F32:
            raise ModelError(f"{self._path}: {name} is not of 32-bit floats", "fetch the model again")
        return self._data(info, 4 * math.prod(info.shape)).view(np.float32)

    def rows(self, name: str) -> Blocks:
        """A matrix.

        Raises:
            ModelError: The file has no such matrix, or one whose rows are no whole blocks.
        """
        import numpy as np

        info = self._take(name)
        if len(info.shape) != 2 or info.shape[0] % BLOCK:
            raise ModelError(
                f"{self._path}: {name} is {info.shape}, not rows of blocks of {BLOCK}", "try another model"
            )
        n_columns, n_rows = info.shape
        bits = 4 if info.type == _Q4_0 else 8
        n_bytes = 2 + BLOCK * bits // 8
        if info.type in (_Q4_0, _Q8_0):
            data = self._data(info, n_rows * n_columns // BLOCK * n_bytes)
        else:
            data = self._rounded(info)
        blocks = data.reshape(n_rows, n_columns // BLOCK, n_bytes)
        scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0].astype(np.float32)
        numbers = blocks[..., 2:]
        if bits == 8:
            return Blocks(bits, scales, numbers ^ np.uint8(128))  # of -128 to 127, as two's complement, to 0 to 255
        halves = np.concatenate([numbers & 0x0F, numbers >> 4], axis=-1)  # the lower halves come first there
        return Blocks(bits, scales, halves[..., ::2] | halves[..., 1::2] << 4)

    def _take(self, name: str) -> TensorInfo:
        try:
            return self._left.pop(name)
        except KeyError:
            raise ModelError(f"{self._path}: it has no {name}", "fetch the model again, or try another") from None

    def _data(self, info: TensorInfo, n_bytes: int) -> NDArray[np.uint8]:
        at = self._start + info.offset
        if at + n_bytes > len(self._bytes):
            raise ModelError(f"{self._path}: it ends before its {info.name}", "fetch the model again")
        return self._bytes[at : at + n_bytes]

    def _rounded(self, info: TensorInfo) -> NDArray[np.uint8]:
        """A matrix of any format as Q8_0's bytes."""
        import gguf

        kinds: Any = gguf.GGMLQuantizationType
        kind = kinds(info.type)
        shape = gguf.quant_shape_to_byte_shape(tuple(reversed(info.shape)), kind)
        data = self._data(info, math.prod(shape)).reshape(shape)
        try:
            if kind.name in ("F32", "F16"):
                data = data.view("f4" if kind.name == "F32" else "f2")
            values = gguf.quants.dequantize(data, kind)
        except NotImplementedError:
            raise ModelError(
                f"{info.name}: numpy can't read {kind.name}", "take the model's q8_0 or q4_0 file"
            ) from None
        found: NDArray[np.uint8] = gguf.quants.quantize(values, kinds.Q8_0)
        return found.reshape(-1)


def stacked(parts: list[Blocks]) -> Blocks:
    """Matrices of the same width above each other; in 8 bits where one of them is."""
    import numpy as np

    if len({part.bits for part in parts}) > 1:
        parts = [part.widened() for part in parts]
    scales, numbers = (np.concatenate([getattr(part, what) for part in parts]) for what in ("scales", "numbers"))
    return Blocks(parts[0].bits, scales, numbers)
