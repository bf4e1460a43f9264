"""Reads a GGUF file's header without any package, and refuses what would abort the process inside llama.cpp.

llama.cpp checks much of a file by itself and says what is wrong. Where it doesn't, it calls abort() or reads past an
array, and with it goes the app that embeds us. Layout: docs/gguf.md of the ggml project (magic, version, counts,
key-value pairs, tensor table, data).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA, ModelError, UsageError

ADAPTER = "prlm.adapter"  # metadata of a model file with an adapter merged in: the adapter's name
REASONS = "prlm.reasons"  # metadata of our model and adapter files: "true" where training taught the model to reason
TASKS = "prlm.tasks"  # and the names of the tasks that it was trained for, with commas between
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_F32 = 0
_INTEGERS = range(24, 29)  # 8 to 64 bits, and float64: llama.cpp computes with none of them
_MOST_TENSORS, _MOST_KEYS = 1 << 16, 1 << 14
_MOST = 1 << 26  # of any count or width
_ENCODERS = ("bert", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "t5encoder")
_BROKEN = "choose another file, or pull a model: `prlm-edge model list` names them"


@dataclass(frozen=True)
class TensorInfo:
    """An entry of the tensor table: `shape` with the fastest axis first, `type` by ggml's number, `offset` in bytes."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True)
class Header:
    """What stands before a GGUF file's data: metadata by key, the tensors in file order, and where the data begins."""

    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    start: int = 0

    @property
    def architecture(self) -> str:
        """Such as "llama"; "" where the file names none."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else ""


class _Cursor:
    """Reads little-endian values one after the other; struct.error where the file ends first."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def one(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self) -> str:
        length = self.one("Q")
        end = self.at + length
        if end > len(self.data):
            raise struct.error("a text runs past the end")
        value = self.data[self.at : end].decode("utf-8", "surrogateescape")
        self.at = end
        return value

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.one(_SCALARS[kind])
        of, count = self.one("I"), self.one("Q")
        if count > len(self.data):
            raise struct.error("an array runs past the end")
        if of == _STRING:
            return [self.text() for _ in range(count)]
        form = f"<{count}{_SCALARS[of]}"  # no arrays of arrays
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return list(values)


def read_header(path: Path) -> Header:
    """The header of the GGUF file at `path`.

    Raises:
        UsageError: No such file.
        ModelError: It can't be read, or is no sound GGUF file.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise ModelError(
                    f"{path} is not a GGUF file", "choose another, or pull one: `prlm-edge model pull default`"
                )
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(data)
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"{path}: no such model file", "`prlm-edge model list` names the models there are") from None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check the file's permissions") from None
    except (struct.error, MemoryError, *BAD_DATA) as error:
        raise ModelError(f"{path}: damaged: {error or 'odd values'}", _BROKEN) from None


def _parse(data: mmap.mmap) -> Header:
    cursor = _Cursor(data)
    cursor.at = 4
    version, n_tensors, n_keys = cursor.one("I"), cursor.one("Q"), cursor.one("Q")
    if version not in (2, 3) or n_tensors > _MOST_TENSORS or n_keys > _MOST_KEYS:
        raise ValueError(f"version {version}, {n_tensors} tensors, {n_keys} keys")
    metadata: dict[str, Any] = {}
    for _ in range(n_keys):
        key = cursor.text()
        if key in metadata:
            raise ValueError(f"{key} stands there twice")
        metadata[key] = cursor.value(cursor.one("I"))
    tensors = []
    for _ in range(n_tensors):
        name, n_dims = cursor.text(), cursor.one("I")
        if not 1 <= n_dims <= 4:
            raise ValueError(f"{name} has {n_dims} dimensions")
        shape = tuple(cursor.one("Q") for _ in range(n_dims))
        tensors.append(TensorInfo(name, shape, cursor.one("I"), cursor.one("Q")))
    alignment = metadata.get("general.alignment", 32)
    return Header(metadata, tuple(tensors), cursor.at + -cursor.at % alignment)


def check_model(path: Path) -> Header:
    """The header of a language model's file that llama.cpp can be given without harm.

    Raises:
        UsageError: No such file.
        ModelError: It is damaged, or of a kind that llama.cpp would abort over.
    """
    header = read_header(path)
    problem = _misfit(header, header.metadata) or _bad_tensor(header, path.stat().st_size)
    if problem:
        raise ModelError(f"{path}: not a sound model: {problem}", _BROKEN)
    return header


def check_adapter(path: Path) -> Header:
    """The same for a LoRA adapter's file, but for the numbers that only a model has."""
    header = read_header(path)
    if problem := _bad_tensor(header, path.stat().st_size):
        raise ModelError(f"{path}: not a sound adapter: {problem}", "export it anew")
    return header


def _misfit(header: Header, metadata: Mapping[str, Any]) -> str:
    """What is wrong with a model's numbers and vocabulary; "" where nothing is."""
    if not header.architecture:
        return "it names no architecture"
    own = {key.partition(".")[2]: value for key, value in metadata.items() if key.startswith(f"{header.architecture}.")}
    if header.architecture in _ENCODERS or own.get("attention.causal") is False or own.get("pooling_type"):
        return "it makes embeddings and writes no text"
    for key in ("block_count", "embedding_length", "context_length"):
        if not _whole(own.get(key), 1):
            return f"{key} is {own.get(key)!r}"
    for key, value in own.items():
        values = value if isinstance(value, list) else [value]
        if key.endswith(("_epsilon", "freq_base", "scale", "factor")) and not all(
            _finite(v) and v >= 0 for v in values
        ):
            return f"{key} is {value!r}"
        if key.endswith(("head_count", "head_count_kv", "_length", "_count")) and not all(_whole(v, 0) for v in values):
            return f"{key} is {value!r}"
    return _bad_vocabulary(metadata)


def _bad_vocabulary(metadata: Mapping[str, Any]) -> str:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return "" if metadata.get("tokenizer.ggml.model") in (None, "no_vocab", "none") else "it has no vocabulary"
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        return "its vocabulary is no list of texts"
    if len(set(tokens)) != len(tokens):
        return "a token stands twice in its vocabulary"
    for key in ("token_type", "scores"):
        values = metadata.get(f"tokenizer.ggml.{key}")
        if values is not None and (not isinstance(values, list) or len(values) != len(tokens)):
            return f"its vocabulary has {len(tokens)} tokens, and {key} another number"
    return ""


def _bad_tensor(header: Header, size: int) -> str:
    if not header.tensors:
        return "it has no tensors"
    if len({tensor.name for tensor in header.tensors}) != len(header.tensors):
        return "a tensor stands there twice"
    for tensor in header.tensors:
        if tensor.offset >= size:
            return f"the file ends before its {tensor.name}"
        if not all(0 < n < 1 << 31 for n in tensor.shape) or math.prod(tensor.shape) > 8 * size:
            return f"{tensor.name} has the shape {tensor.shape}"
        if tensor.type in _INTEGERS:
            return f"{tensor.name} holds whole numbers, with which nothing can be computed"
        if len(tensor.shape) == 1 and tensor.type != _F32:
            return f"{tensor.name} is a vector of another type than float32"
    return ""


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _MOST


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
