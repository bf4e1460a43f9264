"""Key phrases: what a text is about in a few of its own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge.style import key_phrases
from prlm_edge.style.phrases import MAX_PHRASES, MAX_WORDS


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        (
            "Shaders are programs. A custom filter is a shader that WebGL runs. Custom filters in Chrome are new, "
            "and WebGL's shaders are older than custom filters.",
            ["custom filters", "shaders", "WebGL"],  # one word and its plural are one; names keep their case
        ),
        ("Rye is sticky. Rye needs water. I keep rye for people with time.", ["rye", "sticky", "water"]),
        ("See https://example.org/a-b, mail me@example.org: load_all() and load_all.", ["load_all", "mail"]),
        ("the of and it was 12 34", []),
        ("", []),
        ("...!!", []),
        ("x" * 5000, []),
        # no list of stop words: frequent longer words; no spaces: the first words
        (
            "Der Sauerteig braucht Wärme, weil der Sauerteig im Winter ruht. Im Winter ist es kalt.",
            ["Sauerteig", "Winter"],
        ),
        ("冬のパンの作り方、台所は寒い。", ["冬のパンの作り方"]),
    ],
)
def test_phrases(text: str, phrases: list[str]) -> None:
    assert key_phrases(text)[: len(phrases) or None] == phrases


@given(
    st.text(max_size=300) | st.lists(st.sampled_from(["Rye", "rye", "the", "snake_case", "é", ".", "\n"])).map(" ".join)
)
def test_they_are_few_words_of_the_text_always_the_same(text: str) -> None:
    found = key_phrases(text)
    assert found == key_phrases(text) and len(found) <= MAX_PHRASES
    assert len(" ".join(found).split()) <= MAX_WORDS
    assert all(word.casefold() in text.casefold() for phrase in found for word in phrase.split())
