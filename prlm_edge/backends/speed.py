"""How fast a model is run on this machine, measured when it is pulled; `model = auto` chooses by it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.backends.onnx.backend import Onnx
from prlm_edge.errors import PrlmError
from prlm_edge.models.choice import ANSWER, keep_speed
from prlm_edge.types import Backend, Request, Sampling, Span, Turn

_TRIES = 2  # the better one counts: other programs may be busy during the other
_WORDS = " ".join(f"word {n} of a text," for n in range(40)) + " now count to thirty: one, two, three"


def measure(path: Path) -> None:
    """Answer a request with the installed model `path`, a GGUF file or an ONNX folder, and keep the speed beside it.

    What can't be measured or kept is no error: without it, the registry's figures count.
    """
    with contextlib.suppress(PrlmError, OSError, ArithmeticError):
        model = (Onnx if path.is_dir() else LlamaCpp)(path, prefix_cache="off")
        try:
            found = [_tokens_a_second(model) for _ in range(_TRIES)]
        finally:
            model.close()
        keep_speed(path, *map(max, zip(*found, strict=True)))


def _tokens_a_second(model: Backend) -> tuple[float, float]:
    """Of the prompt and of the answer."""
    turns = (Turn("user", (Span(_WORDS),)),)
    request = Request(turns, reasoning_tokens=0, answer_tokens=ANSWER, sampling=Sampling(temperature=0))
    *_, last = model.stream(request)
    assert last.completion is not None
    usage = last.completion.usage
    return usage.prompt_tokens / usage.prefill_s, max(usage.answer_tokens, 1) / usage.decode_s
