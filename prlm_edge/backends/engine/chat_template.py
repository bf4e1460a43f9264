"""Renders chat turns with a model's own Jinja template, keeping our scaffolding and the user's text apart.

Each turn's content is replaced by a sentinel before the template runs, and the rendered text is cut at the sentinels:
what the template wrote is trusted, what stood in the turn keeps its own spans. So no template can rewrite, strip or
interpret a user's text (Qwen3's, for one, removes <think> from past turns), and control tokens are parsed in the
template's text alone. A template that leaves a turn out is refused. Sandboxed like Transformers' `apply_chat_template`,
and stopped where it takes too many steps or writes too much.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any, NoReturn

from prlm_edge.backends.engine.outlines import Outline, Outlines
from prlm_edge.errors import ModelError, first_line
from prlm_edge.types import Span, Turn

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _turns(turn: str, opening: str, before: str = "{{ bos_token }}") -> str:
    return before + (
        "{% for message in messages %}{{ "
        + turn
        + " }}{% endfor %}{% if add_generation_prompt %}{{ "
        + opening
        + " }}{% endif %}"
    )


# For files without a template: what the families that have this token in their vocabulary were trained on.
_FAMILIES = {
    "<|im_start|>": CHATML,
    "<start_of_turn>": _turns(
        "'<start_of_turn>' + {'assistant': 'model'}.get(message.role, 'user') + '\n' + message.content"
        " + '<end_of_turn>\n'",
        "'<start_of_turn>model\n'",
    ),
    "<|start_header_id|>": _turns(
        "'<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content + '<|eot_id|>'",
        "'<|start_header_id|>assistant<|end_header_id|>\n\n'",
    ),
    "<|START_OF_TURN_TOKEN|>": _turns(
        "'<|START_OF_TURN_TOKEN|><|' + {'assistant': 'CHATBOT', 'system': 'SYSTEM'}.get(message.role, 'USER')"
        " + '_TOKEN|>' + message.content + '<|END_OF_TURN_TOKEN|>'",
        "'<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>'",
    ),
    "<|assistant|>": _turns(
        "'<|' + message.role + '|>\n' + message.content + eos_token + '\n'", "'<|assistant|>\n'", before=""
    ),
    "[INST]": _turns(
        "' ' + message.content + eos_token if message.role == 'assistant'"
        " else '[INST] ' + message.content + ' [/INST]'",
        "''",
    ),
}
# A model without turn tokens continues text; the tags around each answer keep the turns apart.
_PLAIN = _turns("message.content + '\n\n'", "''")
_SENTINEL = re.compile("\ue000([0-9]+)\ue001")
_MOST_STEPS = 1_000_000  # lines and calls of a template: half a second
_MOST_CHARS = 1 << 20  # that it may write itself
_MOST_BITS = 1 << 16  # of a number that it computes


class ChatTemplate:
    """A chat template; it is compiled unless all that is asked of it is kept from before.

    Args:
        source: The Jinja source, as stored in `tokenizer.chat_template`.
        bos: Text of the model's beginning-of-sequence token, or "".
        eos: Text of the model's end-of-sequence token, or "".
        kept: Whether what it makes of turns is kept in the cache folder for the next process.

    Raises:
        ModelError: The template does not compile.
    """

    def __init__(self, source: str, bos: str = "", eos: str = "", *, kept: bool = False) -> None:
        self._source, self._names = source, {"bos_token": bos, "eos_token": eos}
        tells_time = "strftime_now" in source
        self._outline = self._outline_of if tells_time else lru_cache(64)(self._outline_of)
        self._outlines = Outlines(source, bos, eos) if kept and not tells_time else None
        if not self._outlines:
            self._template  # noqa: B018 - raises where it does not compile

    @cached_property
    def _template(self) -> Any:
        try:
            return _environment().from_string(self._source)
        except Exception as error:  # noqa: BLE001 - deep nesting and odd escapes raise more than Jinja's own errors
            raise ModelError(
                f"the model's chat template does not compile: {first_line(error)}", "choose another model"
            ) from None

    def render(self, turns: Sequence[Turn]) -> list[Span]:
        """The prompt up to and including the opening of the assistant's turn; adjacent trusted spans are joined.

        The spans of turns know their `role`.

        Raises:
            ModelError: The template fails, or leaves out what was written, in every form of the turns that is usual.
        """
        spans: list[Span] = []
        pieces, folded = self._outline(tuple(turn.role for turn in turns))
        turns = _fold_system(turns) if folded else turns
        for piece in pieces:
            if isinstance(piece, str):
                append(spans, Span(piece, trusted=True))
                continue
            turn = turns[piece]
            for span in turn.spans:
                append(spans, Span(span.text, span.trusted, turn.role))
        return spans

    def _outline_of(self, roles: tuple[str, ...]) -> Outline:
        """What the template makes of turns of these roles, kept or rendered.

        It depends on nothing else, since the template sees sentinels in place of the turns' text.
        """
        if self._outlines is not None and (kept := self._outlines.get(roles)) is not None:
            return kept
        outline = self._rendered(roles)
        if self._outlines is not None:
            self._outlines.keep(roles, outline)
        return outline

    def _rendered(self, roles: tuple[str, ...]) -> Outline:
        """The outline as the template gives it.

        Some templates know no system role (Gemma's), some take content as a list
        of parts (SmolVLM's): the first form in which every turn is found in the prompt is taken.
        """
        problem = ModelError("the model's chat template leaves out what was written", "choose another model")
        for folded in (False, True) if roles[:1] == ("system",) and len(roles) > 1 else (False,):
            for in_parts in (False, True):
                try:
                    pieces = self._pieces(roles[1:] if folded else roles, in_parts=in_parts)
                except ModelError as error:
                    problem = error
                    continue
                if pieces[1::2] == list(range(len(roles) - folded)):
                    return pieces, folded
        raise problem

    def _pieces(self, roles: Sequence[str], *, in_parts: bool) -> list[str | int]:
        """The template's text and the places of turns, by turns."""
        contents = [f"\ue000{place}\ue001" for place in range(len(roles))]
        messages = [
            {"role": role, "content": [{"type": "text", "text": content}] if in_parts else content}
            for role, content in zip(roles, contents, strict=True)
        ]
        names = {"add_generation_prompt": True, "enable_thinking": True, "tools": None, **self._names}
        try:
            with _few_steps():
                text = _bounded(self._template.generate(messages=messages, **names))
        except Exception as error:  # noqa: BLE001 - a template can divide by zero, overflow, recurse, ...
            raise ModelError(f"the model's chat template failed: {first_line(error)}", "choose another model") from None
        pieces = _SENTINEL.split(text)
        return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)]


