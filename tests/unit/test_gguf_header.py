"""GGUF headers: what llama.cpp would abort over is refused before it sees the file, and no file breaks the reader."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_edge.errors import ModelError, PrlmError, UsageError
from prlm_edge.gguf.header import TASKS, check_adapter, check_model, read_header
from prlm_edge.models.adapters import ours_for

GOOD = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 4,
    "llama.context_length": 64,
    "llama.attention.head_count": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 1e4,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.token_type": [1, 1, 1],
}
TENSORS = [("token_embd.weight", (4, 3), 0, 0), ("output_norm.weight", (4,), 0, 64)]


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(of: object) -> bytes:
    """A metadata value: its type's number, then itself."""
    if isinstance(of, str):
        return struct.pack("<I", 8) + text(of)
    if isinstance(of, list):
        inner = [value(one) for one in of]
        return struct.pack("<I", 9) + inner[0][:4] + struct.pack("<Q", len(of)) + b"".join(one[4:] for one in inner)
    return struct.pack("<If", 6, of) if isinstance(of, float) else struct.pack("<Ii", 5, of)


def gguf_bytes(metadata: dict[str, object], tensors: list[tuple[str, tuple[int, ...], int, int]]) -> bytes:
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += [text(key) + value(of) for key, of in metadata.items()]
    for name, shape, kind, offset in tensors:
        parts.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
    return b"".join(parts) + bytes(4096)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(metadata=GOOD, tensors=TENSORS) -> Path:
        (tmp_path / "m.gguf").write_bytes(gguf_bytes(metadata, tensors))
        return tmp_path / "m.gguf"

    return make


def test_a_sound_file_is_read(write) -> None:
    header = check_model(write())
    assert header.architecture == "llama"
    assert header.metadata["tokenizer.ggml.tokens"] == ["a", "b", "c"]
    assert [(tensor.name, tensor.shape, tensor.type) for tensor in header.tensors] == [one[:3] for one in TENSORS]
    assert len(check_adapter(ours_for("small")).tensors) > 100
    assert check_adapter(ours_for("small")).metadata[TASKS] == "title,commit,note"


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("general.architecture", 7),
        ("llama.block_count", 0),
        ("llama.block_count", -1),
        ("llama.block_count", 2**31 - 1),
        ("llama.embedding_length", "wide"),
        ("llama.context_length", 0),
        ("llama.attention.head_count", -4),
        ("llama.attention.head_count", [2, -2]),
        ("llama.attention.layer_norm_rms_epsilon", -1.0),
        ("llama.attention.layer_norm_rms_epsilon", float("nan")),
        ("llama.attention.layer_norm_epsilon", float("inf")),
        ("llama.rope.freq_base", -1.0),
        ("llama.rope.scaling.factor", float("nan")),
        ("general.architecture", "bert"),
        ("llama.pooling_type", 3),
        ("tokenizer.ggml.tokens", ["a", "a", "b"]),
        ("tokenizer.ggml.tokens", [1, 2, 3]),
        ("tokenizer.ggml.tokens", "abc"),
        ("tokenizer.ggml.token_type", [1, 1]),
        ("tokenizer.ggml.scores", [0.5]),
    ],
)
def test_odd_numbers_and_vocabularies_are_refused(write, key: str, wrong: object) -> None:
    with pytest.raises(ModelError, match="not a sound model"):
        check_model(write({**GOOD, key: wrong}))


@pytest.mark.parametrize("missing", ["general.architecture", "llama.block_count", "tokenizer.ggml.tokens"])
def test_what_is_missing_is_said(write, missing: str) -> None:
    with pytest.raises(ModelError, match="not a sound model"):
        check_model(write({key: of for key, of in GOOD.items() if key != missing}))


@pytest.mark.parametrize(
    "tensor",
    [
        *[("a", (32, 32), kind, 0) for kind in (24, 25, 26, 27, 28)],
        ("norm", (4,), 1, 0),
        ("norm", (32,), 8, 0),
        ("a", (0, 4), 0, 0),
        ("a", (1 << 40, 4), 0, 0),
        ("a", (1 << 20, 1 << 20), 0, 0),
        ("a", (4, 4), 0, 1 << 60),
        TENSORS[0],
    ],
)
def test_tensors_that_nothing_can_be_computed_with_are_refused(write, tensor) -> None:
    for check in (check_model, check_adapter):
        with pytest.raises(ModelError, match="not a sound"):
            check(write(tensors=[*TENSORS, tensor]))


def test_no_file_and_other_files(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(UsageError, match="no such"):
            read_header(path)
    for data in (b"", b"GGU", b"GGUF", b"PK\3\4" * 9, b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60)):
        (tmp_path / "odd.gguf").write_bytes(data)
        with pytest.raises(ModelError):
            read_header(tmp_path / "odd.gguf")


SOUND = gguf_bytes(GOOD, TENSORS)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(SOUND) - 4097), to=st.binary(min_size=1, max_size=8), cut=st.integers(0, len(SOUND)))
def test_no_damage_breaks_the_reader(tmp_path_factory, at: int, to: bytes, cut: int) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    for data in (SOUND[:at] + to + SOUND[at + len(to) :], SOUND[:cut]):
        path.write_bytes(data)
        with contextlib.suppress(PrlmError):
            check_model(path)
