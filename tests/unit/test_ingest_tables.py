"""CSV, JSON and benchmark rows as items; column mapping, dates, and the account of an import."""

from __future__ import annotations

import csv as stdlib_csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_edge.errors import PrlmError, UsageError
from prlm_edge.ingest import csv, jsonl, lamp, records
from prlm_edge.ingest.common import stable_id
from prlm_edge.ingest.dates import iso_date
from prlm_edge.ingest.into_profile import MAX_ITEM_CHARS, Report, import_items
from prlm_edge.ingest.mapping import parse_map
from prlm_edge.profile import Profile
from prlm_edge.types import Item

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "posts.csv"


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("2024", "2024"),
        ("2024-08", "2024-08"),
        ("2024-08-01", "2024-08-01"),
        ("2024-02-30", ""),
        ("2024-13", ""),
        ("2024-08-01T10:00:00Z", "2024-08-01"),
        ("2024-08-01 10:00:00 +0200 CEST", "2024-08-01"),
        ("2024/08/01", "2024-08-01"),
        ("Thu, 01 Aug 2024 10:00:00 +0200", "2024-08-01"),
        ("August 1, 2024", "2024-08-01"),
        ("1 Aug 2024", "2024-08-01"),
        ("Aug 2024", "2024-08"),
        ("1722506400", "2024-08-01"),
        ("1722506400000", "2024-08-01"),
        (2024, "2024"),
        ("01/02/2024", ""),
        ("", ""),
        ("soon", ""),
        ("20240801", "2024-08-01"),
        ("2024/1/5", "2024-01-05"),
        ("2024年1月5日", "2024-01-05"),
        ("January 5th, 2024", "2024-01-05"),
        ("25.01.2024", "2024-01-25"),
        ("1/15/2024 10:00 PM", "2024-01-15"),
        ("Fri Jan  5 10:00:00 2024 +0100", "2024-01-05"),
        ("Fri Jan 05 2024 10:00:00 GMT+0100 (Central European Standard Time)", "2024-01-05"),
        ("20240105T103000Z", "2024-01-05"),
        ("20240105103000", "2024-01-05"),
        ("202401051030", "2024-01-05"),
        ("946684800000", "2000-01-01"),
        ("/Date(1704067200000+0100)/", "2024-01-01"),
        (1704067200.5, "2024-01-01"),
        ("1704067200.5", "2024-01-01"),
        (946684800, "2000-01-01"),
        ({"$date": "2024-01-05T00:00:00Z"}, "2024-01-05"),
        ({"$date": {"$numberLong": "1704067200000"}}, "2024-01-01"),
        ({"_seconds": 1704067200, "_nanoseconds": 0}, "2024-01-01"),
        ({"year": 2024, "month": 1, "day": 5}, "2024-01-05"),
        ([2024, 1, 5, 10, 0], "2024-01-05"),
        # What is no date, or might be two.
        (float("inf"), ""),
        (float("nan"), ""),
        (10**30, ""),
        (True, ""),
        (5, ""),
        ("1e999", ""),
        ("10:30", ""),
        ("May 5", ""),
        ("1.2.3", ""),
        ("0000-00-00", ""),
        ("0001-01-01T00:00:00", ""),
        ("9999-12-31", ""),
        ({"$date": "soon"}, ""),
    ],
)
def test_dates(written: object, iso: str) -> None:
    assert iso_date(written) == iso


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.text(max_size=30) | _JSON | st.from_regex(r"[\dA-Za-z ,./:-]{1,20}", fullmatch=True))
def test_any_date_is_iso_or_nothing(written: object) -> None:
    found = iso_date(written)
    assert found == "" or (len(found) in (4, 7, 10) and iso_date(found) == found)


def test_ids_don_t_depend_on_the_unicode_form_of_a_name() -> None:
    assert stable_id("m", "caf\u00e9") == stable_id("m", "cafe\u0301") != stable_id("m", "cafe")
    assert stable_id("m", "a", "b") != stable_id("m", "ab")


