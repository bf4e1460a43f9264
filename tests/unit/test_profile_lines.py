"""One line: which shapes are items, and what is said of those that aren't."""

from __future__ import annotations

import io
import json
import math
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge.profile import MAX_LINE_BYTES, LineError, fields_of, item_from, parse_object, raw_lines
from prlm_edge.profile.lines import format_line, free_id, merge, parse_line, with_id
from prlm_edge.types import Item


def test_our_own_shape() -> None:
    line = (
        b'{"id": "p1", "title": "T", "text": "body", "date": "2024-08", "kind": "post", "source": "s", '
        b'"meta": {"a": [1]}}\n'
    )
    assert parse_line(line) == Item("p1", "body", "T", "2024-08", "post", "s", {"a": [1]})


@pytest.mark.parametrize(
    ("line", "text", "title", "id"),
    [
        ('{"text": "article", "title": "Headline", "id": "110"}', "article", "Headline", "110"),  # LaMP-4
        ('{"title": "Paper", "abstract": "We show", "id": 7}', "We show", "Paper", "7"),  # LaMP-5
        ('{"text": "a tweet", "id": "5"}', "a tweet", "", "5"),  # LaMP-7
        ('{"tag": "comedy", "description": "A film", "id": "9"}', "A film", "", "9"),  # LaMP-2
        ('{"id": "h", "headline": "Head", "body": "story"}', "story", "Head", "h"),
        ('{"id": "n", "text": null, "title": "only a title", "date": null, "meta": null}', "", "only a title", "n"),
        ('{"id": "e", "text": "", "abstract": "used when text is empty"}', "used when text is empty", "", "e"),
        ('{"id": 3.0, "text": "pandas made the id a float"}', "pandas made the id a float", "", "3"),
        ('\ufeff{"id": "b", "text": "byte order mark"}', "byte order mark", "", "b"),
        ('  {"id": "s", "text": "spaces and CRLF"}  \r\n', "spaces and CRLF", "", "s"),
    ],
)
def test_shapes_that_are_read(line: str, text: str, title: str, id: str) -> None:
    item = parse_line(line.encode())
    assert (item.text, item.title, item.id) == (text, title, id)


def test_a_year_as_a_number_is_a_date() -> None:
    assert parse_line(b'{"id": "y", "text": "t", "date": 2024}').date == "2024"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "a", "text": "x"', "invalid JSON at column 24: Expecting ',' delimiter"),
        (b'{"id": "a" "text": "x"}', "invalid JSON at column 12: Expecting ',' delimiter"),
        (b"not json", "invalid JSON at column 1: Expecting value"),
        (b'{"id": "a", "text": "x"} trailing', "invalid JSON at column 26: Extra data"),
        (b'{"id": "a", "text": "nul \x00 byte"}', "invalid JSON at column 26: Invalid control character at"),
        (b'{"id": "a", "text": "\xff"}', "invalid UTF-8 at byte 22"),
        (b'{"id": "a", "text": "\xed\xa0\x80"}', "invalid UTF-8 at byte 22"),  # an encoded surrogate
        (b'["a", "b"]', "not a JSON object but an array"),
        (b'"text"', "not a JSON object but a string"),
        (b"12", "not a JSON object but a number"),
        (b"null", "not a JSON object but null"),
        (b"true", "not a JSON object but a boolean"),
        (b'{"id": "a"}', "neither text nor title"),
        (b'{"id": "a", "text": " \\n\\t ", "title": ""}', "neither text nor title"),
        (b'{"id": "a", "text": ["x"]}', '"text" must be a string, not an array'),
        (b'{"id": "a", "text": 5}', '"text" must be a string, not a number'),
        (b'{"id": "a", "abstract": {}}', '"abstract" must be a string, not an object'),
        (b'{"id": "a", "text": "x", "title": false}', '"title" must be a string, not a boolean'),
        (b'{"id": true, "text": "x"}', '"id" must be a string or a number, not a boolean'),
        (b'{"id": [1], "text": "x"}', '"id" must be a string or a number, not an array'),
        (b'{"id": "a", "text": "x", "date": {}}', '"date" must be a string or a number, not an object'),
        (b'{"id": "a", "text": "x", "kind": 1}', '"kind" must be a string, not a number'),
        (b'{"id": "a", "text": "x", "meta": []}', '"meta" must be an object, not an array'),
        (b'{"id": ' + b"9" * 5000 + b', "text": "x"}', "invalid JSON: Exceeds the limit"),
        (b'{"text": ' + b"[" * 100_000, "invalid JSON: nested too deeply"),
    ],
)
def test_bad_lines_are_explained(line: bytes, reason: str) -> None:
    with pytest.raises(LineError) as caught:
        parse_line(line)
    assert str(caught.value).startswith(reason)


def test_a_missing_id_comes_from_the_content_and_nothing_else() -> None:
    a = parse_line(b'{"text": "body", "title": "T", "date": "2020", "extra": 1}')
    b = parse_line(b'{"title": "T", "abstract": "body"}')
    other = parse_line(b'{"title": "T", "abstract": "another body"}')
    assert a.id == b.id != other.id
    assert a.id


