"""Changes as text: unified diffs of every make, and commit bodies without what tools put there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge.ingest.diff import MAX_BODY_CHARS, change_text, diff_to_text, pick_lines, shorten
from prlm_edge.ingest.diff_files import FileChange, parse_diff
from prlm_edge.ingest.message import clean_body, redact

GIT = """diff --git a/src/app.py b/src/app.py
index 1111111..2222222 100644
--- a/src/app.py
+++ b/src/app.py
@@ -1,3 +1,4 @@ def main():
 context
-    return   1
+    return 2
+--- not a header
 more
@@ -10 +11 @@
-diff --git a/x b/x
++++ b/not/a/header
diff --git a/logo.png b/logo.png
index 333..444 100644
Binary files a/logo.png and b/logo.png differ
diff --git a/old name.txt b/new name.txt
similarity index 100%
rename from old name.txt
rename to new name.txt
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
diff --git "a/\\303\\251t\\303\\251.txt" "b/\\303\\251t\\303\\251.txt"
new file mode 100644
index 0000000..555
--- /dev/null
+++ "b/\\303\\251t\\303\\251.txt"
@@ -0,0 +1 @@
+summer
\\ No newline at end of file
diff --git a/gone.txt b/gone.txt
deleted file mode 100644
--- a/gone.txt
+++ /dev/null
@@ -1 +0,0 @@
-bye
"""


def test_every_kind_of_change_in_a_git_diff() -> None:
    assert parse_diff(GIT.split("\n"))[0] == [
        FileChange(
            "src/app.py",
            ["- return 1", "+ return 2", "+ --- not a header", "- diff --git a/x b/x", "+ +++ b/not/a/header"],
        ),
        FileChange("logo.png", [], ["binary"]),
        FileChange("new name.txt", [], ["renamed from old name.txt"]),
        FileChange("run.sh", [], ["now executable"]),
        FileChange("été.txt", ["+ summer"], ["new"]),
        FileChange("gone.txt", ["- bye"], ["deleted"]),
    ]
    assert diff_to_text(GIT, max_lines=3) == (
        "Changed files: src/app.py, logo.png (binary), new name.txt (renamed from old name.txt), "
        "run.sh (now executable), été.txt (new) (+1 more)\n\n- return 1\n+ summer\n- bye"
    )


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--no-prefix",),
        ("-c", "diff.mnemonicPrefix=true"),
        ("-U0",),
        ("-R",),
        ("--src-prefix=x/", "--dst-prefix=y/"),
    ],
)
def test_real_diffs_under_real_options(tmp_path: Path, options: tuple[str, ...]) -> None:
    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", str(tmp_path), *args], check=True, capture_output=True).stdout.decode()

    git("init", "-q")
    folder = tmp_path / "a b" / "c"
    folder.mkdir(parents=True)
    (folder / "with space.txt").write_text("one\r\ntwo\x0c form feed\u2028 and separator\nthree\n", newline="")
    (tmp_path / "plain.py").write_text("x = 1\n")
    git("add", ".")
    git("-c", "user.email=a@b.c", "-c", "user.name=A", "commit", "-qm", "one")
    (folder / "with space.txt").write_text("one\r\nTWO\x0c form feed\u2028 and separator\nthree\n", newline="")
    (tmp_path / "plain.py").write_text("x = 2")
    (tmp_path / 'tab\tand "quote".txt').write_text("new\n")
    git("add", ".")
    config = options if options[:1] == ("-c",) else ()
    text = diff_to_text(git(*config, "diff", "--staged", *(() if config else options)))
    kind = "deleted" if options == ("-R",) else "new"
    assert text.startswith(f'Changed files: a b/c/with space.txt, plain.py, tab?and "quote".txt ({kind})\n\n')
    assert "TWO form feed and separator" in text
    assert ("+ x = 1" if options == ("-R",) else "+ x = 2") in text
    assert "No newline" not in text


def test_plain_and_combined_diffs() -> None:
    plain = (
        "--- old/x.c\t2024-01-01 10:00\n+++ new/x.c\t2024-01-02 10:00\n@@ -1 +1 @@\n-a1\n+b1\n"
        "--- o\n+++ p\n@@ -1 +1 @@\n-c1\n+d1\n"
    )
    assert [file.path for file in parse_diff(plain.split("\n"))[0]] == ["x.c", "p"]
    combined = (
        "diff --cc f.txt\nindex 1,2..3\n--- a/f.txt\n+++ b/f.txt\n@@@ -1,1 -1,1 +1,2 @@@\n- ours\n -theirs\n"
        "++merged\n  same\n"
    )
    assert parse_diff(combined.split("\n"))[0] == [FileChange("f.txt", ["- ours", "- theirs", "+ merged"])]


def test_crlf_diffs_read_like_others() -> None:
    assert diff_to_text(GIT.replace("\n", "\r\n")) == diff_to_text(GIT)


def test_text_before_a_diff_comes_first_and_git_show_s_header_goes() -> None:
    header = f"commit {'a' * 40}\nAuthor: Ann <ann@example.org>\nDate:   Mon Jan 1\n\n    Why it changed.\n\n"
    text = diff_to_text(header + GIT)
    assert text.split("\n\n")[1] == "Why it changed."
    assert "Ann" not in text


@pytest.mark.parametrize(
    "text", ["", "  \n", "a plain request", "---\nfront: matter\n---\n", "--- only half\n", "diff of opinions"]
)
def test_what_is_no_diff_comes_back_as_it_is(text: str) -> None:
    assert diff_to_text(text) == text


def test_a_truncated_hunk_does_not_swallow_the_next_file() -> None:
    cut = (
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,50 +1,50 @@\n-a1\n"
        "diff --git a/y b/y\n--- a/y\n+++ b/y\n@@ -1 +1 @@\n-b1\n+c1\n"
    )
    assert parse_diff(cut.split("\n"))[0] == [FileChange("x", ["- a1"]), FileChange("y", ["- b1", "+ c1"])]


def test_lines_are_dealt_fairly_and_dull_ones_come_last() -> None:
    files = [
        FileChange("big.py", [f"+ line {i}" for i in range(50)]),
        FileChange("small.py", ["+ only"]),
        FileChange("package-lock.json", ["+ noise"] * 50),
        FileChange("mid.py", ["+ import os", "+ mid 1", "+ mid 2"]),
    ]
    assert pick_lines(files, 6) == ["+ line 0", "+ line 1", "+ line 2", "+ only", "+ mid 1", "+ mid 2"]
    assert pick_lines([FileChange("x.lock", ["+ a"])], 5) == ["+ a"]
    assert pick_lines([FileChange("x.py", ["+ import os"])], 5) == ["+ import os"]
    assert pick_lines([], 5) == []


def test_shape_of_the_text() -> None:
    assert change_text(["a.py"], "") == "Changed files: a.py"
    assert change_text([], "body") == "body"
    assert change_text(list("abcdefg"), "body\n") == "Changed files: a, b, c, d, e (+2 more)\n\nbody"
    assert "\n" not in change_text(["evil\nname\x1b"], "")


@given(st.text(max_size=4000))
def test_shortening_keeps_a_beginning(text: str) -> None:
    short = shorten(text, 100)
    assert text.strip().startswith(short)
    assert len(short) <= 100
    assert short or not text.strip()


@given(st.text(alphabet='+- @abd/\n\\"09,i', max_size=400))
def test_any_text_parses(text: str) -> None:
    diff_to_text(text)
    diff_to_text("diff --git a/x b/x\n" + text)
    diff_to_text("--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n" + text)


def test_shapes_equal_those_of_the_data() -> None:
    """Texts of real rows come through `change_text` unchanged: files, an empty line, body."""
    import json

    data = Path(__file__).parents[3] / "shared" / "data" / "sample" / "commit_subject.sample20.jsonl"
    if not data.exists():
        pytest.skip("the shared sample data is not beside the repository")
    texts = [item["text"] for line in data.read_text().splitlines() for item in json.loads(line)["profile"]]
    same = 0
    for text in texts:
        head, _, body = text.partition("\n\n")
        names = head.removeprefix("Changed files: ").partition(" (+")
        paths = names[0].split(", ") + ["x"] * int((names[2] or "0 more)").split(" ")[0])
        same += change_text(paths, clean_body(body)) == text
    assert same >= 0.95 * len(texts)


def test_bodies_lose_trailers_but_not_prose() -> None:
    body = """First: this is prose, with a colon.