def test_csv_with_usual_columns(file: Path) -> None:
    file.write_text(
        '\ufeffHeadline,Body,Published,Extra\nOne,"text, with\nlines",2024-08-01,x\n\nTwo,,01/02/2024,y\n,,,z\n'
    )
    told: list[tuple[str, str]] = []
    items = list(csv.read(file, kind="post", on_skip=lambda *what: told.append(what)))
    assert [(item.title, item.text, item.date, item.kind, item.source) for item in items] == [
        ("One", "text, with\nlines", "2024-08-01", "post", "csv:posts.csv"),
        ("Two", "", "", "post", "csv:posts.csv"),
    ]
    assert items[0].meta == {"Extra": "x"}
    assert items[1].meta == {"date": "01/02/2024", "Extra": "y"}  # ambiguous, so not guessed and not lost
    assert told == [("row 5 (line 6)", "neither text nor title")]
    assert [item.id for item in items] == [item.id for item in csv.read(file)]


@pytest.mark.parametrize(
    ("written", "read", "told"),
    [
        ("title,text,date\nA,one, two,2024\nB,c,2024\n", [("B", "c")], ["row 2 (line 2): 4 cells, but 3 columns"]),
        ("title,text,date\nA,one\ntwo,2024\nB,c,2024\n", [("B", "c")], ["row 2", "row 3"]),
        ('text\none, two, three\n"four,\nfive"\n', [("", "one, two, three"), ("", "four,\nfive")], []),
        ("title,text,\nA,b\nC,d,,\n", [("A", "b"), ("C", "d")], []),
        # Quotes: never closed, in the wrong place, with backslashes, behind blanks, or just characters.
        ('title,text\nA,"open\nB,b\nC,c\n', [("B", "b"), ("C", "c")], ["row 2 (line 2): a quote that is never closed"]),
        ('title,text\nA,"open\nB,"b, c"\n', [("B", "b, c")], ["row 2 (line 2): quotes in the wrong place"]),
        ('title,text\nA,"x\ny "z"\nq, r"\nB,b\n', [("B", "b")], ["row 2", "row 3", "row 4"]),
        ('title\ttext\nA\t"open\nB\tb\n', [("A", '"open'), ("B", "b")], []),
        ('title,text\nA,"Hello" he said\nB,5" wide\n', [("A", '"Hello" he said'), ("B", '5" wide')], []),
        ('title,text\nA,"say \\"no\\", now"\n"x \\", y",z\n', [("A", 'say "no", now'), ('x ", y', "z")], []),
        ('title,text\nA,"C:\\"\n"D:\\",b\n', [("A", "C:\\"), ("D:\\", "b")], []),
        ('title, text\nA, "b, c" \n', [("A", "b, c")], []),
        ("title\ttext\nA\tfirst\\\nsecond\n", [("A", "first\nsecond")], []),
        # Before the header.
        ("sep=;\r\ntitle;text\r\nA;b, c\r\n", [("A", "b, c")], []),
        ('\ufeff"sep=\t"\ntitle\ttext\nA\tb\n', [("A", "b")], []),
        ("All posts\nof 2024,,\n\ntitle,text,x\nA,b,c\n", [("A", "b")], ["row 1", "row 2"]),
        # Other programs' files.
        ("title,text\rA,b\r", [("A", "b")], []),
        ("title,text\nA,\0\0\nB,c\0d\n\\N,e\n", [("A", ""), ("", "e")], ["row 3 (line 3): NUL bytes in it"]),
        ("title,text,body,text\nA,b,c,d\n", "two columns are named 'text'", []),
        ("id,kind,words\n1,post,hello\n", "neither a title nor a text column; columns: id, kind, words", []),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_csv_of_every_origin_is_read_or_refused_by_row(
    file: Path, written: str, read: list[tuple[str, str]] | str, told: list[str], encoding: str
) -> None:
    file.write_bytes(written.removeprefix("\ufeff" * (encoding != "utf-8")).encode(encoding))
    if isinstance(read, str):
        with pytest.raises(UsageError, match=read):
            list(csv.read(file))
        return
    heard: list[str] = []
    items = list(csv.read(file, on_skip=lambda where, why: heard.append(f"{where}: {why}")))
    assert [(item.title, item.text) for item in items] == read
    assert len(heard) == len(told)
    assert all(line.startswith(start) for line, start in zip(heard, told, strict=True)), heard


@settings(deadline=None)
@given(st.text(alphabet='ab,;"\\\n\r\t \0=', max_size=80))
def test_whatever_a_csv_file_holds_its_cells_are_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(f"title,text\n{text}\n".encode())
    told: list[str] = []
    items = list(csv.read(path, delimiter=",", on_skip=lambda *what: told.append(str(what))))
    read = Counter("".join(item.title + item.text + "".join(map(str, item.meta.values())) for item in items))
    assert told or all(read[letter] == text.count(letter) for letter in "ab"), (items, told)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiters_are_found_out(file: Path, delimiter: str) -> None:
    with file.open("w", newline="") as stream:
        writer = stdlib_csv.writer(stream, delimiter=delimiter)
        writer.writerows([["title", "text"], ["A, b; c", "one | two\tthree, four; five"], ["x", "y"]])
    assert [item.title for item in csv.read(file)] == ["A, b; c", "x"]


def test_csv_mapping(file: Path) -> None:
    file.write_text("a,b,title\n1,text one,not this\n2,text two,\n")
    items = list(csv.read(file, mapping=parse_map(["title=A", "text=b"])))
    assert [(item.title, item.text) for item in items] == [("1", "text one"), ("2", "text two")]
    with pytest.raises(UsageError, match=r"no column 'boddy'; columns: a, b, title"):
        list(csv.read(file, mapping={"text": "boddy"}))
    file.write_text("foo,bar\n1,2\n")
    with pytest.raises(UsageError, match="neither a title nor a text column; columns: foo, bar") as caught:
        list(csv.read(file))
    assert "--map" in caught.value.hint


@pytest.mark.parametrize(
    ("pair", "said"), [("title", "not of the form"), ("nope=x", "no field 'nope'"), ("text=", "not of")]
)
def test_bad_mappings(pair: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_map([pair])
    with pytest.raises(UsageError, match="mapped twice"):
        parse_map(["text=a", "text=b"])


def test_csv_encodings(file: Path) -> None:
    text = "title,text\nGrün,Größe\n"
    for data, encoding in (
        (text.encode("utf-16"), ""),
        (text.encode("utf-8-sig"), ""),
        (text.encode("cp1252"), "cp1252"),
        (gzip.compress(text.encode()), ""),
    ):
        file.write_bytes(data)
        assert [item.title for item in csv.read(file, encoding=encoding)] == ["Grün"]
    file.write_bytes(text.encode("cp1252"))
    with pytest.raises(UsageError, match="not utf-8 text") as caught:
        list(csv.read(file))
    assert "--encoding" in caught.value.hint
    with pytest.raises(UsageError, match="no such encoding"):
        list(csv.read(file, encoding="klingon"))
    with pytest.raises(UsageError, match="one character"):
        list(csv.read(file, delimiter="::"))


def test_csv_large_fields_short_rows_and_the_limit_put_back(file: Path) -> None:
    before = stdlib_csv.field_size_limit()
    file.write_text(f"title,text\nA,{'x' * 500_000}\nshort\n")
    told: list[str] = []
    assert len(next(csv.read(file)).text) == 500_000
    assert len(list(csv.read(file, on_skip=lambda where, why: told.append(why)))) == 1
    assert told == ["1 cells, but 2 columns (an unquoted line break in a text?)"]
    file.write_text(f"title,text\nA,{'x' * (csv.MAX_FIELD_CHARS + 1)}\nB,y\n")
    assert [item.title for item in csv.read(file, on_skip=lambda where, why: told.append(f"{where}: {why}"))] == ["B"]
    assert told[1:] == ["row 2 (line 2): a quote that is never closed, or more than 4 MiB in a cell"]
    assert stdlib_csv.field_size_limit() == before


_CELLS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).filter(
    lambda cell: cell.strip() != "\\N"
)


@settings(deadline=None)
@given(st.lists(st.tuples(_CELLS, _CELLS), max_size=8))
def test_csv_reads_back_what_the_library_writes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    rows = [(a, b) for a, b in rows if (a.strip() or b.strip())]
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = stdlib_csv.writer(stream)
        writer.writerows([("title", "text"), *rows])
    read = [(item.title, item.text) for item in csv.read(path, delimiter=",")]
    assert read == [(a.strip(), b.strip()) for a, b in rows]


def test_jsonl_in_many_shapes(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"id": 1, "headline": "H", "body": "B", "published": "Aug 1, 2024", "stars": 5}\n\nnot json\n[1]\n'
        '{"id": "2", "abstract": "A", "title": null}\n{"id": 3}\n'
        '{"id": 4, "text": NaN, "title": "T", "n": NaN}\n'
    )
    told: list[tuple[str, str]] = []
    items = list(jsonl.read(path, kind="post", on_skip=lambda *what: told.append(what)))
    assert items == [
        Item("1", "B", "H", "2024-08-01", "post", "jsonl:x.jsonl", {"stars": 5}),
        Item("2", "A", "", "", "post", "jsonl:x.jsonl"),
        Item("4", "", "T", "", "post", "jsonl:x.jsonl", {"n": None}),
    ]
    assert told == [
        ("line 3", "invalid JSON at column 1: Expecting value"),
        ("line 4", "not a JSON object but an array"),
        ("line 6", "neither text nor title"),
    ]


def test_a_profile_imports_into_a_profile(tmp_path: Path) -> None:
    item = Item("a", "text", "T", "2020-01", "post", "git:x", {"tags": ["y"]})
    Profile.open(tmp_path / "one.jsonl", create=True).append([item])
    assert list(jsonl.read(tmp_path / "one.jsonl")) == [item]


def test_json_arrays_stream_and_nested_columns_are_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_CHUNK_CHARS", 7)
    rows = [{"id": i, "post": {"body": {"text": f'text {i} é[]{{}},"' * i}}, "t": f"T{i}"} for i in range(40)]
    path = tmp_path / "x.json"
    mapping = {"title": "t", "text": "post.body.text"}
    for indent in (None, 2):
        for data in (
            json.dumps(rows, indent=indent),
            " " * 20 + "\n" + json.dumps(rows, indent=indent, ensure_ascii=False) + "\n",
        ):
            path.write_text(data)
            for candidate in (path, tmp_path / "x.json.gz"):
                if candidate != path:
                    candidate.write_bytes(gzip.compress(data.encode()))
                items = list(jsonl.read(candidate, mapping=mapping))
                assert [(item.id, item.title, item.text) for item in items] == [
                    (str(i), f"T{i}", f'text {i} é[]{{}},"' * i) for i in range(40)
                ]
    path.write_text("[]")
    assert list(jsonl.read(path)) == []


@pytest.mark.parametrize(
    "data",
    [
        b'[{"text": "a"}, {"text": ',
        b'[{"text": "a"} oops]',
        b'[{"text": "a"}',
        b"[",
        b'[{"text": "\xff"}]',
        b"[" + b'{"a":' * 100_000,
    ],
)
def test_damaged_arrays_are_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"x\.json: "):
        list(jsonl.read(path))