def template_for(is_token: Callable[[str], bool]) -> str:
    """A template for a model that comes without one, by the turn tokens that its vocabulary has.

    Args:
        is_token: Whether a text is one token of the vocabulary, as scaffolding is tokenized.
    """
    return next((template for token, template in _FAMILIES.items() if is_token(token)), _PLAIN)


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


@cache
def _environment() -> Any:
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):  # type: ignore[misc]
        """`{% generation %}` marks what training learns from; in a prompt it is its content."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Environment(ImmutableSandboxedEnvironment):  # type: ignore[misc]
        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" and abs(right) * max(abs(left), 2).bit_length() > _MOST_BITS:
                raise OverflowError("too large a power")
            if operator == "*":
                sizes = [len(v) if isinstance(v, str | list | tuple) else v for v in (left, right)]
                if sizes[0] * sizes[1] > _MOST_CHARS and sizes != [left, right]:
                    raise OverflowError("too long a text")
            if operator == "%" and isinstance(left, str) and re.search(r"[0-9]{5}|\*", left):
                raise OverflowError("too wide a text")
            return super().call_binop(context, operator, left, right)

    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda pattern: _strftime_now(pattern)}
    environment.filters["tojson"] = _to_json
    return environment


@contextlib.contextmanager
def _few_steps() -> Iterator[None]:
    """Ends what runs in the block with a TimeoutError after `_MOST_STEPS` lines and calls of Python."""
    left = _MOST_STEPS

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise TimeoutError("it takes too long")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def _bounded(pieces: Iterator[str]) -> str:
    found, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > _MOST_CHARS:
            raise OverflowError("it writes too much")
        found.append(piece)
    return "".join(found)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """As Transformers has it: no escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _strftime_now(pattern: str) -> Any:
    return datetime.datetime.now().astimezone().strftime(pattern)
