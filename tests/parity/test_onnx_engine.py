"""ONNX Runtime says what llama.cpp says of the real model with its adapter merged in: distributions, greedy answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import EXAMPLE

from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.backends.onnx.backend import Onnx
from prlm_edge.export.measure import compare, gguf_logprobs, probes
from prlm_edge.export.onnx.model import onnx_logprobs
from prlm_edge.gguf.to_onnx.convert import convert
from prlm_edge.profile import Profile
from prlm_edge.settings import load_settings
from prlm_edge.types import Completion
from prlm_edge.writer.asker import Asker

pytestmark = pytest.mark.model
TEXT = (Path(__file__).parents[2] / "LICENSE").read_text("utf-8")  # which nobody edits
TIE = 0.3  # nats: how far apart the two engines' likeliest tokens are where their answers part
REQUESTS = ("title for my post on winter sourdough", "title for my talk on old radios", "headline for: rain on Sunday")


@pytest.fixture(scope="module")
def folder(merged_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine") / "smollm2.onnx"
    convert(merged_path, folder)
    return folder


def test_distributions_are_the_same_within_a_hundredth(merged_path: Path, folder: Path) -> None:
    tokens = Onnx(folder)
    wanted = probes([tokens.tokenize(TEXT[at : at + 900]) for at in (0, 3000, 6000)], per_sequence=64)
    found = compare(wanted, gguf_logprobs(merged_path, wanted), onnx_logprobs(folder, wanted))
    assert found.kl < 0.01 and found.top1_tied > 0.97, found


def test_greedy_answers_part_at_ties_alone(merged_path: Path, folder: Path) -> None:
    settings = load_settings(env={}, flags={"temperature": 0, "repeat_penalty": 1, "best_of": 2})
    profile = Profile.open(EXAMPLE)

    def answers(backend: Any) -> list[Completion]:
        plans = [Asker().plan(one, profile, settings, backend, backend.info) for one in REQUESTS]
        found = [last.completion for *_, last in (backend.stream(plan.requests[0]) for plan in plans)]
        assert all(found)
        return found

    parted = 0
    for ours, theirs in zip(answers(Onnx(folder)), answers(LlamaCpp(merged_path)), strict=True):
        pairs = zip(ours.tokens, theirs.tokens, strict=False)
        for one, other in pairs:
            if one.id != other.id:
                parted += 1
                assert abs(one.logprob - other.logprob) < TIE
                break
    assert parted < len(REQUESTS)
