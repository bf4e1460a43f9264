"""The tokenizer that every BM25 path shares."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge.retrieve import tokens as tokens_module
from prlm_edge.retrieve.tokens import MAX_CHARS, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Winter sourdough, again!", ["winter", "sourdough", "again"]),
        ("", []),
        ("  \n\t ", []),
        ("-- _ __ ...", []),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("e\u0301cole ÉCOLE", ["ecole", "ecole"]),
        ("ﬁne ０１ Ⅳ", ["fine", "01", "iv"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # combining marks stay inside their word
        ("مُحَمَّد محمد", ["محمد", "محمد"]),
        ("東京都", ["東", "京", "都", "東京", "京都"]),
        ("Python入門", ["python", "入", "門", "入門"]),
        ("한국", ["한", "국", "한국"]),
        ("🎉 party", ["🎉", "party"]),
        ("👩‍🍳 👩🏽‍🍳 ❤️ ❤", ["👩", "🍳", "👩", "🍳", "❤", "❤"]),
        ("🇩🇪🇫🇷 5 € → ∞", ["🇩🇪", "🇫🇷", "5", "€", "→", "∞"]),
        ("« — … » ¿qué?", ["que"]),  # punctuation is no symbol
        ("C++ c# F#, g++ i++; x#y #tag C", ["c++", "c#", "f#", "g++", "i++", "x", "y", "tag", "c"]),
        ("Objective-C++ objc++", ["objective", "c++", "objc++", "objc"]),
        ("naïve Ångström smørrebrød œuvre", ["naive", "angstrom", "smorrebrod", "oeuvre"]),
        ("ёлка Ещё мой стро́й", ["елка", "еще", "мой", "строй"]),  # й is a letter of its own
        ("Їжак ўсё", ["їжак", "ўсе"]),
        ("כִּתָּב أَحْمَد كـتاب", ["כתב", "احمد", "كتاب"]),
        ("İstanbul ISPARTA ısparta", ["istanbul", "isparta", "isparta"]),
        ("Τίτλος ΤΙΤΛΟΣ", ["τιτλοσ", "τιτλοσ"]),
        ("co\u00adoperate می\u200cخواهم \ufeffzero\u200bwidth", ["cooperate", "میخواهم", "zerowidth"]),
        ("ガ が か\u3099", ["ガ", "が", "が"]),  # another sound, another letter
        ("\ud800x", ["x"]),
        ("fooBar_baz/qux.py", ["foobar_baz", "foo", "bar", "baz", "qux", "py"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("__init__", ["init"]),
        ("snake_case", ["snake_case", "snake", "case"]),
        ("utf8 GPT-4 v2Beta", ["utf8", "gpt", "4", "v2beta", "v2", "beta"]),
        ("iPhone", ["iphone", "phone"]),  # one-letter parts are noise
        ("RLHF", ["rlhf"]),
        ("Title", ["title"]),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


def test_a_file_name_in_a_commit_is_found_by_its_parts():
    assert set(tokenize("mem lib")) <= set(tokenize("StandaloneMmPkg/Library/Mem_Lib.c"))


def test_very_long_texts_are_cut():
    assert len(tokenize("a " * MAX_CHARS)) == MAX_CHARS // 2


@given(st.text())
def test_any_text_yields_folded_non_empty_tokens(text):
    for token in tokenize(text):
        assert token
        assert not any(c.isspace() for c in token)
        token.encode()


@given(st.text())
def test_composed_and_decomposed_texts_are_the_same(text):
    assert tokenize(unicodedata.normalize("NFD", text)) == tokenize(unicodedata.normalize("NFC", text))


@given(st.text(st.characters(max_codepoint=0x24F, categories=["L", "N", "Z", "P"])))
def test_case_does_not_matter_to_whole_words(text):
    # Parts of identifiers come from capitals, so only the plain words must agree; "İ" and "ı" have no inverse.
    plain = [w for w in text.split() if w.isalpha() and w.lower().upper().lower() == w.lower() and "ı" not in w]
    for word in plain:
        assert tokenize(word.upper())[0] == tokenize(word.lower())[0]


def test_no_mark_ends_a_word():
    marks = [chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in ("Mn", "Mc")]
    assert len(marks) > 1000
    assert [mark for mark in marks if not tokens_module._unicode_word().fullmatch(f"x{mark}")] == []
