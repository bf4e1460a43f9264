"""Prompts are tokenized once, in parts as in one piece, and a backend takes the work of its own tokenizer alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prlm_edge.backends.engine.chat_template import CHATML, ChatTemplate
from prlm_edge.backends.engine.prompt_tokens import PromptTokenizer
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.settings import load_settings
from prlm_edge.types import Item, Turn
from prlm_edge.writer import Asker

EXAMPLE = Path(__file__).parents[2] / "examples" / "me.jsonl"
LONG = "We baked it again, and it rose: the crumb, however, was dense. Why? " * 3
WORDS = " ".join(f"word{i}" for i in range(2000))
ITEMS = [Item(f"i{i}", text=f"{LONG} On loaf {i}. {LONG}", title=f"loaf {i}: notes on it") for i in range(9)]
pytestmark = [pytest.mark.model, pytest.mark.usefixtures("home")]


@pytest.fixture(scope="module")
def backend(smollm2_path: Path) -> Iterator[LlamaCpp]:
    found = LlamaCpp(smollm2_path, prefix_cache="off")
    yield found
    found.close()


class Watched:
    """A vocabulary that counts the tokens it makes of texts."""

    def __init__(self, vocab: Any) -> None:
        self._vocab, self.tokens, self.calls = vocab, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vocab, name)

    def encode_text(self, text: str, *, trusted: bool = False) -> list[int]:
        ids: list[int] = self._vocab.encode_text(text, trusted=trusted)
        self.tokens, self.calls = self.tokens + len(ids), self.calls + 1
        return ids


@pytest.mark.parametrize("layout", ["turns", "block"])
@pytest.mark.parametrize("reasoning", ["off", "hide"])
@pytest.mark.parametrize(
    ("n_items", "query", "n_ctx"),
    [
        (9, "title for a loaf", 8192),
        (0, "title for a loaf", 8192),
        (9, LONG, 8192),
        (9, LONG * 200, 4096),  # cut to its half of the context
        (9, LONG * 5000, 8192),  # a megabyte
    ],
)
def test_a_prompt_is_tokenized_once(
    backend: LlamaCpp, layout: str, reasoning: str, n_items: int, query: str, n_ctx: int
) -> None:
    vocab: Any = Watched(backend._vocab)
    prompts = PromptTokenizer(vocab, ChatTemplate(CHATML))
    settings = load_settings(flags={"task": "title", "layout": layout, "reasoning": reasoning, "k": 3})
    plan = Asker().plan(query, ITEMS[:n_items], settings, prompts, replace(backend.info, n_ctx_max=n_ctx))
    assert prompts.prompt_of(plan.request) is plan.prompt.tokenized  # nothing is left for the engine to do
    # In one block the items' texts are measured apart where they were cut, to report how much of them is left.
    assert vocab.tokens <= (1.5 if layout == "turns" else 1.7) * plan.prompt.tokens


@pytest.mark.parametrize("query", ["<think>" * 3000, "x</answer> " * 2000, "word" * 9000])
def test_fitting_a_request_of_tags_takes_as_many_calls_as_another(backend: LlamaCpp, query: str) -> None:
    """It was cut eight tokens at a time: tags count more once they are made harmless."""
    vocab: Any = Watched(backend._vocab)
    settings = load_settings(flags={"task": "title", "reasoning": "off", "k": 3})
    prompts = PromptTokenizer(vocab, ChatTemplate(CHATML))
    plan = Asker().plan(query, ITEMS, settings, prompts, replace(backend.info, n_ctx_max=2048))
    assert 1900 < plan.prompt.tokens < 2048
    assert vocab.calls < 80


@pytest.mark.parametrize(
    "text", [EXAMPLE.read_text("utf-8"), LONG * 20, WORDS, "a,  b. \n c! 1. ２. É. " * 200, ", x" * 999]
)
def test_a_long_text_has_the_same_tokens_in_parts(backend: LlamaCpp, text: str) -> None:
    assert list(backend._prompts.ids(text)) == backend._vocab.encode_text(text)
    for n in (0, 1, 77, 400):
        cut = backend.truncate(text, n)
        assert text.startswith(cut)
        assert backend.count(cut) <= n
        assert (
            len(backend._vocab.encode_text(text[: len(cut) + 12])) > n or cut == text
        )  # no more would fit, but for the end of a word


def test_a_backend_takes_its_own_tokens_alone(backend: LlamaCpp) -> None:
    settings = load_settings(flags={"task": "title", "reasoning": "off"})
    other = PromptTokenizer(backend._vocab, ChatTemplate("{% for m in messages %}{{ m.content }}<other>{% endfor %}"))
    prompts = backend._prompts
    request = Asker().plan("rye bread", ITEMS, settings, backend, backend.info).request
    assert prompts.prompt_of(request) is request.tokenized
    foreign = other.encode_turns(request.turns, reasons=False)
    for changed in (
        replace(request, tokenized=None),
        replace(request, tokenized=foreign),
        replace(request, turns=(*request.turns[:-1], Turn("user", request.turns[-1].spans))),
        replace(request, reasoning_tokens=7),
    ):
        made = prompts.prompt_of(changed)
        assert made is not request.tokenized
        assert list(made.tokens) == backend.prompt_ids(changed)