FORMS = {
    "lines": lambda rows: "\n\n".join(map(json.dumps, rows)) + "\r\n",
    "lines with commas": lambda rows: ",\n".join(map(json.dumps, rows)),
    "a sequence": lambda rows: "".join(f"\x1e{json.dumps(row)}\n" for row in rows),
    "an array": json.dumps,
    "a pretty array": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False),
    "on one line": lambda rows: " ".join(map(json.dumps, rows)),
    "pretty documents": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows),
    "arrays": lambda rows: "\n".join(json.dumps([row]) for row in rows),
    "within a document": lambda rows: json.dumps({"version": 1, "data": {"entries": rows, "tags": []}}, indent=2),
    "by their ids": lambda rows: json.dumps({row["id"]: row for row in rows}),
}


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), _JSON), min_size=2, max_size=4), st.data())
def test_json_of_every_form(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[str, object]], data: st.DataObject
) -> None:
    rows = [{"id": f"{i}", "text": f"x{text}", "more": more} for i, (text, more) in enumerate(written)]
    form = data.draw(st.sampled_from(sorted(FORMS)))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_bytes(FORMS[form](rows).encode(encoding, "replace"))
    told: list[str] = []
    items = list(jsonl.read(path, on_skip=lambda *what: told.append(str(what))))
    assert [(item.id, item.text) for item in items] == [(row["id"], row["text"]) for row in rows], (form, told)


