"""Chat templates see sentinels only: none can rewrite, strip or interpret what a user wrote."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest

from prlm_edge.backends.engine import chat_template
from prlm_edge.backends.engine.chat_template import CHATML, ChatTemplate, template_for
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


SHOW = "<|{{ m.role }}|>{{ m.content }}"
PARTS = "<|{{ m.role }}|>{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}"
EACH = "{%% for m in messages %%}%s{%% endfor %%}"
FORMS = {
    "generation tags": EACH % ("{% generation %}" + SHOW + "{% endgeneration %}"),
    "parts": EACH % PARTS,
    "parts, and no system role": "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    + EACH % PARTS,
    "a system role that is read past": EACH % ("{% if m.role != 'system' %}" + SHOW + "{% endif %}"),
    "tojson": EACH % "<|{{ m.role }}|>{{ m.content | tojson }}",
    "tojson of it all": "{{ messages | tojson(indent=1) }}",
    "loop controls": EACH % ("{% if not m.content %}{% continue %}{% endif %}" + SHOW),
    "string or parts": EACH % ("{% if m.content is string %}" + SHOW + "{% endif %}"),
    "the time": "{{ strftime_now('%Y') }}" + EACH % SHOW,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_turn_is_in_the_prompt_whatever_form_the_template_wants(name: str) -> None:
    spans = ChatTemplate(FORMS[name]).render(TURNS)
    assert [span.text for span in spans if not span.trusted and span.text != "\n\n"] == [
        span.text for turn in TURNS for span in turn.spans if not span.trusted
    ]


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[-1].content }}",
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.content | length }}{% endfor %}",
        "nothing at all",
        "",
    ],
)
def test_a_template_that_leaves_turns_out_is_refused(source: str) -> None:
    with pytest.raises(ModelError, match="leaves out"):
        ChatTemplate(source).render(TURNS)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[99].content.upper() }}",
        "{{ 1 // 0 }}",
        "{{ 10 ** (10 ** 8) }}",
        "{{ 2 ** 100000000 }}",
        "{{ 'x' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ '%1000000000d' % 5 }}",
        "{{ {}['x']['y'] }}",
        "{{ 'a'.encode('utf-99') }}",
        "{{ '\ud800'.encode() }}",
        "{{ int('x') }}",
        "{{ raise_exception('no') }}",
        "{{ raise_exception() }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_a_template_that_fails_or_never_ends_is_one_clear_error(source: str) -> None:
    with pytest.raises(ModelError, match="failed"):
        ChatTemplate(source + CHATML).render(TURNS)


@pytest.mark.parametrize(
    "source", ["{% for %}", "{% if " + "(" * 2000 + ")" * 2000 + " %}{% endif %}", "{{ '\\N{x}' }}"]
)
def test_a_template_that_does_not_compile(source: str) -> None:
    with pytest.raises(ModelError, match="does not compile"):
        ChatTemplate(source)


def test_a_debugger_that_traces_goes_on_tracing() -> None:
    def tracer(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        ChatTemplate(CHATML).render(TURNS)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    ("token", "ending"),
    [
        ("<|im_start|>", "<|im_end|>\n<|im_start|>assistant\n"),
        ("<start_of_turn>", "<end_of_turn>\n<start_of_turn>model\n"),
        ("<|start_header_id|>", "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"),
        ("<|assistant|>", "</s>\n<|assistant|>\n"),
        ("[INST]", " [/INST]"),
        ("none of them", "\n\n"),
    ],
)
def test_a_file_without_a_template_gets_its_familys(token: str, ending: str) -> None:
    source = template_for(lambda text: text == token)
    spans = ChatTemplate(source, bos="<s>", eos="</s>").render(TURNS)
    assert [span.text for span in spans if not span.trusted] == [
        span.text for turn in TURNS for span in turn.spans if not span.trusted
    ]
    assert text_of(spans).endswith("  again  " + ending)


def test_texts_of_the_same_roles_take_the_same_places() -> None:
    template = ChatTemplate(STRIPS_THINK)
    first = text_of(template.render(TURNS))
    others = [Turn(turn.role, (Span(f"other {place}"),)) for place, turn in enumerate(TURNS)]
    assert "other 3<|im_end|>" in text_of(template.render(others))
    assert text_of(template.render(TURNS)) == first


@pytest.mark.usefixtures("home")
def test_what_is_kept_needs_no_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ChatTemplate(NO_SYSTEM, bos="<bos>", kept=True).render(TURNS)
    template = ChatTemplate(NO_SYSTEM, bos="<bos>", kept=True)
    with monkeypatch.context() as patch:
        patch.setattr(chat_template, "_environment", lambda: pytest.fail("compiled"))
        assert template.render(TURNS) == before
    assert text_of(template.render(TURNS[:2])).startswith("<bos>")  # other roles than those kept
    assert ChatTemplate(NO_SYSTEM, bos="<s>", kept=True).render(TURNS) != before
    with pytest.raises(ModelError, match="does not compile"):
        ChatTemplate("{% for %}", kept=True)


@pytest.mark.usefixtures("home")
def test_a_template_that_tells_the_time_tells_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(9))
    monkeypatch.setattr(chat_template, "_strftime_now", lambda _: next(times))
    template = ChatTemplate("{{ strftime_now('%H:%M') }}{{ messages[0].content }}", kept=True)
    assert [text_of(template.render(TURNS[:1])) for _ in range(3)] == ["0Be brief.", "1Be brief.", "2Be brief."]
