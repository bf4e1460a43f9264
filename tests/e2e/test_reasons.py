"""Whether a model was trained to reason stands in its file, and decides what `reasoning="auto"` means."""

from pathlib import Path

import pytest
from helpers import EXAMPLE

from prlm_edge import Writer
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.gguf.header import REASONS

gguf = pytest.importorskip("gguf")
pytestmark = [pytest.mark.model, pytest.mark.slow]


def with_reasons(model: Path, copy: Path, value: bool) -> Path:
    from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(copy, "llama")
    copy_with_new_metadata(reader, writer, {REASONS: MetadataDetails(gguf.GGUFValueType.BOOL, value)}, [])
    return copy


@pytest.mark.parametrize("value", [True, False])
def test_the_file_says_it(smollm2_path: Path, tmp_path: Path, value: bool) -> None:
    with Writer.open(EXAMPLE, model=str(with_reasons(smollm2_path, tmp_path / "copy.gguf", value))) as writer:
        result = writer.generate("title for my post on winter sourdough")
        assert writer.load().info.reasons is value
    assert bool(result.reasoning) is value
    assert result.answer


def test_the_default_model_does_not(smollm2_path: Path) -> None:
    assert LlamaCpp(smollm2_path).info.reasons is False
