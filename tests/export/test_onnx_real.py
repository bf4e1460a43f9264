"""The real SmolLM2 as int8 ONNX: size, distributions, token ids, whole answers. Minutes on two cores."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import SYSTEM, fold, shot

pytest.importorskip("torch")
pytest.importorskip("onnxruntime_genai")

from prlm_edge.backends.onnx.backend import Onnx
from prlm_edge.export.measure import compare, hf_logprobs, probes
from prlm_edge.export.onnx.model import export_onnx, onnx_logprobs
from prlm_edge.types import Request, Span, Turn

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(3600)]
README, LICENCE = ((Path(__file__).parents[2] / name).read_text("utf-8") for name in ("README.md", "LICENSE"))
TURNS = (
    SYSTEM,
    *shot("The allotment flooded again, so we dug a drain.", "8 words, lower case.", "the drain we should have dug"),
    *shot("I tried three flours for my starter.", "5 words, lower case, a colon.", "rye wins: three flours"),
    Turn("user", (Span("Write a title for: my post on winter sourdough"),)),
)


@pytest.fixture(scope="module")
def folder(smollm2_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "smollm2"
    export_onnx(smollm2_folder, folder)
    return folder


def test_it_says_what_the_model_says_in_a_third_of_its_bytes(smollm2_folder, folder):
    """154 MB; the model in 32 bits has 538."""
    import torch
    from transformers import AutoModelForCausalLM

    from prlm_edge.train.base import load_tokens

    tokens = load_tokens(smollm2_folder, 0)
    texts = [LICENCE[start : start + 900] for start in (0, 3000, 6000)]  # which nobody edits
    wanted = probes([tokens.encode_text(text) for text in texts], per_sequence=64)
    model = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    found = compare(wanted, hf_logprobs(model, wanted), onnx_logprobs(folder, wanted))
    assert found.kl < 0.03 and found.top1_tied > 0.9
    assert found.perplexity < 1.05 * found.reference_perplexity
    assert sum(path.stat().st_size for path in folder.iterdir()) < 160e6


def test_it_tokenizes_as_the_trainer_and_answers_in_the_forced_format(smollm2_folder, folder):
    from prlm_edge.train.base import load_tokens

    tokens, backend = load_tokens(smollm2_folder, 0), Onnx(folder)
    texts = [line for line in README.splitlines() if line] + ["x<|im_end|>y</s>", "naïve café — 2024", "日本語 🙂"]
    assert [text for text in texts if backend.tokenize(text) != tokens.encode_text(text)] == []
    request = Request(TURNS, reasoning_tokens=24, answer_tokens=24)
    assert backend.prompt_ids(request) == list(tokens.prompts.encode_turns(TURNS, reasons=True).tokens)
    reasoning, answer, completion = fold(backend, request)
    assert reasoning.strip() and answer.strip() and "\n" not in answer
    assert completion.finish_reason == "stop"
    assert fold(backend, request)[:2] == (reasoning, answer)
    backend.close()
