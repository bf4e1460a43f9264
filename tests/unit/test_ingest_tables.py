"""CSV, JSON and benchmark rows as items; column mapping, dates, and the account of an import."""

from __future__ import annotations

import csv as stdlib_csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
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
    ],
)
def test_dates(written: object, iso: str) -> None:
    assert iso_date(written) == iso


@given(st.text(max_size=30) | st.integers())
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


_CELLS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


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