def test_what_json_may_hold_beside_what_we_can(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"text": "a", "n": 1e999, "m": -1e999, "i": ' + "9" * 5000 + ', "date": 1e400}\n'
        '{"text": "b", "text": "c"}\n{"text": "d", "x": {"y": 1, "y": 2}}\n{"text": "e", "x": 1, "x": 1}\n'
        '{"text": "f\\ud800"}\n{"text": "g", "meta": 5}\n'
    )
    for name in ("x.jsonl", "x.json"):
        path.rename(tmp_path / name)
        path = tmp_path / name
        if name == "x.json":
            path.write_text("[" + ",".join(path.read_text().splitlines()) + "]")
        told: list[str] = []
        items = list(jsonl.read(path, on_skip=lambda where, why, told=told: told.append(why)))
        assert [item.text for item in items] == ["a", "e", "f\ufffd", "g"]
        assert items[0].meta == {"n": "1e999", "m": "-1e999", "i": "9" * 5000, "date": "1e400"}
        assert items[3].meta == {"meta": 5}
        assert told == [f'the key "{key}" stands twice in it, with different values' for key in ("text", "y")]
        profile = Profile.open(tmp_path / f"{name}.me", create=True)
        report = Report()
        import_items(profile, items, report)
        assert (report.added, report.undated) == (4, 1)
        import_items(profile, [replace(items[0], text="newer")], Report(), update=True)
        assert "newer" in {item.text for item in profile}


