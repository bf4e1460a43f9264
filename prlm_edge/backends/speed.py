"""How fast a model is run on this machine, measured when it is pulled; `model = auto` chooses by it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prlm_edge.backends import open_backend
from prlm_edge.errors import PrlmError
from prlm_edge.models.adapters import NONE
from prlm_edge.models.choice import ANSWER, keep_speed
from prlm_edge.settings import Settings
from prlm_edge.types import Backend, Request, Span, Turn

_TRIES = 2  # the better one counts: other programs may be busy during the other
_TEXT = " ".join(f"word {n} of a text," for n in range(40)) + " now count to thirty: one, two, three"


def measure(path: Path) -> None:
    """Answer a request with the installed model `path`, a file or an ONNX folder, and keep the speed beside it.

    What can't be measured or kept is no error: without it, the registry's figures count.
    """
    with contextlib.suppress(PrlmError, OSError, ArithmeticError):
        model = open_backend(Settings(model=str(path), adapter=NONE, prefix_cache="off"))
        try:
            found = [_tokens_a_second(model) for _ in range(_TRIES)]
        finally:
            model.close()
        keep_speed(path, *map(max, zip(*found, strict=True)))


def _tokens_a_second(model: Backend) -> tuple[float, float]:
    """Of the prompt, some 300 tokens, and of the answer."""
    *_, last = model.stream(Request((Turn("user", (Span(_TEXT),)),), reasoning_tokens=0, answer_tokens=ANSWER))
    assert last.completion is not None
    usage = last.completion.usage
    return usage.prompt_tokens / usage.prefill_s, usage.answer_tokens / usage.decode_s
