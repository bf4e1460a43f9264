"""Changes as text: unified diffs of every make, and commit bodies without what tools put there."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_edge.errors import PrlmError, UsageError
from prlm_edge.ingest.common import decode
from prlm_edge.ingest.diff import MAX_BODY_CHARS, change_text, diff_to_text, shorten
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
    assert diff_to_text(GIT) == (
        "Changed files: src/app.py, logo.png (binary), new name.txt (renamed from old name.txt), "
        "run.sh (now executable), été.txt (new) (+1 more)\n\n- return 1\n+ return 2\n"
        "+ --- not a header\n- diff --git a/x b/x\n+ +++ b/not/a/header\n+ summer\n- bye"
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
    back = options == ("-R",)
    assert "- two form feed and separator\n+ TWO form feed and separator" in text or back
    assert ("+ x = 1" if back else "+ x = 2") in text
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


def test_line_breaks_and_marks_make_no_difference() -> None:
    assert diff_to_text(GIT.replace("\n", "\r\n")) == diff_to_text(GIT)
    assert diff_to_text("\ufeff" + GIT) == diff_to_text(GIT)
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        assert decode(GIT.encode(encoding)) == GIT


def hunk(header: str, old: str = "one", new: str = "two") -> str:
    return f"{header}@@ -1 +1 @@\n-{old}\n+{new}\n"


PLAIN = hunk("diff --git a/f.txt b/f.txt\nindex 1111111..2222222 100644\n--- a/f.txt\n+++ b/f.txt\n")
CHANGED = "Changed files: f.txt\n\n- one\n+ two"
SHA = "0123456789" * 4
POINTER = f"Subproject commit {SHA}"
INDEX = f"Index: f.txt\n{'=' * 67}\n"


@pytest.mark.parametrize(
    ("diff", "text"),
    [
        # Prefixes, quotes and blanks.
        (hunk("diff --git old/f.txt newer/f.txt\nindex 1..2\n--- old/f.txt\n+++ newer/f.txt\n"), CHANGED),
        (hunk("diff --git x/y/f.txt x/z/f.txt\nindex 1..2\n--- x/y/f.txt\n+++ x/z/f.txt\n"), CHANGED),
        (
            "diff --git src/f.txt lib/f.txt\nsimilarity index 100%\nrename from src/f.txt\nrename to lib/f.txt\n",
            "Changed files: lib/f.txt (renamed from src/f.txt)",
        ),
        (
            'diff --git "a/\\303\\251.txt" b/e.txt\nsimilarity index 90%\ncopy from "\\303\\251.txt"\ncopy to e.txt\n',
            "Changed files: e.txt (copied from é.txt)",
        ),
        (hunk("--- /home/ann/f.txt.orig\t2024\n+++ /home/ann/f.txt\t2024\n"), CHANGED),
        # Other programs.
        (hunk(f"{INDEX}--- f.txt\t(revision 5)\n+++ f.txt\t(working copy)\n"), CHANGED),
        (
            f"{INDEX}--- f.txt\t(nonexistent)\n+++ f.txt\t(working copy)\n@@ -0,0 +1 @@\n+two\n",
            "Changed files: f.txt (new)\n\n+ two",
        ),
        (f"{INDEX}Cannot display: file marked as a binary type.\n", "Changed files: f.txt (binary)"),
        (hunk(f"{INDEX}RCS file: /cvs/f.txt,v\ndiff -u -r1.1 f.txt\n--- f.txt\t1 Jan\n+++ f.txt\t2 Jan\n"), CHANGED),
        (hunk("diff -r 000000000000 -r 123456789012 f.txt\n--- a/f.txt\tThu\n+++ b/f.txt\tFri\n"), CHANGED),
        ("diff -r 000000000000 f.bin\nBinary file f.bin has changed\n", "Changed files: f.bin (binary)"),
        (hunk("=== modified file 'f.txt'\n--- f.txt\t2024\n+++ f.txt\t2024\n"), CHANGED),
        (
            "diff -uN old/f.txt new/f.txt\n--- old/f.txt\t1970-01-01 01:00:00 +0100\n+++ new/f.txt\t2024\n"
            "@@ -0,0 +1 @@\n+two\nOnly in new: g.txt\nBinary files old/l.png and new/l.png differ\n",
            "Changed files: f.txt (new), l.png (binary)\n\n+ two",
        ),
        # Submodules.
        (
            "Submodule lib 1234567..89abcde:\n  > Mend\n  < Old\n",
            "Changed files: lib (submodule)\n\n+ Mend\n- Old",
        ),
        ("Submodule lib 0000000...89abcde (new submodule)\n", "Changed files: lib (new, submodule)"),
        (f"Submodule lib 1234567..89abcde:\n{PLAIN}", "Changed files: lib (submodule), f.txt\n\n- one\n+ two"),
        (
            hunk("diff --git a/lib b/lib\nindex 1..2 160000\n--- a/lib\n+++ b/lib\n", *[POINTER] * 2),
            "Changed files: lib (submodule)",
        ),
        # Lists instead of a diff.
        (" f.txt | 2 +-\n a/{b => c}/g.txt | 0\n 2 files changed\n", "Changed files: f.txt, a/c/g.txt"),
        ("M\tf.txt\nR100\tg\th\nA\ti\n", "Changed files: f.txt, h (renamed from g), i (new)"),
        (f":100644 100644 1111111 2222222 M\tf.txt\n\n{PLAIN}", CHANGED),
    ],
)
def test_diffs_of_every_origin(diff: str, text: str) -> None:
    assert diff_to_text(diff) == text


@pytest.mark.parametrize(
    "options",
    [
        "--color=always",
        "--word-diff",
        "--word-diff=porcelain",
        "--color-words",
        "--word-diff=color",
        "--stat -p",
        "--binary",
    ],
)
def test_every_form_of_git_s_diff_says_the_same(tmp_path: Path, options: str) -> None:
    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", str(tmp_path), *args], check=True, capture_output=True).stdout.decode()

    git("init", "-q")
    (tmp_path / "a.txt").write_text("first\n    x = 1\n~\nlast words here\n")
    (tmp_path / "old.txt").write_text("same\n" * 9)
    git("add", ".")
    git("-c", "user.email=a@b.c", "-c", "user.name=A", "commit", "-qm", "one")
    (tmp_path / "a.txt").write_text("first\n    x = 2\n~\nlast words there\n")
    (tmp_path / "old.txt").rename(tmp_path / "new.txt")
    git("add", ".")
    text = diff_to_text(git("diff", "--staged", *options.split()))
    assert text.startswith("Changed files: a.txt, new.txt (renamed from old.txt)\n\n")
    assert sorted(text.split("\n")[2:]) == ["+ last words there", "+ x = 2", "- last words here", "- x = 1"]


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("difftastic", "src/a.py --- 1/2 --- Python\n 1 x = 1   1 x = 2\n"),
        ("delta", "\na.txt\n──────────────\n\n───┐\n1: │\n───┘\none\n"),
        ("diff-so-fancy", "────────────────\nmodified: a.txt\n────────────────\none\n"),
        ("jj", "Modified regular file a.txt:\n   1    1: one\n"),
        ("diff -c", "*** a.txt\t2024\n--- b.txt\t2024\n***************\n*** 1 ****\n! one\n"),
        ("diff without -u", "1c1\n< one\n---\n> two\n"),
    ],
)
def test_what_can_not_be_read_is_refused(name: str, drawn: str) -> None:
    with pytest.raises(UsageError, match=name):
        diff_to_text(drawn)


MAIL = f"From {SHA} Mon Sep 17 00:00:00 2001\nFrom: Ann Lee <ann@example.org>\nDate: Fri, 5 Jan 2024\n"
AUTHOR = "Author: Ann Lee <ann@example.org>"
QUOTED_PRINTABLE = """From: =?UTF-8?q?J=C3=B6rg?= <j@example.org>
To: list@example.org
Subject: =?UTF-8?q?[PATCH]_gr=C3=BC=C3=9Fe?=
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

