"""The tuned copies say what the model says, alone and under its adapter: KL divergence, agreement over real text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from prlm_edge import models
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.backends.llama.slots import LlamaSlots, Threads
from prlm_edge.models.catalog import registry

pytestmark = pytest.mark.model
TEXT = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
N_TOKENS, CALL = 512, 128


def log_probabilities(path: Path, adapter: Path | None = None) -> NDArray[np.float64]:
    backend = LlamaCpp(path, prefix_cache="off", adapter=adapter)
    assert backend.info.adapter == ("adapter" if adapter or ".voice." in path.name else "")
    slots = LlamaSlots(backend._lib, backend._weights, N_TOKENS, Threads(2, 1), n_batch=CALL)
    tokens, rows = backend._vocab.encode_text(TEXT)[:N_TOKENS], []
    for start in range(0, N_TOKENS, CALL):
        slots.append([(0, tokens[start : start + CALL])], wanted=range(CALL))
        rows += [slots.logits(row).astype(np.float64) for row in range(CALL)]
    slots.close()
    backend.close()
    logits = np.stack(rows)
    logits -= logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return result


@pytest.mark.parametrize("merged", [False, True])
def test_a_copy_is_the_model_within_a_hundredth(smollm2_path: Path, merged_path: Path, merged: bool) -> None:
    pulled = smollm2_path.with_name(models.find("small").files[0].name)
    tuned = log_probabilities(merged_path if merged else smollm2_path)
    original = log_probabilities(pulled, registry()["smollm2-135m"].voice if merged else None)
    divergence = (np.exp(original) * (original - tuned)).sum(axis=1)
    assert 0 < divergence.mean() < 0.02
    assert (original.argmax(axis=1) == tuned.argmax(axis=1)).mean() > 0.9