def test_lone_surrogates_become_the_replacement_character_everywhere() -> None:
    item = parse_line(rb'{"id": "a", "text": "x \ud83d y \ud83d\ude00", "meta": {"k": ["\udead"]}}')
    assert item.text == "x \ufffd y 😀"
    assert item.meta == {"k": ["\ufffd"]}
    item.text.encode()  # no encoder takes a lone surrogate


def test_nan_is_no_json_and_reads_as_null() -> None:
    item = parse_line(b'{"id": "a", "text": "x", "meta": {"score": NaN, "more": [Infinity]}}')
    assert item.meta == {"score": None, "more": [None]}


def test_extras_keep_what_an_item_has_no_place_for() -> None:
    record = {"id": "1", "text": "t", "description": "other", "score": 5, "meta": {"a": 1}}
    assert item_from(record, extras=True).meta == {"a": 1, "description": "other", "score": 5}
    assert item_from(record).meta == {"a": 1}


def test_writing_leaves_empty_fields_out_and_keeps_unicode() -> None:
    assert format_line(fields_of(Item("a", "tëxt\n2", kind="post"))) == (
        '{"id": "a", "text": "tëxt\\n2", "kind": "post"}\n'.encode()
    )


@pytest.mark.parametrize("meta", [{"x": {1, 2}}, {"x": math.nan}, {"x": b"bytes"}])
def test_meta_that_json_has_no_form_for_is_refused(meta: dict[str, object]) -> None:
    with pytest.raises(LineError, match="can't be written as JSON"):
        format_line(fields_of(Item("a", "t", meta=meta)))


def test_a_line_beyond_the_limit_is_refused() -> None:
    with pytest.raises(LineError, match="longer than 16 MiB"):
        format_line({"text": "x" * MAX_LINE_BYTES})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.dictionaries(st.text(max_size=5).filter(lambda key: key != "id"), _JSON, max_size=4)


@given(before=_FIELDS, after=_FIELDS, new=st.text(min_size=1), spaced=st.booleans())
def test_with_id_changes_the_id_and_no_other_byte(
    before: dict[str, object], after: dict[str, object], new: str, spaced: bool
) -> None:
    record = {**before, "id": "old", **{k: v for k, v in after.items() if k not in before}}
    separators = (" ,  ", "\t:  ") if spaced else (",", ":")
    data = json.dumps(record, separators=separators).encode() + b"\r\n"
    changed = with_id(data, new)
    assert json.loads(changed) == {**record, "id": new}
    marked = json.dumps(record | {"id": "@"}, separators=separators).encode() + b"\r\n"
    assert changed == with_id(marked, new)
    assert with_id(changed, "old") == data


def test_with_id_where_there_is_none_or_an_escaped_one() -> None:
    assert with_id(b'{"text": "{\\"id\\": 1}"}\n', "n") == b'{"id": "n", "text": "{\\"id\\": 1}"}\n'
    assert with_id(b'{ "i\\u0064" : 7 , "x" : 1e5 }', "n") == b'{ "i\\u0064" : "n" , "x" : 1e5 }'
    assert with_id(b'{"id": 1, "id": 2}', "n") == b'{"id": "n", "id": "n"}'


def test_merge_keeps_unknown_fields() -> None:
    old = b'{"id": "a", "abstract": "old", "rating": 1.50, "mine": {"x": []}}\n'
    merged = json.loads(merge(old, Item("a", "new", "T")))
    assert merged == {"id": "a", "title": "T", "text": "new", "rating": 1.5, "mine": {"x": []}}


def test_free_id_avoids_all_that_is_taken() -> None:
    item = Item("a", "t")
    first = free_id(item, {})
    second = free_id(item, {first: 0})
    assert first != second != free_id(item, {first: 0}, {second})


@given(st.binary(max_size=200), st.integers(1, 40))
def test_raw_lines_lose_no_byte(data: bytes, limit: int) -> None:
    digest = blake2b()
    lines = list(raw_lines(io.BytesIO(data), digest, limit))
    assert sum(line.size for line in lines) == len(data)
    assert digest.digest() == blake2b(data).digest()
    assert [line.size for line in lines] == [len(part) for part in io.BytesIO(data)]
    for line in lines:
        assert (line.data is None) == (line.size > limit + 1 or (line.size > limit and not line.ended))


def test_what_is_written_while_we_read_is_no_line_of_its_own() -> None:
    class Growing(io.BytesIO):
        """A file that another process appends to whenever its end was reached."""

        def readline(self, size: int | None = -1, /) -> bytes:
            data = super().readline(size)
            at = self.tell()
            self.write(b' rest of the record"}\n')
            self.seek(at)
            return data

    [line] = raw_lines(Growing(b'{"title": "half'), blake2b())
    assert (line.data, line.ended) == (b'{"title": "half', False)


def test_utf8_is_checked_before_json() -> None:
    with pytest.raises(LineError, match="invalid UTF-8 at byte 3"):
        parse_object(b"ab\xc3(")
