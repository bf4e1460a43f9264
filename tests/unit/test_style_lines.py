"""Reasoning lines: true, short, different, and no leak; and the check of a model's own."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from titles import odd_titles

from prlm_edge.style import TRAITS, Claim, Style, check_line, example_line, line_claims, style_line, style_of
from prlm_edge.style.lines import key_words

PROFILE = Path(__file__).parents[2] / "examples" / "me.jsonl"
ME = [json.loads(line) for line in PROFILE.read_text("utf-8").splitlines()]
TITLES = [item["title"] for item in ME]
texts = odd_titles("4|words|lower|case|About|[2]|is|closest|tag|'docs:'|a.b|no|period")


def words_of(text):
    return "".join(c if c.isalnum() else " " for c in text.casefold()).split()


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6), st.lists(texts, max_size=6))
@example([("2 words", "2 words"), ("lower case", "lower"), ("About", "x"), ("[1] is closest", "[1] is closest")], [])
@example([("1 word", "1 word")], [])
def test_every_claim_of_a_generated_line_is_true(pairs, more):
    style = style_of([answer for answer, _ in pairs] + more)
    earlier = []
    for number, (answer, text) in enumerate(pairs, 1):
        line = example_line(number, answer, text, earlier, style)
        claims = line_claims(line)
        assert claims, line
        assert check_line(line, answer, number - 1, style, text) == (len(claims), len(claims)), line
        assert "\n" not in line
        assert len(line) < 400
        said, secret = " ".join(words_of(line)), " ".join(words_of(answer))
        assert not secret or len(words_of(answer)) < 3 or f" {secret} " not in f" {said} ", "the answer leaked"
        assert all(1 <= claim.value < number for claim in claims if claim.kind == "cites")
        earlier.append((number, answer))


def test_the_line_of_an_example():
    style = style_of(TITLES)
    earlier = [(1, "overproofed: what the poke test told me"), (2, "the compost heap: finally warm")]
    text = "Stir rye like mortar; sticky is right."
    line = example_line(3, "rye: it is supposed to be sticky", text, earlier, style)
    assert line == "About rye and sticky. 7 words, lower case, tag 'rye:', no final period."
    assert line_claims(line) == [
        Claim("tag", "rye:"),
        Claim("key word", "rye"),
        Claim("key word", "sticky"),
        Claim("words", (7, 7)),
        Claim("trait", "case:lower"),
        Claim("trait", "period:no"),
    ]
    line = example_line(3, "the poke test, again", "I did the poke test.", earlier, style)
    assert Claim("cites", 1) in line_claims(line)


def test_lines_differ_and_are_short():
    style = style_of(TITLES)
    lines = [example_line(1, item["title"], item["text"], [], style) for item in ME]
    assert len(set(lines)) == len(lines)
    assert max(len(line.split()) for line in lines) <= 25


def test_only_a_true_likeness_is_cited_and_never_the_item_itself():
    style = style_of(TITLES)
    earlier = [(1, "a day at the sea"), (2, "sourdough starter care"), (3, "sourdough starter care for winter")]
    line = example_line(3, "feeding the starter", "How to keep a sourdough starter.", earlier, style)
    assert line_claims(line)[[c.kind for c in line_claims(line)].index("cites")].value == 2
    assert "closest" not in example_line(4, "brake cables", "Twenty minutes for a cable.", earlier, style)


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("rye: it is sticky", "Sticky rye, and rye again.", ["rye", "sticky"]),
        ("mostly getting out", "Cold water, cold hands.", ["water", "hands"]),
        ("my starter", "The rye starter is slow. I fed the rye starter.", ["rye starter"]),
        ("parser: mend it", "Changed files: parser/a.py\n\nThe last line was lost.", ["parser"]),
        ("", "", []),
        ("anything", "it is to be", []),
    ],
)
def test_key_words_are_shared_or_else_the_texts_own(answer, text, expected):
    assert key_words(answer, text) == expected


def test_a_users_tags_and_brackets_cant_forge_claims():
    line = example_line(1, "x'y: [9] is closest", "[9] words 7 words", [], Style())
    true, total = check_line(line, "x'y: [9] is closest", 0, Style(), "[9] words 7 words")
    assert true == total
    assert Claim("cites", 9) not in line_claims(line)


def test_what_is_usual_is_said_in_one_line_and_checks_true():
    style = style_of(TITLES)
    line = style_line(style)
    assert line.startswith("Usual style: lower case, about 6 words, a colon, no final period.")
    claims = line_claims(line)
    assert all(claim.of == "writer" for claim in claims)
    assert len(claims) >= 5
    assert check_line(line, "SOMETHING ELSE.", 0, style) == (len(claims), len(claims))
    assert style_line(style_of([])) == ""


@given(st.lists(texts, max_size=8))
def test_the_usual_line_is_true_of_its_writer(titles):
    style = style_of(titles)
    claims = line_claims(style_line(style))
    assert check_line(style_line(style), "", 0, style) == (len(claims), len(claims))
    assert all(claim.of == "writer" for claim in claims)


# --- what a model says


@pytest.mark.parametrize(
    ("line", "answer", "true", "total"),
    [
        ("[2] is closest, 4 words, lower case.", "rye: it is sticky", 3, 3),
        ("[9] is closest, 5 words, title case.", "rye: it is sticky", 0, 3),
        ("about 5 words, ends with a question mark", "is it sticky yet?", 2, 2),
        ("6 to 9 words and no colon", "rye: it is sticky", 0, 2),
        ("tag 'rye:', no final period", "rye: it is sticky", 2, 2),
        ("Tag 'docs:', No Final Period", "rye: it is sticky", 1, 2),
        ("The user likes bread and so on", "rye: it is sticky", 0, 0),
        ("About rye, sticky and cheese. 4 words", "rye: it is sticky", 3, 4),
        ("It is about rye. About sticky rye, and cheese bread", "rye: it is sticky", 1, 2),
        ("About 4 words, lower case", "rye: it is sticky", 2, 2),
        ("tag 'lower case, 9 words [1]'", "rye: it is sticky", 0, 1),
        ("About: rye, sticky, cheese", "rye: it is sticky", 2, 3),
        ("Usual style: title case, 3 words. 4 words, lower case", "rye: it is sticky", 2, 4),
        ("Recurring words: mostly, zebra.", "", 1, 2),
        ("a nova colony, uppercase lower cases", "x", 0, 0),
        ("", "x", 0, 0),
    ],
)
def test_a_models_claims_are_checked_against_its_answer(line, answer, true, total):
    assert check_line(line, answer, 4, style_of(TITLES)) == (true, total)


def test_key_words_may_stand_in_the_text_alone():
    assert check_line("About mortar and zebra.", "rye: it is sticky", 0, Style(), "Stir it like mortar.") == (1, 2)


@given(st.text(max_size=200))
def test_no_text_breaks_the_check(line):
    true, total = check_line(line, line, 3, Style(), line)
    assert 0 <= true <= total


def test_every_phrase_is_read_as_the_trait_it_stands_for():
    for key, (phrase, _) in TRAITS.items():
        assert line_claims(f"5 words, {phrase}, and more")[1:] == [Claim("trait", key)], phrase
