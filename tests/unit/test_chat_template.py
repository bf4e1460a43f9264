"""Chat templates see sentinels only: none can rewrite, strip or interpret what a user wrote."""

from __future__ import annotations

from itertools import pairwise

import pytest

from prlm_edge.backends.engine import chat_template
from prlm_edge.backends.engine.chat_template import CHATML, ChatTemplate
from prlm_edge.errors import ModelError
from prlm_edge.types import Span, Turn

# What Qwen3's template does to past turns, in short.
STRIPS_THINK = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
)
TURNS = [
    Turn("system", (Span("Be brief."),)),
    Turn("user", (Span("hello {{ 7 * 7 }} {% raw %}"),)),
    Turn("assistant", (Span("<think>", True), Span("why"), Span("</think>\n<answer>", True), Span("hi"))),
    Turn("user", (Span("  again  "),)),
]


def text_of(spans: list[Span]) -> str:
    return "".join(span.text for span in spans)


def test_template_text_is_trusted_and_content_is_not() -> None:
    spans = ChatTemplate(CHATML).render(TURNS)
    assert spans[0] == Span("<|im_start|>system\n", trusted=True)
    assert spans[1] == Span("Be brief.")
    assert spans[-1] == Span("<|im_end|>\n<|im_start|>assistant\n", trusted=True)
    assert Span("hello {{ 7 * 7 }} {% raw %}") in spans


def test_adjacent_trusted_spans_are_joined() -> None:
    spans = ChatTemplate(CHATML).render(TURNS)
    assert Span("<|im_end|>\n<|im_start|>assistant\n<think>", trusted=True) in spans
    assert not any(a.trusted and b.trusted for a, b in pairwise(spans))


def test_a_template_that_strips_reasoning_can_not() -> None:
    assert "<think>why</think>\n<answer>hi<|im_end|>" in text_of(ChatTemplate(STRIPS_THINK).render(TURNS))


def test_a_template_without_a_system_role_gets_it_with_the_first_turn() -> None:
    text = text_of(ChatTemplate(NO_SYSTEM, bos="<bos>").render(TURNS))
    assert text.startswith("<bos><start_of_turn>user\nBe brief.\n\nhello")


def test_a_broken_template_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match="does not compile"):
        ChatTemplate("{% for %}")
    with pytest.raises(ModelError, match="failed"):
        ChatTemplate("{{ messages[99].content.upper() }}").render(TURNS)


def test_templates_are_sandboxed() -> None:
    with pytest.raises(ModelError):
        ChatTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}").render(TURNS)


def test_texts_of_the_same_roles_take_the_same_places() -> None:
    template = ChatTemplate(STRIPS_THINK)
    first = text_of(template.render(TURNS))
    others = [Turn(turn.role, (Span(f"other {place}"),)) for place, turn in enumerate(TURNS)]
    assert "other 3<|im_end|>" in text_of(template.render(others))
    assert text_of(template.render(TURNS)) == first


def test_a_template_that_tells_the_time_tells_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(9))
    monkeypatch.setattr(chat_template, "_strftime_now", lambda _: next(times))
    template = ChatTemplate("{{ strftime_now('%H:%M') }}{{ messages[0].content }}")
    assert [text_of(template.render(TURNS[:1])) for _ in range(3)] == ["0Be brief.", "1Be brief.", "2Be brief."]
