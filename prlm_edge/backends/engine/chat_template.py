"""Renders chat turns with a model's own Jinja template, keeping our scaffolding and the user's text apart.

Each turn's content is replaced by a sentinel before the template runs, and the rendered text is cut at the sentinels:
what the template wrote is trusted, what stood in the turn keeps its own spans. So no template can rewrite, strip or
interpret a user's text (Qwen3's, for one, removes <think> from past turns), and control tokens are parsed in the
template's text alone. Sandboxed like Transformers' `apply_chat_template`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

from prlm_edge.errors import ModelError
from prlm_edge.types import Span, Turn

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SENTINEL = re.compile("\ue000([0-9]+)\ue001")


def prepare() -> None:
    """Import what `ChatTemplate` needs; 20 ms that may pass in another thread while a model is loaded."""
    import jinja2.ext
    import jinja2.sandbox  # noqa: F401


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: The Jinja source, as stored in `tokenizer.chat_template`.
        bos: Text of the model's beginning-of-sequence token, or "".
        eos: Text of the model's end-of-sequence token, or "".

    Raises:
        ModelError: The template does not compile.
    """

    def __init__(self, source: str, bos: str = "", eos: str = "") -> None:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _strftime_now}
        self._names = {"bos_token": bos, "eos_token": eos}
        self._error: type[Exception] = jinja2.TemplateError
        tells_time = "strftime_now" in source
        self._outline = self._outline_of if tells_time else lru_cache(64)(self._outline_of)
        try:
            self._template = environment.from_string(source)
        except self._error as error:
            raise ModelError(f"the model's chat template does not compile: {error}", "choose another model") from None

    def render(self, turns: Sequence[Turn]) -> list[Span]:
        """The prompt up to and including the opening of the assistant's turn; adjacent trusted spans are joined.

        The spans of turns know their `role`.

        Raises:
            ModelError: The template refuses these turns even with the system turn folded into the user's.
        """
        try:
            return self._render(turns)
        except ModelError:
            if turns and turns[0].role == "system":  # templates such as Gemma's know no system role
                return self._render(_fold_system(turns))
            raise

    def _render(self, turns: Sequence[Turn]) -> list[Span]:
        spans: list[Span] = []
        for piece in self._outline(tuple(turn.role for turn in turns)):
            if isinstance(piece, str):
                append(spans, Span(piece, trusted=True))
                continue
            turn = turns[piece]
            for span in turn.spans:
                append(spans, Span(span.text, span.trusted, turn.role))
        return spans

    def _outline_of(self, roles: tuple[str, ...]) -> list[str | int]:
        """What the template makes of turns of these roles: its own text, and the place of each turn that stands there.

        It depends on nothing else, since the template sees sentinels in place of the turns' text.
        """
        messages = [{"role": role, "content": f"\ue000{place}\ue001"} for place, role in enumerate(roles)]
        try:
            text = self._template.render(
                messages=messages, add_generation_prompt=True, enable_thinking=True, tools=None, **self._names
            )
        except (self._error, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"the model's chat template failed: {error}", "choose another model") from None
        pieces = _SENTINEL.split(text)  # text and places by turns
        return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)]


def append(spans: list[Span], span: Span) -> None:
    """Add `span`, joined to a trusted last one if it is trusted too: one text tokenizes otherwise than two."""
    if not span.text:
        return
    if span.trusted and spans and spans[-1].trusted:
        spans[-1] = Span(spans[-1].text + span.text, trusted=True)
    else:
        spans.append(span)


def _fold_system(turns: Sequence[Turn]) -> list[Turn]:
    system, first, *rest = turns
    return [Turn(first.role, (*system.spans, Span("\n\n"), *first.spans)), *rest]


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _strftime_now(pattern: str) -> Any:
    return datetime.datetime.now().astimezone().strftime(pattern)