Because =C3=A4.
---

"""
TEMPLATE = """A draft of mine
{c}
{c} Please enter the commit message for your changes. Lines starting
{c}
{c} Changes to be committed:
{c}\tmodified:   f.txt
{c}\trenamed:    g -> h
{c}
{c} Changes not staged for commit:
{c}\tmodified:   other.txt
{c}
{c} Untracked files:
{c}\tprivate-plans.txt
{c}
"""
SCISSORS = "{c} ------------------------ >8 ------------------------\n{c} Do not modify the line above.\n"


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (f"{MAIL}Subject: [PATCH 1/2] say it\n twice\n\nWhy.\n---\nv2: no\n f.txt | 2 +-\n\n", "say it twice\n\nWhy."),
        (QUOTED_PRINTABLE, "grüße\n\nBecause ä."),
        ("# HG changeset patch\n# User Ann Lee <ann@example.org>\n# Parent  00\nSay it\n\n", "Say it"),
        (f"changeset:   1:{SHA[:12]}\nuser:        Ann Lee <a@b.cd>\nsummary:     Say it\n\n", "Say it"),
        (f"commit {SHA} (HEAD)\nMerge: 1 2\n{AUTHOR}\nDate:   Fri\n\n    Say it\n\n    - why\n\n", "Say it\n\n- why"),
        (f"commit {SHA}\ntree {SHA}\nauthor Ann <a@b.cd> 12 +0100\n\n    Say it\n\nNotes:\n    n\n\n", "Say it\n\nn"),
        (f"commit {SHA}\n{AUTHOR}\n\n    Say it\n---\n f.txt | 2 +-\n 1 file changed\n\n", "Say it"),
        ("r12 | ann | 2024-01-05 | 1 line\n\nSay it\n\n", "Say it"),
        ((TEMPLATE + SCISSORS).format(c="#"), "A draft of mine"),
        ((TEMPLATE + SCISSORS).format(c=";"), "A draft of mine"),
        (TEMPLATE.format(c="#").replace("Please enter the commit message for", "Bitte"), "A draft of mine"),
        ("On it.\n\nUntracked files:\n  (use git add)\n\tprivate.txt\n\n?? private.txt\n\n", "On it."),
        ("Ann Lee <ann@example.org>\nSay it\n\n", "Say it"),
        # A user's own words look like headers, too.
        ("Date: parse it\n\nMerge: two lists\n\n# Heading\n\n", "Date: parse it\n\nMerge: two lists\n\n# Heading"),
    ],
)
def test_what_stands_before_a_diff(before: str, kept: str) -> None:
    diff = PLAIN.replace("=", "=3D") if before == QUOTED_PRINTABLE else PLAIN
    expected = CHANGED.replace("\n\n", f"\n\n{kept}\n\n", 1)
    assert diff_to_text(before + diff) == expected
    if before != QUOTED_PRINTABLE:  # a mail without "From SHA" is told by its first lines alone
        asked = expected.replace("\n\n", "\n\ntitle for this\n", 1)
        assert diff_to_text(f"title for this\n{before}{diff}").replace("\n\n", "\n") == asked.replace("\n\n", "\n")


def test_headers_and_templates_go_without_a_diff_too() -> None:
    assert diff_to_text(TEMPLATE.format(c="#")) == "Changed files: f.txt, h (renamed from g)\n\nA draft of mine"
    shown = f"commit {SHA}\n{AUTHOR}\n\n    Say it\n\n f.txt | 2 +-\n 1 file changed, 2 insertions(+)\n"
    assert diff_to_text(shown) == "Changed files: f.txt\n\nSay it"
    mails = [f"{MAIL}Subject: [PATCH {n}/2] say {n}\n\n---\n{PLAIN}-- \n2.39\n\n" for n in (1, 2)]
    assert diff_to_text("".join(mails)) == "Changed files: f.txt\n\nsay 1\n\nsay 2\n\n- one\n+ two\n- one\n+ two"


@pytest.mark.parametrize(
    "text",
    [
        "diff -u shows nothing\nto me",
        "diff --git is the header\nof it",
        "From: Ann\nSubject: a mail\n\nto be answered",
        "Submodule handling contains bugs",
        "1\t2\tthree\nfour\tfive\tsix",
        "commit to it\nAuthor: Ann",
        "Heading\n=======\n\n a | b\n",
        "  indented\n",
    ],
)
def test_prose_that_looks_like_it_stays(text: str) -> None:
    assert diff_to_text(text) == text


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


def test_shape_of_the_text() -> None:
    assert change_text(["a.py"], "") == "Changed files: a.py"
    assert change_text([], "body") == "body"
    assert change_text(list("abcdefg"), "body\n") == "Changed files: a, b, c, d, e (+2 more)\n\nbody"
    assert "\n" not in change_text(["evil\nname\x1b"], "")


@settings(deadline=None)
@given(st.text(max_size=4000))
def test_shortening_keeps_a_beginning(text: str) -> None:
    short = shorten(text, 100)
    assert text.strip().startswith(short)
    assert len(short) <= 100
    assert short or not text.strip()


@settings(deadline=None)
@given(st.text(alphabet='+- @abd/\n\\"09,i', max_size=400))
def test_any_text_parses(text: str) -> None:
    for before in ("", "diff --git a/x b/x\n", "--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n", MAIL, f"commit {SHA}\n", INDEX):
        with contextlib.suppress(PrlmError):
            diff_to_text(before + text)


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


SQUASHED = f"Squashed commit of the following:\n\ncommit {SHA}\n{AUTHOR}\nDate:   Fri\n\n    One\n\n    Why."


@pytest.mark.parametrize(
    ("body", "cleaned"),
    [
        ("Stand-by: five.\nCC: the compiler.\n\nCc: Bob <bob@x.org>", "Stand-by: five.\nCC: the compiler."),
        (
            "Nearby: nothing.\nFollow-up: tomorrow\nFixes: a crash",
            "Nearby: nothing.\nFollow-up: tomorrow\nFixes: a crash",
        ),
        ("Why.\n\nFixes: #12, JIRA-3\nSee: https://x.y/z\nDepends-On: I0123456789", "Why."),
        ('Why.\n\nFixes: 0123abcd ("old subject")\nReviewed-by: Ann Lee\n\nSigned-off-by: Bob <b@x.org>', "Why."),
        ("Note: this stays\nSigned-off-by: Bob <b@x.org>", "Note: this stays"),
        (f"Why.\n\n(cherry picked from commit {SHA})", "Why."),
        (f"Too slow.\n\nThis reverts commit {SHA}.", "Too slow."),
        (SQUASHED, "One\n\nWhy."),
        ("Why.\n\n# Conflicts:\n#\ta.txt\n#\tb.txt", "Why."),
        ("git-svn-id: https://x.y/svn/trunk@12 0a1b", ""),
    ],
)
def test_trailers_are_told_from_prose(body: str, cleaned: str) -> None:
    assert clean_body(body) == cleaned


def test_redaction_knows_addresses_from_lookalikes() -> None:
    assert redact("ask ann.lee+x@mail.example.org, now") == "ask [email], now"
    assert redact("by Ann <ann@example.org>.") == "by Ann."
    for kept in ("icon@2x.png", "react@18.2.0", "@decorator.name", "a @ b.com", "user@localhost"):
        assert redact(kept) == kept
    assert redact("a" * 100_000 + "@") == "a" * 100_000 + "@"