def test_the_records_of_a_document_are_found_or_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    told: list[str] = []

    def texts(document: object) -> list[str]:
        path.write_text(json.dumps(document))
        return [item.text for item in jsonl.read(path, on_skip=lambda where, why: told.append(why))]

    feed = {"title": "My feed", "description": "d", "items": [{"content": "a"}, {"content": "b"}]}
    assert texts(feed) == ["a", "b"]
    assert told == ['it has a title of its own, outside of "items"']
    assert texts({"text": "a post", "comments": [{"text": "another's"}]}) == ["a post"]
    with pytest.raises(UsageError, match="several lists of records in one document: a, b"):
        texts({"a": [{"text": "x"}], "b": [{"text": "y"}]})
    with pytest.raises(UsageError, match="neither a title nor a text column"):
        texts({"a": [{"words": "x"}]})


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    whole = gzip.compress(b'{"text": "a"}\n' * 5000)
    for damaged in (whole[:-20], whole[:5], b"\x1f\x8bjunk"):  # in the middle, and before the first byte
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="damaged gzip"):
            list(jsonl.read(path))
    for read in (jsonl.read, csv.read, lamp.read):
        with pytest.raises(UsageError, match="no such file"):
            list(read(tmp_path / "none"))
        with pytest.raises(UsageError, match="Is a directory"):
            list(read(tmp_path))
    (tmp_path / "y.jsonl").write_text("just\ntext\n")
    with pytest.raises(UsageError, match="none of the first 2 lines is a JSON object"):
        list(jsonl.read(tmp_path / "y.jsonl"))
    (tmp_path / "z.jsonl").write_text('{"foo": 1}\n')
    with pytest.raises(UsageError, match="columns: foo"):
        list(jsonl.read(tmp_path / "z.jsonl"))
    with pytest.raises(UsageError, match="no column 'nope'"):
        list(jsonl.read(tmp_path / "z.jsonl", mapping={"text": "nope"}))


LAMP = {
    "LaMP_4": [
        {
            "id": "310",
            "input": "Generate a headline for the following article: The storm came.",
            "profile": [
                {"text": "An article", "title": "A Headline", "id": "3100"},
                {"text": "Another", "title": "Two", "id": "3101"},
            ],
        },
        {
            "id": "311",
            "input": "Generate a headline for the following article: Bread.",
            "profile": [{"text": "Third", "title": "Three", "id": "3110"}],
        },
    ],
    "LaMP_5": [
        {
            "id": "50",
            "user_id": 9,
            "input": "Generate a title for the following abstract of a paper: We show it.",
            "profile": [{"title": "Paper", "abstract": "We prove", "id": "500", "date": "2019-05-06"}],
        }
    ],
    "LaMP_7": [
        {
            "id": "70",
            "input": "Paraphrase the following tweet without any explanation before or after it: Well",
            "profile": [{"text": "my tweet", "id": "700"}, {"id": "701"}, "odd"],
        }
    ],
}
GOLDS = {"LaMP_4": {"310": "Storm!", "311": "Rise"}, "LaMP_5": {"50": "It, Shown"}, "LaMP_7": {"70": "weeeell"}}


def write_lamp(folder: Path, task: str) -> Path:
    path = folder / f"{task}_dev_questions.json"
    path.write_text(json.dumps(LAMP[task]))
    path.with_name(f"{task}_dev_outputs.json").write_text(
        json.dumps({"task": task, "golds": [{"id": id, "output": text} for id, text in GOLDS[task].items()]})
    )
    return path


