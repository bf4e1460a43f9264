"""The splitter and the stop matcher: same result however the text is cut, and no character lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge.prompt import TAGS, Splitter, StopMatcher
from prlm_edge.prompt.tags import defuse_tags

PIECES = st.sampled_from([*TAGS, "a", " ", "\n", "<", "</", ">", "think", "é", "Title: it's", "<answer", "👍"])


def split(pieces: list[str]) -> tuple[str, str]:
    splitter, out = Splitter(), {"reasoning": "", "answer": ""}
    for piece in pieces:
        for channel, text in splitter.feed(piece):
            out[channel] += text
    for channel, text in splitter.finish():
        out[channel] += text
    return out["reasoning"], out["answer"]


@pytest.mark.parametrize(
    ("reply", "reasoning", "answer"),
    [
        ("<think>why</think>\n<answer>what</answer>", "why", "what"),
        ("<think>why</think>\n\nwhat", "why", "what"),
        ("<think>why <answer>what</answer>", "why ", "what"),
        ('<answer>don\'t "stop"</answer>', "", 'don\'t "stop"'),
        ("just a title", "", "just a title"),
        ("Sure! <think>why</think><answer>what</answer> Bye", "Sure! why Bye", "what"),
        ("<think>never closed", "never closed", ""),
        ("<think>why</think><answer>cut sho", "why", "cut sho"),
        ("<think>a < b</think><answer>a </ b</answer>", "a < b", "a </ b"),
        ("", "", ""),
    ],
)
def test_splits_replies(reply: str, reasoning: str, answer: str) -> None:
    assert split([reply]) == (reasoning, answer)


@given(st.lists(PIECES, max_size=30))
def test_how_the_text_is_cut_makes_no_difference(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert split(pieces) == split([text]) == split(list(text))


@given(st.lists(PIECES, max_size=30))
def test_no_text_is_lost(pieces: list[str]) -> None:
    text = "".join(pieces)
    for tag in TAGS:
        text = text.replace(tag, " ")
    shown = "".join(split(pieces))
    for word in text.split():
        assert all(part in shown for part in word.split("<")), (pieces, shown)


@given(st.lists(st.sampled_from(["</answer>", "</ans", "wer>", "x", "\n", "<", "y\nz"]), max_size=20))
def test_stop_matcher_equals_a_search_of_the_whole_text(pieces: list[str]) -> None:
    stops = ("</answer>", "\n")
    matcher, safe, text = StopMatcher(stops), "", "".join(pieces)
    for piece in pieces:
        safe += matcher.feed(piece)
        if matcher.found:
            break
    positions = [text.find(stop) for stop in stops if stop in text]
    if positions:
        assert (safe, matcher.found) == (text[: min(positions)], text[min(positions) :][: len(matcher.found)])
    else:
        assert (safe + matcher.flush(), matcher.found) == (text, "")


def test_an_empty_stop_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(("",))


def test_our_tags_in_a_text_become_harmless_and_stay_readable() -> None:
    assert defuse_tags("how </think> and <answer> work, 1 < 2") == "how ‹/think› and ‹answer› work, 1 < 2"
