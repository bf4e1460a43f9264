"""Markdown as items: front matter, markup, titles, drafts, what is passed over."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_edge.errors import UsageError
from prlm_edge.ingest import front_matter, markdown, plain_text
from prlm_edge.ingest.into_profile import Report, import_items
from prlm_edge.profile import Profile
from prlm_edge.types import Item


def one(path: Path, text: str | bytes, **options: bool) -> Item:
    path.write_bytes(textwrap.dedent(text).lstrip("\n").encode() if isinstance(text, str) else text)
    (item,) = markdown.read(path, **options)
    return item


@pytest.fixture
def note(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir()
    return tmp_path / "vault" / "my-first_post.md"


def test_front_matter_names_title_date_kind_and_tags(note: Path) -> None:
    item = one(
        note,
        """
        ---
        Title: "Winter: a \\"sourdough\\" story"   # not part of it
        date: 2024-01-05T10:00:00+01:00
        type: post
        tags: [bread, 'slow food', "a, b"]
        nested:
          title: not this one
        ---
        # A heading

        The *text*.
        """,
    )
    assert (item.title, item.date, item.kind) == ('Winter: a "sourdough" story', "2024-01-05", "post")
    assert item.text == "A heading\n\nThe text."
    assert item.source == "markdown:vault"
    assert item.meta == {
        "path": "my-first_post.md",
        "tags": ["bread", "slow food", "a, b"],
        "topic": "bread, slow food, a, b",
        "front_matter": {"nested": {"title": "not this one"}},
    }


def test_toml_front_matter(note: Path) -> None:
    item = one(
        note,
        """
        +++
        title = 'T'
        date = 2020-02-03
        tags = ["x"]
        [extra]
        title = "no"
        +++
        Body
        """,
    )
    assert (item.title, item.date, item.meta["tags"], item.text) == ("T", "2020-02-03", ["x"], "Body")


@pytest.mark.parametrize(
    ("front", "topic"),
    [
        ("tags: [rye, bread]\ndescription: Rye in *winter*.", "Rye in winter"),
        ("summary: A [link](http://x.y) and <b>more</b>\nkeywords: a, b", "A link and more"),
        ("description: On my first post!\nsubtitle: On rye", "On my first post!"),
        ("description: My first, post!\nsubtitle: On rye", "On rye"),  # the title again says nothing
        ("title: Slow rye bread\ntags: [bread, rye]\ncategories: Oven", "Oven"),
        ("description: ''\nexcerpt:\ntags: []\ndeck: 5", "5"),
        ("tags: [a, b, 3, [c], d, e, f]", "a, b, 3, d"),
        ("keywords: rye, bread", "rye, bread"),
        (f"description: {'word ' * 40}", " ".join(["word"] * 25)),
        (f"description: 'One. Two three. {'word ' * 40}'", "One. Two three"),
        ("description: {a: b}\nauthor: Ann", ""),
    ],
)
def test_front_matter_says_what_a_post_is_about(note: Path, front: str, topic: str) -> None:
    item = one(note, f"---\n{front}\n---\nSome text.")
    assert item.topic == topic
    assert "topic" in item.meta or not topic


def test_the_title_is_the_first_heading_else_the_file_name(note: Path) -> None:
    assert one(note, "Intro first.\n\n# *Real* title\n\nmore").title == "Real title"
    assert one(note, "Setext\n======\n\ntext").title == "Setext"
    assert one(note, "## Opens with a smaller one\n\ntext").title == "Opens with a smaller one"
    assert one(note, "Intro.\n\n## Only a section\n\ntext").title == "my first post"
    assert one(note, "```\n# a comment\n```\n\ntext").title == "my first post"


def test_a_title_that_is_also_the_heading_is_not_said_twice(note: Path) -> None:
    assert one(note, "---\ntitle: Same\n---\n# Same\n\ntext").text == "text"


def test_a_dated_file_name(tmp_path: Path) -> None:
    item = one(tmp_path / "2023-02-03-on-bread.md", "text")
    assert (item.title, item.date) == ("on bread", "2023-02-03")


def test_markup_goes_and_words_stay(note: Path) -> None:
    item = one(
        note,
        """
        # T

        Some **bold**, _it_ ~~not~~, `code`, [a link](http://x.y "t"), ![a picture](p.png) and [[Page|an alias]]
        or [[Other page]], ![[embed.png]]<b>html</b> &amp; more.[^1] \\*literal\\*

        > [!tip] Called out
        > quoted

        - one
        - two
            - nested
        1. first

        | a | b |
        |---|---|
        | 1 | 2 |

        ```python
        secret_code = 1
        ```

            indented code

        %% private %%
        <!-- comment -->
        <div>Div <i>text</i></div>
        <script>alert(1)</script>

        {% include x %}{{< short >}} Last line ^block-1

        [^1]: The note.
        """,
    )
    assert item.text == (
        "Some bold, it not, code, a link, a picture and an alias\nor Other page, html & more. *literal*\n\n"
        "Called out\nquoted\n\n- one\n- two\n- nested\n\n- first\n\na  b\n1  2\n\nDiv text\n\nLast line\n\nThe note."
    )


def test_drafts_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    for name, text in {
        "a.md": "---\ndraft: true\n---\nx",
        "b.md": "---\npublished: false\n---\nx",
        "drafts/c.md": "x",
        "d.md": "+++\ndraft = true\n+++\nx",
        "e.md": "---\ndraft: false\n---\nkept",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    told: list[str] = []
    assert [item.text for item in markdown.read(tmp_path, on_skip=lambda where, why: told.append(where))] == ["kept"]
    assert sorted(told) == ["a.md", "b.md", "d.md", "drafts/c.md"]
    assert len(list(markdown.read(tmp_path, drafts=True))) == 5


def test_files_that_can_not_be_read_are_told_and_the_others_are_read(tmp_path: Path) -> None:
    for name, data in {
        "a.md": b"\xff text",
        "b.md": b"nul\0",
        "c.md": b"",
        "d.md": b"---\ntitle: T\n---\n",
        "e.md": b"+++\nnot = = toml\n+++\nx",
        "f.md": b"\xef\xbb\xbf# BOM\r\n\r\nwindows\r\n",
        "g.txt": b"no",
        "h.md": b"x" * (markdown.MAX_FILE_BYTES + 1),
    }.items():
        (tmp_path / name).write_bytes(data)
    told: dict[str, str] = {}
    items = list(markdown.read(tmp_path, on_skip=told.__setitem__))
    assert [(item.title, item.text) for item in items] == [("BOM", "windows")]
    assert told.pop("e.md").startswith("TOML front matter: ")
    assert told == {
        "a.md": "invalid UTF-8 at byte 1",
        "b.md": "binary data",
        "c.md": "no text in it",
        "d.md": "no text in it",
        "h.md": "larger than 4 MiB",
    }


def test_ids_are_of_the_path_so_an_edited_note_keeps_its_own(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    (vault / "x").mkdir(parents=True)
    (vault / "x" / "a.md").write_text("one")
    (vault / "b.md").write_text("two")
    profile = Profile.open(tmp_path / "me.jsonl", create=True)

    def run(**options: bool) -> Report:
        report = Report()
        import_items(profile, markdown.read(vault), report, **options)
        return report

    assert run().added == 2
    assert (run().added, run().duplicates) == (0, 2)
    (vault / "x" / "a.md").write_text("one, better")
    assert (run().added, run().changed) == (0, 1)
    assert [item.text for item in profile] == ["two", "one"]
    assert (run(update=True, dry_run=True).updated, [item.text for item in profile]) == (1, ["two", "one"])
    assert run(update=True).updated == 1
    assert [item.text for item in Profile.open(profile.path)] == ["two", "one, better"]
    assert profile.items == Profile.open(profile.path).items


def test_no_markdown_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Markdown files"):
        list(markdown.read(tmp_path))
    with pytest.raises(UsageError, match="no such file or folder"):
        list(markdown.read(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("'it''s'", "it's"),
        ('"a\\tb"', "a\tb"),
        ("a # comment", "a"),
        ("a#b", "a#b"),
        ("~", ""),
        ("null", ""),
        ("[a, b,]", ["a", "b"]),
        ("[]", []),
        ('["x, y", z]', ["x, y", "z"]),
        ("yes: no", "yes: no"),
        ("http://x.y/z", "http://x.y/z"),
        ("[[wiki]]", [["wiki"]]),
        ('"\\e odd"', "\x1b odd"),
        ("Winter: a story", "Winter: a story"),  # no sound YAML, yet what people write
        ("@home", "@home"),
    ],
)
def test_scalars_stay_as_they_are_written(text: str, expected: object) -> None:
    assert front_matter.split(f"---\nkey: {text}\n---\nbody") == ({"key": expected}, "body")


def test_lists_folds_and_nested_mappings() -> None:
    meta, body = front_matter.split(
        textwrap.dedent("""\
        ---
        # a comment
        tags:
          - one
          - "two: 2"
        aliases:
        - three
        folded: >-
          first
          second
        kept: |
          a
          b
        long: begins
          and goes on
        empty:
        nested:
          deep: x
        "quoted key": v
        ---
        text
        --- not a fence""")
    )
    assert meta == {
        "tags": ["one", "two: 2"],
        "aliases": ["three"],
        "folded": "first second",
        "kept": "a\nb\n",
        "long": "begins and goes on",
        "empty": "",
        "nested": {"deep": "x"},
        "quoted key": "v",
    }
    assert body == "text\n--- not a fence"
    assert front_matter.split("---\nnever: closed\n") == ({}, "---\nnever: closed\n")
    assert front_matter.split("no front matter\n---\n") == ({}, "no front matter\n---\n")


_KEYS = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(
    lambda key: key not in {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
)
_VALUES = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)


@settings(deadline=None)
@given(st.dictionaries(_KEYS, st.one_of(_VALUES, st.lists(_VALUES, max_size=3)), min_size=1, max_size=4), st.booleans())
def test_what_a_yaml_writer_writes_is_read_back(record: dict[str, object], flow: bool) -> None:
    yaml = pytest.importorskip("yaml")
    record["tags"] = ["x"]  # so that the outer mapping is written as a block
    text = yaml.safe_dump(record, allow_unicode=True, default_flow_style=None if flow else False, width=10_000)
    meta, body = front_matter.split(f"---\n{text}---\nbody")
    assert body == "body"
    for key, value in record.items():
        got = meta.get(key, type(value)())
        listed, read = (value, got) if isinstance(value, list) else ([value], [got])
        assert [v.strip() for v in read if v.strip()] == [v.strip() for v in listed if v.strip()], text


@pytest.mark.parametrize(
    ("markdown_text", "expected"),
    [
        # Code is told from every construct.
        ("Write `for %%i in (*) do echo %%i`.", "Write for %%i in (*) do echo %%i."),
        ("```\n%%time\n```\n\nmiddle\n\n~~~\n%%bash\n~~~", "middle"),
        ("    %% x\n\nmiddle\n\n    y %%", "middle"),
        ("`[^abc]` `[[x]]` `{{ y }}` `{% z %}` `<!-- c -->`", "[^abc] [[x]] {{ y }} {% z %} <!-- c -->"),
        # So is prose.
        ("for %%i in (*) do echo %%i, 100%% and 50%% off", "for %%i in (*) do echo %%i, 100%% and 50%% off"),
        ("A class [^abc], no note.", "A class [^abc], no note."),
        ("if [[ -f x ]]; then [[1, 2], [3]]", "if [[ -f x ]]; then [[1, 2], [3]]"),
        ("a List<String> and <your name>", "a List<String> and <your name>"),
        ("E = mc ^2", "E = mc ^2"),
        ("[^a-z]: any other", "[^a-z]: any other"),
        ("[^a-z]: other", "[^a-z]: other"),
        ('"%%" is a sign, "%%" too', '"%%" is a sign, "%%" too'),
        (r"\[[no link]] \%% no comment \%%", "[[no link]] %% no comment %%"),
        # What is not closed hides nothing.
        ("%% a\n\nb", "%% a\n\nb"),
        ("{% a\n\n{{ b\n\n[[ c", "{% a\n\n{{ b\n\n[[ c"),
        ("<!-- a\n\nb", "<!-- a\n\nb"),
        ("```\na\n\nb", "a\n\nb"),
        ("<script>\na", "a"),
        # Comments may span blocks, and hold them.
        ("Shown. %% private %% Shown.", "Shown.  Shown."),
        ("%%\n# no\n\n- a\n%%\n\nshown", "shown"),
        ("x %% a\n\n```\n%%b\n```\n\nc %% y", "x\n\ny"),
        ("{% comment %}\na\n{% endcomment %}\n\n{% highlight js %}\nb\n{% endhighlight %}\n\nc", "c"),
        # Footnotes keep their text, whatever it looks like.
        ("x[^1] y[^b]\n\n[^1]: Word\n[^b]: http://x.y\n\n    more", "x y\n\nWord\n\nhttp://x.y\n\nmore"),
        ("| a |\n|---|\n| [[P\\|alias]] |", "a\nalias"),
        ("> | a |\n> |---|\n> | b | c |", "a\nb  c"),
        ('<div class="a > b">\nhi\n</div>', "hi"),
        ("text ^block-id\n\n> [!tip] Title\n> no [!tip]", "text\n\nTitle\nno [!tip]"),
    ],
)
def test_constructs_are_told_from_code_prose_and_each_other(markdown_text: str, expected: str) -> None:
    assert plain_text.reduce(markdown_text) == ("", expected)


@pytest.mark.parametrize(
    ("text", "meta", "body"),
    [
        ("---\n\nToday.\n\n---\n\nTomorrow.", {}, None),
        ("---\nA remark\n---\nBody", {}, None),
        ("---\n# A heading\n\n---\nBody", {}, None),
        ("---\nNote: the rye rose.\n---\nBody", {}, None),
        ("---\nwarning: the rye rose!\n---\nBody", {}, None),
        ("---\n- a\n- b\n---\nBody", {}, None),
        ("---\nmood: happy\n---\nBody", {"mood": "happy"}, "Body"),
        ("---\ntitle: never closed\n\nBody", {}, None),
        ("---\ntitle: x\n\nBody\n\n---\nmore", {}, None),
        ("Heading\n---\ntitle: x\n---\n", {}, None),
        ("{% include x %}\nBody", {}, None),
        ('{"a": 1} is JSON', {}, None),
        ("---\n---\nBody", {}, "Body"),
        ("\n  ---\n  title: x\n  ---\nBody", {"title": "x"}, "Body"),
        ("---\ntext: |\n  ---\n  b\n...\nBody", {"text": "---\nb\n"}, "Body"),
        ("---\ntitle: A\ntitle: B\n---\n", {"title": "A", "title (2)": "B"}, ""),
        ('{\n "title": "x", "n": [1, true, null]\n}\nBody', {"title": "x", "n": ["1", "true", ""]}, "\nBody"),
        ('---json\n{"title": "x"}\n---\nBody', {"title": "x"}, "Body"),
        ("---\na: &a [x]\nb: [*a, *a]\n---\n", {"a": ["x"], "b": [["x"], ["x"]]}, ""),
    ],
)
def test_a_rule_is_no_front_matter(text: str, meta: dict[str, object], body: str | None) -> None:
    assert front_matter.split(text) == (meta, text if body is None else body)


@pytest.mark.parametrize(
    ("path", "date", "title"),
    [
        ("2024-01-05.md", "2024-01-05", "2024-01-05"),
        ("20240105.md", "2024-01-05", "2024-01-05"),
        ("2024_01_05.md", "2024-01-05", "2024-01-05"),
        ("2024-01-05 Market day.md", "2024-01-05", "Market day"),
        ("2024-01-05-Friday.md", "2024-01-05", "2024-01-05"),
        ("202401051030 Idea.md", "2024-01-05", "Idea"),
        ("2024-01-05-10-22-33.md", "2024-01-05", "2024-01-05"),
        ("journal/2024/01/05.md", "2024-01-05", "2024-01-05"),
        ("January 5th, 2024.md", "2024-01-05", "January 5th, 2024"),
        ("Meeting 2024-01-05.md", "2024-01-05", "Meeting"),
        ("2024-01.md", "2024-01", "2024-01"),
        ("01-02-2024.md", "", "01-02-2024"),
        ("1984.md", "", "1984"),
        ("2024-13-45.md", "", "2024-13-45"),
        ("my-first_post.md", "", "my first post"),
    ],
)
def test_notes_named_by_their_date(path: str, date: str, title: str) -> None:
    assert markdown.dated_name(PurePosixPath(path)) == (date, title)


def test_utf16_notes_and_dates_that_can_not_be_told(note: Path) -> None:
    assert one(note, "# Tität\r\n\r\ntext".encode("utf-16")).title == "Tität"
    item = one(note, "---\ndate: 01/02/2024\n---\ntext")
    assert (item.date, item.meta["date"]) == ("", "01/02/2024")


_BLOCKS = (
    "{} {}", "# {}", "{}\n---", "---", "***", "- {}\n- {}", "> {}", "`{}`", "`%%{}`", "%% x %%", "<!-- x -->",
    "```\n%%\n```", "```\n{}", "[^1]: {}", "{}[^1] [^{}]", "[[{}]]", "[[x|{}]]", "![[x]]", "{{% x %}} {}", "{{% {}",
    "{{{{ x }}}}{}", "<b>{}</b>", "<div>\n{}\n</div>", "| {} |\n|---|\n| {} |", "    x", "title: {}", "[{}](y)", "<{}>",
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(_BLOCKS), max_size=8), st.sampled_from(["\n\n", "\n"]))
def test_no_word_is_lost_whatever_stands_beside_it(blocks: list[str], between: str) -> None:
    """Words that no construct hides come through, in any neighbourhood; "x" and what is in code may go."""
    number = iter(range(1000))
    text = between.join(block.format(*(f"word{next(number)}" for _ in range(2))) for block in blocks)
    heading, rest = plain_text.reduce(text)
    opened = text.find("```\nword")  # an open fence becomes code where a later one closes it
    for word in re.findall(r"word\d+", text if opened < 0 else text[:opened]):
        assert re.search(rf"{word}\b", f"{heading}\n{rest}"), text


@settings(deadline=None)
@given(st.text(alphabet="#*_[]()!`|-<>&%{}^\\ \n\tab1:\"'", max_size=200))
def test_any_markdown_reduces(text: str) -> None:
    heading, rest = plain_text.reduce(text)
    assert heading == " ".join(heading.split())
    assert rest == rest.strip()
    front_matter.split(f"---\n{text}\n---\n")