def test_lamp_headlines_titles_and_tweets(tmp_path: Path) -> None:
    path = write_lamp(tmp_path, "LaMP_4")
    assert [(item.id, item.title, item.text) for item in lamp.read(path, user="310")] == [
        ("3100", "A Headline", "An article"),
        ("3101", "Two", "Another"),
    ]
    with_target = list(lamp.read(path, user="311", with_target=True))
    assert [(item.id, item.title, item.text, item.kind) for item in with_target] == [
        ("3110", "Three", "Third", "article"),
        ("311", "Rise", "Bread.", "article"),
    ]
    paper, target = lamp.read(write_lamp(tmp_path, "LaMP_5"), with_target=True)
    assert (paper.text, paper.title, paper.date, paper.kind) == ("We prove", "Paper", "2019-05-06", "paper")
    assert (target.text, target.title) == ("We show it.", "It, Shown")
    told: list[tuple[str, str]] = []
    tweet, own = lamp.read(write_lamp(tmp_path, "LaMP_7"), with_target=True, on_skip=lambda *what: told.append(what))
    assert (tweet.text, tweet.title, own.text, own.kind) == ("my tweet", "", "weeeell", "post")
    assert told == [("user 70, item 2", "neither text nor title"), ("user 70, item 3", "not a JSON object")]


def test_lamp_users_have_to_be_chosen(tmp_path: Path) -> None:
    path = write_lamp(tmp_path, "LaMP_4")
    with pytest.raises(UsageError, match="rows of 2 users") as caught:
        list(lamp.read(path))
    assert "--lamp-user ID, such as 310 or 311" in caught.value.hint
    with pytest.raises(UsageError, match="no user '999' among 2"):
        list(lamp.read(path, user="999"))
    path.with_name("LaMP_4_dev_outputs.json").unlink()
    with pytest.raises(UsageError, match=r"outputs\.json: no such file"):
        list(lamp.read(path, user="310", with_target=True))
    (tmp_path / "odd.jsonl").write_text('{"text": "no profile"}\n')
    with pytest.raises(UsageError, match="line 1: no id and profile in it"):
        list(lamp.read(tmp_path / "odd.jsonl"))
    path.with_name("LaMP_4_dev_outputs.json").write_text('{"golds": 5}')
    with pytest.raises(UsageError, match="not LaMP outputs"):
        list(lamp.read(path, user="310", with_target=True))


@pytest.mark.parametrize("task", ["acl_title", "commit_subject", "release_note"])
def test_real_rows(task: str) -> None:
    path = SHARED / "sample" / f"{task}.sample20.jsonl"
    if not path.exists():
        pytest.skip("the shared sample data is not beside the repository")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    with pytest.raises(UsageError, match="rows of 20 users"):
        list(lamp.read(path))
    for row in rows:
        items = list(lamp.read(path, user=row["user_id"]))
        assert [(i.id, i.title, i.text, i.date) for i in items] == [
            (p["id"], p["title"], p["text"], p["date"]) for p in row["profile"]
        ]
        *_, target = lamp.read(path, user=row["user_id"], with_target=True)
        assert (target.text, target.title) == (row["query"]["text"], row["target"])


def test_real_gzipped_rows() -> None:
    path = SHARED / "release_note" / "dev.jsonl.gz"
    if not path.exists():
        pytest.skip("the shared data is not beside the repository")
    with gzip.open(path, "rt") as stream:
        first = json.loads(next(stream))
    assert len(list(lamp.read(path, user=first["user_id"]))) >= len(first["profile"])


