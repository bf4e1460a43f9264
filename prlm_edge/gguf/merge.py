"""Merge a LoRA-GGUF into the GGUF file it was made for, on the device: numpy and `gguf` alone, no PyTorch.

W + scale·B·A for each adapted layer, computed in 32 bits; both files keep llama.cpp's order of rows, so nothing needs
to be turned. Tokenizer and template stay the base's; what it was trained for, and whether to reason, says the adapter.
A base in few bits loses twice: it is merged as it is, then rounded again. The best merge is that of `export/merge.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge.errors import BAD_DATA, MissingError, ModelError, UsageError
from prlm_edge.gguf.file import new_file, write_tensors
from prlm_edge.gguf.header import ADAPTER, REASONS, TASKS
from prlm_edge.models.store import require_space
from prlm_edge.storage import private_dir, write_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Formats that numpy writes -> llama_ftype.
FORMATS = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7}
_WRITABLE = ("F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
_TOKENS, _OUTPUT = "token_embd.weight", "output.weight"  # never below eight bits, or the base's: all depends on them
_OWN_KEYS = (
    *("GGUF.", "general.alignment", "general.architecture", "general.file_type", "quantize."),
    *(ADAPTER, REASONS, TASKS),
)
_BLOCK = 1 << 24  # values that are computed at a time: the vocabulary's matrix of a 1.5B model has 14 times as many
_HINT = "name the model file that the adapter was made for"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Update:
    """What is added to a layer: scale·B·A, of A [rank, inputs] and B [outputs, rank]."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.b), self.a.shape[1]


def merge(
    base: Path,
    adapter: Path | None,
    out: Path,
    quant: str | None = None,
    progress: Progress = lambda done, total: None,
) -> int:
    """Write `base` with `adapter` merged in; `out` appears whole or not at all.

    Args:
        base: A GGUF model, in any format.
        adapter: A LoRA-GGUF of it; None only brings the model into another format.
        out: The merged GGUF file, none of those two; it names the adapter (`header.ADAPTER`).
        quant: Format of all matrices: one of `FORMATS`. In q4_0 the output's has eight bits, and the tokens' vectors
            have eight or the base's fewer. None keeps each matrix in its own, or in f16 where it is changed and numpy
            can't write its format.
        progress: Called with (tensors done, tensors in all).

    Returns:
        How many layers it changed.

    Raises:
        UsageError: No such file.
        MissingError: The `gguf` package is missing.
        ModelError: A damaged file, or an adapter of another model.
        PrlmError: There is no room, or it can't be written.
    """
    model, file = _read(base), _read(adapter) if adapter else None
    updates: dict[str, _Update] = {}
    said: dict[str, Any] = {}
    if adapter is not None:
        _, alpha, sides = _lora(file, adapter)
        updates = {name: _Update(a, b, alpha / len(a) if alpha else 1.0) for name, (a, b) in sides.items()}
        _check(base, model, adapter, file, updates)
        said = {ADAPTER: adapter.stem, REASONS: _says(file, REASONS) in (True, "true"), TASKS: _says(file, TASKS)}
    try:
        private_dir(out.parent)
    except OSError as error:
        raise write_error(out, error) from error
    require_space(out.parent, _bytes(model, updates, quant))
    _write(model, updates, out, quant, progress, said or {key: _says(model, key) for key in (ADAPTER, REASONS, TASKS)})
    return len(updates)


def _read(path: Path) -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingError("the gguf package is not installed", 'pip install "prlm-edge[bake]"') from None
    if not path.is_file():
        raise UsageError(f"{path}: no such file", "name a .gguf file")
    try:
        file = gguf.GGUFReader(path)
        for field in file.fields.values():
            field.contents()  # texts may be no UTF-8
        return file
    except (OSError, *BAD_DATA) as error:
        line = " ".join(str(error).split())[:120]
        raise ModelError(f"{path}: not a GGUF file, or a damaged one: {line}", "fetch or export it again") from None


def _says(file: Any, key: str) -> Any:
    field = file.get_field(key)
    return None if field is None else field.contents()


def read_lora(path: Path) -> tuple[str, float, dict[str, tuple[NDArray[Any], NDArray[Any]]]]:
    """A LoRA-GGUF: architecture, alpha (0 where none is written), and A and B by the name of the tensor they change.

    Raises:
        UsageError: No such file.
        ModelError: It is none, or damaged.
    """
    return _lora(_read(path), path)


def _lora(file: Any, path: Path) -> tuple[str, float, dict[str, tuple[NDArray[Any], NDArray[Any]]]]:
    if _says(file, "general.type") != "adapter" or _says(file, "adapter.type") != "lora":
        raise ModelError(f"{path}: not a LoRA adapter", "name a GGUF file that `prlm-edge export adapter` wrote")
    sides = {tensor.name: _values(tensor) for tensor in file.tensors}
    found = {}
    for name, a in sides.items():
        target, _, side = name.rpartition(".lora_")
        b = sides.get(f"{target}.lora_b")
        if side not in ("a", "b") or f"{target}.lora_a" not in sides or b is None:
            raise ModelError(f"{path}: {name} is no half of a LoRA update", "export the adapter again")
        if side == "a":
            found[target] = a, b
    return str(_says(file, "general.architecture")), float(_says(file, "adapter.lora.alpha") or 0.0), found