Second paragraph
Change-Id: I0123456789
continues.

Fixes: #12
Signed-off-by: Ann Lee <ann@example.org>
Co-authored-by: Bob <bob@example.org>
Reviewed-by: Eve <eve@example.org>
"""
    assert clean_body(body) == "First: this is prose, with a colon.\n\nSecond paragraph\ncontinues."
    assert clean_body("Signed-off-by: A <a@b.cd>") == ""
    assert clean_body("Note: keep me\nand me") == "Note: keep me\nand me"
    assert clean_body("Text\r\n\r\n\r\n\r\nmore\r\n") == "Text\n\nmore"
    assert clean_body("Why.\n\nCloses-Bug: #1\n  continued\nRelated-Bug: #2") == "Why."
    assert len(shorten("x " * 5000)) <= MAX_BODY_CHARS


def test_redaction_knows_addresses_from_lookalikes() -> None:
    assert redact("ask ann.lee+x@mail.example.org, now") == "ask [email], now"
    assert redact("by Ann <ann@example.org>.") == "by Ann."
    for kept in ("icon@2x.png", "react@18.2.0", "@decorator.name", "a @ b.com", "user@localhost"):
        assert redact(kept) == kept
    assert redact("a" * 100_000 + "@") == "a" * 100_000 + "@"