@pytest.mark.parametrize(
    ("record", "mapping", "topic", "rest"),
    [
        (
            {"text": "x", "Description": "On rye.", "tags": ["a"]},
            {},
            "On rye",
            {"Description": "On rye.", "tags": ["a"]},
        ),
        ({"title": "x", "description": "On rye"}, {}, "", {}),  # is the text
        (
            {"title": "On rye", "text": "x", "summary": "on Rye!", "tags": "a, b"},
            {},
            "a, b",
            {"summary": "on Rye!", "tags": "a, b"},
        ),
        ({"text": "x", "topic": "Rye, and all that."}, {}, "Rye, and all that.", {}),
        ({"text": "x", "tags": "a", "meta": {"topic": "rye"}}, {}, "rye", {"tags": "a"}),
        (
            {"text": "x", "tags": "a", "x": {"y": "On rye"}},
            {"topic": "x.y"},
            "On rye",
            {"tags": "a", "x": {"y": "On rye"}},
        ),
        ({"text": "x", "tags": 5, "summary": {"a": 1}}, {}, "", {"tags": 5, "summary": {"a": 1}}),
    ],
)
def test_a_column_says_what_a_text_is_about(
    tmp_path: Path, record: dict[str, Any], mapping: dict[str, str], topic: str, rest: dict[str, Any]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (item,) = jsonl.read(path, mapping=parse_map(f"{field}={column}" for field, column in mapping.items()))
    assert (item.topic, {key: value for key, value in item.meta.items() if key != "topic"}) == (topic, rest)
    if all(isinstance(value, str) for value in record.values()):
        with (tmp_path / "x.csv").open("w", newline="") as stream:
            stdlib_csv.writer(stream).writerows([list(record), list(record.values())])
        assert [item.topic for item in csv.read(tmp_path / "x.csv")] == [topic]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"meta": {"topic": "rye"}}, {"meta": {"mine": 1, "tags": ["a"], "topic": "rye"}}),
        ({"meta": {"tags": ["b"]}}, {"meta": {"mine": 1, "tags": ["b"]}}),
        ({"kind": "post", "date": "2024"}, {"kind": "post"}),
        ({"text": "newer", "date": "2024"}, {"text": "newer", "date": "2024"}),
        (
            {"text": "newer", "meta": {"topic": "x\udce9"}},
            {"text": "newer", "meta": {"mine": 1, "tags": ["a"], "topic": "x\ufffd"}},
        ),
        ({"text": "of another"}, None),
        ({"source": "other", "text": "old"}, None),
        ({}, None),
    ],
)
def test_update_takes_what_the_source_says_and_keeps_the_rest(
    tmp_path: Path, told: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    profile = Profile.open(tmp_path / "me.jsonl", create=True)
    old = Item("1", "old", "T", date="2023", source="s", meta={"mine": 1, "tags": ["a"]})
    profile.append([old, Item("2", "of another", "T", source="s")])
    item = replace(Item("1", "old", "T", source="s"), **told)
    for update, n in ((False, 0), (True, expected is not None), (True, 0)):
        report = Report()
        import_items(profile, [item], report, update=update)
        assert (report.added, report.updated) == (0, n)
        assert report.duplicates + report.changed + report.updated == 1
        if not update:
            assert report.changed == (expected is not None)
    assert Profile.open(profile.path).items[0] == replace(old, **expected or {})
    assert len(Profile.open(profile.path)) == 2


def test_an_import_counts_everything_once(tmp_path: Path) -> None:
    profile = Profile.open(tmp_path / "me.jsonl", create=True)
    profile.append([Item("1", "old", source="s"), Item("2", "kept", source="other")])
    items = [
        Item("1", "old", source="s"),
        Item("1", "newer", source="s"),
        Item("2", "not an update", source="s"),
        Item("3", "new", source="s"),
        Item("4", "new", source="s"),
        Item("5", "x" * (MAX_ITEM_CHARS + 1)),
    ]
    for dry_run in (True, False):
        report = Report()
        import_items(profile, items, report, batch=2, dry_run=dry_run)
        assert (report.read, report.added, report.duplicates, report.changed) == (6, 2, 2, 1)
        assert dict(report.skipped) == {"longer than 2,000,000 characters": 1}
        assert report.dry_run is dry_run
        assert len(profile) == (2 if dry_run else 4)
    assert sorted(item.text for item in profile) == ["kept", "new", "not an update", "old"]
    again = Report()
    import_items(profile, items, again)
    assert (again.added, again.duplicates) == (0, 4)


def test_an_interrupted_import_keeps_its_batches_and_says_how_many(tmp_path: Path) -> None:
    profile = Profile.open(tmp_path / "me.jsonl", create=True)

    def stream() -> Iterator[Item]:
        for i in range(25):
            yield Item(f"{i}", f"text {i}")
        raise KeyboardInterrupt

    report = Report()
    with pytest.raises(KeyboardInterrupt):
        import_items(profile, stream(), report, batch=10)
    assert (report.interrupted, report.read, report.added) == (True, 25, 20)
    assert len(Profile.open(profile.path)) == 20
    failed = Report()
    with pytest.raises(PrlmError):
        import_items(profile, _failing(), failed, batch=10)
    assert failed.added == 10
    assert len(Profile.open(profile.path)) == 30


def _failing() -> Iterator[Item]:
    for i in range(15):
        yield Item(f"f{i}", f"further {i}")
    raise PrlmError("the source broke")