def _check(base: Path, model: Any, adapter: Path, file: Any, updates: Mapping[str, _Update]) -> None:
    """Check that the adapter is of this model.

    Raises:
        ModelError: It isn't.
    """
    if _says(model, "general.type") == "adapter":
        raise ModelError(f"{base}: an adapter, not a model", _HINT)
    of, architecture = _says(file, "general.architecture"), _says(model, "general.architecture")
    if of != architecture:
        raise ModelError(f"{adapter}: an adapter of {of} models, and {base} is {architecture}", _HINT)
    shapes = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in model.tensors}
    for name, update in updates.items():
        if name == _TOKENS or shapes.get(name) != update.shape or update.a.shape[0] != update.b.shape[1]:
            raise ModelError(f"{adapter}: does not fit {base}: {name} is {update.shape}, not {shapes.get(name)}", _HINT)


def _write(
    model: Any,
    updates: Mapping[str, _Update],
    target: Path,
    quant: str | None,
    progress: Progress,
    said: Mapping[str, Any],
) -> None:
    import gguf
    import numpy as np

    kinds = _kinds(model, updates, quant)
    kept = all(kinds[tensor.name] == tensor.tensor_type for tensor in model.tensors)
    file_type = _says(model, "general.file_type") if quant is None and kept else FORMATS[quant or "f16"]
    with new_file(target, _says(model, "general.architecture")) as writer:
        for key, field in model.fields.items():
            value = field.contents()
            if not key.startswith(_OWN_KEYS) and value != []:
                writer.add_key_value(key, value, field.types[0], field.types[-1] if len(field.types) > 1 else None)
        if file_type is not None:
            writer.add_file_type(int(file_type))
        for key, value in said.items():
            if isinstance(value, bool):
                writer.add_bool(key, value)
            elif value:
                writer.add_string(key, str(value))
        for tensor in model.tensors:
            kind, shape = kinds[tensor.name], tuple(int(n) for n in reversed(tensor.shape))
            bytes_ = gguf.quants.quant_shape_to_byte_shape(shape, kind)
            writer.add_tensor_info(tensor.name, bytes_, np.dtype(np.uint8), int(np.prod(bytes_)), raw_dtype=kind)
        write_tensors(writer, _each_merged(model.tensors, updates, kinds, progress))


def _each_merged(
    tensors: Sequence[Any], updates: Mapping[str, _Update], kinds: Mapping[str, Any], progress: Progress
) -> Iterator[NDArray[Any]]:
    for done, tensor in enumerate(tensors):
        progress(done, len(tensors))
        yield _merged(tensor, updates.get(tensor.name), kinds[tensor.name])
    progress(len(tensors), len(tensors))


def _kinds(model: Any, updates: Mapping[str, _Update], quant: str | None) -> dict[str, Any]:
    """The `gguf.GGMLQuantizationType` that each tensor is written in, by name."""
    is_tied = all(tensor.name != _OUTPUT for tensor in model.tensors)
    found = {tensor.name: _kind(tensor, quant, is_changed=tensor.name in updates) for tensor in model.tensors}
    for tensor in model.tensors:
        small = quant == "q4_0" and _bits(tensor.tensor_type) < _bits(found[tensor.name])
        if small and tensor.name == _TOKENS and not is_tied:
            found[_TOKENS] = tensor.tensor_type  # rows are looked up in it, so its format costs no time
    return found


def _bits(kind: Any) -> float:
    """Bits a value."""
    import gguf

    n_values, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    return float(8 * n_bytes / n_values)


def _kind(tensor: Any, quant: str | None, *, is_changed: bool) -> Any:
    import gguf

    kinds = gguf.GGMLQuantizationType
    if len(tensor.shape) < 2 or (quant is None and not is_changed):
        return tensor.tensor_type
    if quant is None:
        return tensor.tensor_type if tensor.tensor_type.name in _WRITABLE else kinds.F16
    kind = kinds.Q8_0 if quant == "q4_0" and tensor.name in (_TOKENS, _OUTPUT) else kinds[quant.upper()]
    return kinds.F16 if int(tensor.shape[0]) % gguf.GGML_QUANT_SIZES[kind][0] else kind


def _merged(tensor: Any, update: _Update | None, kind: Any) -> NDArray[Any]:
    """A tensor's new contents in the format `kind`."""
    import gguf
    import numpy as np

    if update is None and kind == tensor.tensor_type:
        kept: NDArray[Any] = tensor.data
        return kept
    columns = int(tensor.shape[0])
    step = max(1, _BLOCK // columns) if tensor.data.ndim > 1 else len(tensor.data)
    blocks = []
    for at in range(0, len(tensor.data), step):
        values = _values(tensor, at, at + step)
        if update is not None:
            values = values + np.float32(update.scale) * (update.b[at : at + step] @ update.a)
        with np.errstate(over="ignore"):
            blocks.append(gguf.quants.quantize(values, kind))
    found: NDArray[Any] = np.concatenate(blocks)
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise ModelError(f"{tensor.name}: a weight is too large for 16 bits, or no number", "bake it as f32")
    return found


def _values(tensor: Any, start: int = 0, end: int | None = None) -> NDArray[np.float32]:
    """A tensor's values in 32 bits, of some of its rows or of all."""
    import gguf
    import numpy as np

    try:
        return np.asarray(gguf.quants.dequantize(tensor.data[start:end], tensor.tensor_type), np.float32)
    except NotImplementedError:
        raise ModelError(
            f"{tensor.name}: numpy can't read {tensor.tensor_type.name}", "bake into the model's f16 or q8_0 file"
        ) from None


def _bytes(model: Any, updates: Mapping[str, _Update], quant: str | None) -> int:
    """Bytes of the tensors to be written."""
    import gguf

    total, kinds = 0, _kinds(model, updates, quant)
    for tensor in model.tensors:
        block, size = gguf.GGML_QUANT_SIZES[kinds[tensor.name]]
        total += int(tensor.n_elements) // block * size
    return total
