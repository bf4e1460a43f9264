"""`prlm-edge profile` through the real command line: what it prints where, exit codes, and what stays in the file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import PRLM, on_terminal

from prlm_edge.profile import Profile
from prlm_edge.types import Item

Run = Callable[..., Any]


@pytest.fixture
def me(tmp_path: Path) -> Path:
    return tmp_path / "me.jsonl"


@pytest.fixture
def run(me: Path, cli: Run) -> Run:
    """`run("list", "--json", stdin=b"...")` runs `prlm-edge profile list --json --user me.jsonl`."""
    return lambda *args, user=True, **more: cli("profile", *args, *(["--user", me] if user else []), **more)


def some(me: Path) -> Profile:
    profile = Profile.open(me, create=True)
    profile.append(
        [
            Item("a1", "About bread", "Bread: why", "2023-01-01", "post", "s1"),
            Item("a2", "About tea", "Tea: why not", "2024-05", "talk", "s2", {"tags": ["x"]}),
            Item("b1", "No date here", "", kind="post", source="s1"),
        ]
    )
    return profile


def test_add_prints_the_id_and_makes_a_private_file(run: Run, me: Path) -> None:
    done = run("add", "The text", "-t", "T", "--date", "2024-08", "--kind", "post", "--source", "web", "--id", "p1")
    assert done == (0, "p1\n", "")
    assert Profile.open(me).items == [Item("p1", "The text", "T", "2024-08", "post", "web")]
    assert me.stat().st_mode & 0o777 == 0o600
    again = run("add", "--text", "The text", "--title", "T")
    assert again == (0, "", "1 item skipped: there already\n")
    assert json.loads(run("add", "x", "--json").out) == {
        "added": 1,
        "duplicates": 0,
        "ids": [Profile.open(me).items[1].id],
        "rejected": [],
    }
    assert run("add", "--title", "only a title", "--date", "today").code == 0
    assert Profile.open(me).items[-1].date == time.strftime("%Y-%m-%d")


def test_add_reads_standard_input(run: Run, me: Path) -> None:
    run("add", "-", "--title", "Piped", stdin="\ufeffline öne\r\nline two\n\n".encode())
    run("add", "-", "--title", "Changed", stdin=b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n")
    assert [item.text for item in Profile.open(me)] == ["line öne\nline two", "Changed files: x\n\n- old\n+ new"]


def test_add_jsonl_takes_the_good_lines_and_names_the_bad_ones(run: Run, me: Path) -> None:
    stdin = b'{"text": "one", "stars": 3}\nbad\n{"abstract": "two", "id": 2}\n{"text": "one"}\n{}\n'
    done = run("add", "--jsonl", "-", stdin=stdin)
    assert done.code == 3
    assert done.out.splitlines()[1] == "2"
    assert "line 2: invalid JSON at column 1" in done.err
    assert "line 5: neither text nor title" in done.err
    assert "1 item skipped: there already" in done.err
    assert "2 lines of standard input could not be added" in done.err
    assert [(item.text, item.meta) for item in Profile.open(me)] == [("one", {"stars": 3}), ("two", {})]


@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        (("add",), b"", "nothing to add"),
        (("add", "-"), b"", "nothing to add"),
        (("add", "-"), b"\xff\xff", "invalid UTF-8 at byte 1"),
        (("add", "-"), b"a\0b", "binary data"),
        (("add", "x", "--text", "y"), b"", "exclude each other"),
        (("add", "x", "--date", "yesterday"), b"", "not a date"),
        (("add", "--jsonl"), b"", "--jsonl reads whole items"),
        (("add", "--jsonl", "-", "--title", "x"), b"", "--jsonl reads whole items"),
        (("add", "x", "--id", "a1"), b"", "--id a1: taken"),
        (("list", "--since", "soon"), b"", "not a date"),
        (("list", "--limit", "-1"), b"", "limit"),
        (("show", "zz"), b"", "no item 'zz'"),
        (("show", "a"), b"", "2 items begin with 'a'"),
        (("rm",), b"", "name ids or a --source"),
        (("rm", "a1", "--source", "s1"), b"", "name ids or a --source"),
        (("rm", "a1"), b"", "add --yes"),
        (("rm", "a1", "a9", "--yes"), b"", "no item 'a9'; nothing was removed"),
        (("rm", "--source", "s9", "--yes"), b"", "no items from 's9'"),
        (("import", "csv", "none.csv"), b"", "no such file"),
        (("import", "jsonl", "x", "--map", "x"), b"", "FIELD=COLUMN"),
        (("import", "markdown", "none"), b"", "no such file or folder"),
        (("import", "git", "none"), b"", "no such folder"),
        (("import", "lamp", "none"), b"", "no such file"),
        (("import", "word", "x"), b"", "word"),
        (("import", "csv", "x.csv", "--drafts"), b"", "drafts"),
        (("fly",), b"", "fly"),
    ],
)
def test_wrong_requests_are_two_lines_and_change_nothing(
    run: Run, me: Path, args: tuple[str, ...], stdin: bytes, said: str
) -> None:
    some(me)
    before = me.read_bytes()
    done = run(*args, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    first, second = done.err.splitlines()
    assert first.startswith("prlm-edge: ")
    assert said in first + second
    assert second.startswith("  ")
    assert me.read_bytes() == before


@pytest.mark.parametrize("verb", [("list",), ("show", "x"), ("stats",), ("verify",), ("repair",), ("rm", "x", "--yes")])
@pytest.mark.parametrize("content", [None, b"\x7fELF\0\0", b"folder"])
def test_what_is_no_profile(run: Run, me: Path, verb: tuple[str, ...], content: bytes | None) -> None:
    if content == b"folder":
        me.mkdir()
    elif content:
        me.write_bytes(content)
    done = run(*verb)
    assert done.code == 2
    assert len(done.err.splitlines()) == 2
    assert str(me) in done.err
    assert "Traceback" not in done.err


def test_no_profile_named(run: Run, me: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("list", user=False)
    assert (done.code, "--user me.jsonl" in done.err) == (2, True)
    some(me)
    monkeypatch.setenv("PRLM_USER", str(me))
    assert run("list", user=False).code == 0


def test_list_is_newest_first_and_filters(run: Run, me: Path) -> None:
    some(me)
    ids = lambda *args: [line.split()[0] for line in run("list", *args).out.splitlines()]  # noqa: E731
    assert ids() == ["a2", "a1", "b1"]
    assert ids("--kind", "POST") == ["a1", "b1"]
    assert ids("--since", "2024") == ["a2"]
    assert ids("--source", "s1") == ["a1", "b1"]
    assert ids("-n", "0") == ["a2", "a1", "b1"]
    done = run("list", "--limit", "1")
    assert "1 of 3 items" in done.err
    assert json.loads(run("list", "--json", "-n", "1").out) == [
        {
            "id": "a2",
            "title": "Tea: why not",
            "text": "About tea",
            "date": "2024-05",
            "kind": "talk",
            "source": "s2",
            "meta": {"tags": ["x"]},
        }
    ]
    assert "no items of that sort among 3" in run("list", "--kind", "none").err


def test_show_by_id_or_its_beginning(run: Run, me: Path) -> None:
    some(me).append([Item("c", "x", meta={"change": "Changed files: a\n\n+ b"})])
    assert run("show", "c").out == "id:     c\nchange: Changed files: a\n        + b\n\nx\n"
    shown = run("show", "b").out
    assert shown == "id:     b1\nkind:   post\nsource: s1\n\nNo date here\n"
    assert json.loads(run("show", "a2", "--json").out)["title"] == "Tea: why not"
    assert "did you mean a1" in run("show", "1a1").err or "list" in run("show", "1a1").err


def test_rm_by_id_and_source(run: Run, me: Path) -> None:
    some(me)
    done = run("rm", "a2", "--yes")
    assert (done.code, done.err) == (0, "1 item removed, 2 left\n")
    assert json.loads(run("rm", "--source", "s1", "--yes", "--json").out) == {
        **{"removed": 2, "left": 0, "pairs": 0, "drafts": 0, "remains": []}
    }
    assert me.read_bytes() == b""
    assert "the profile is empty" in run("list").err


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 2), ("n\n", 1, 3), ("\n", 1, 3)])
def test_rm_asks_on_a_terminal(me: Path, home: Path, answer: str, code: int, left: int) -> None:
    some(me)
    done, shown = on_terminal([*PRLM, "profile", "rm", "a1", "--user", str(me)], answer.encode())
    assert done == code, shown
    assert b"Bread: why" in shown
    assert b"Remove 1 item?" in shown
    assert len(Profile.open(me)) == left


def test_verify_and_repair(run: Run, me: Path) -> None:
    some(me)
    good = me.read_bytes()
    assert run("verify") == (0, "", "3 items, 0 bad lines\n")
    assert "nothing to repair" in run("repair").err
    with me.open("ab") as stream:
        stream.write(b'\xff\xff\n{"id": "a1", "text": "other"}\n{"id": "torn')
    done = run("verify")
    assert done.code == 3
    assert done.out == (
        f"{me}:4: invalid UTF-8 at byte 1\n{me}:5: id 'a1' is taken by line 1\n"
        f"{me}:6: invalid JSON at column 8: Unterminated string starting at (the line is cut off)\n"
    )
    assert "3 items, 3 bad lines" in done.err
    assert "profile repair" in done.err
    as_json = run("verify", "--json")
    assert (as_json.code, [bad["line"] for bad in json.loads(as_json.out)["bad"]]) == (3, [4, 5, 6])
    assert "3 lines can't be read" in run("list").err
    repaired = json.loads(run("repair", "--json").out)
    assert (repaired["items"], repaired["moved"], len(repaired["renamed"])) == (4, 2, 1)
    assert Path(repaired["side_file"]).read_bytes() == b'\xff\xff\n{"id": "torn'
    assert me.read_bytes().startswith(good)
    assert run("verify").code == 0
    me.chmod(0o644)
    assert "chmod 600" in run("verify").err


def test_what_an_interrupted_write_left_and_other_names_of_the_file_are_said(run: Run, me: Path) -> None:
    some(me)
    left = me.with_name(f".{me.name}.abcd1234.tmp")
    left.write_bytes(me.read_bytes())
    assert f"{left} holds text of yours" in run("verify").err
    assert json.loads(run("verify", "--json").out)["leftovers"] == [str(left)]
    assert run("repair").code == 0
    assert not left.exists()
    os.link(me, me.with_name("copy.jsonl"))
    assert "1 other name (hard links)" in run("rm", "a1", "--yes").err
    assert "hard links" not in run("rm", "a2", "--yes").err


def test_stats(run: Run, me: Path) -> None:
    profile = some(me)
    profile.append([Item(f"n{i}", f"text number {i} " * (i + 1), f"note: entry {i}", "2022", "note") for i in range(9)])
    done = run("stats")
    assert done.code == 0
    assert "12 items: 11 with a title, 12 with a text" in done.out
    assert "dates: 2022 to 2024-05; 1 without" in done.out
    assert "kinds: note 9, post 2, talk 1" in done.out
    assert "your titles: " in done.out
    assert "told besides" not in done.out
    profile.update([replace(profile.items[0], meta={"topic": "rye"})])
    assert "told besides: a topic of 1, the change of 0" in run("stats").out
    found = json.loads(run("stats", "--json").out)
    assert found["text_words"] == {"least": 2, "median": 10, "most": 27}
    assert found["bytes"] == me.stat().st_size
    assert found["style"]
    me.write_bytes(b"")
    empty = run("stats")
    assert (empty.code, "0 items" in empty.out) == (0, True)


def test_import_csv_twice_with_json_and_a_dry_run(run: Run, me: Path, tmp_path: Path) -> None:
    source = tmp_path / "posts.csv"
    source.write_text("Name;Words\nOne;first\nTwo;second\n;\nTwo;second\n")
    args = ("import", "csv", source, "--map", "title=Name", "--map", "text=Words", "--as", "post")
    dry = run(*args, "--dry-run")
    assert dry.code == 0
    assert dry.out.splitlines()[-1] == "3 read, 2 would be added, 1 duplicate, 0 skipped"
    assert not me.exists()
    first = json.loads(run(*args, "--json").out)
    assert (first["read"], first["added"], first["duplicates"], first["dry_run"]) == (3, 2, 1, False)
    assert run(*args).out == "3 read, 0 added, 3 duplicates, 0 skipped\n"
    assert [(item.title, item.kind) for item in Profile.open(me)] == [("One", "post"), ("Two", "post")]


def test_import_names_what_it_skipped(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "x.jsonl"
    source.write_text('{"text": "good"}\n' + "bad\n" * 30)
    done = run("import", "jsonl", source)
    assert done.out == "1 read, 1 added, 0 duplicates, 30 skipped\n"
    assert "skipped line 2: invalid JSON at column 1: Expecting value" in done.err
    assert "and 10 more; most often: invalid JSON at column 1: Expecting value (30)" in done.err
    report = json.loads(run("import", "jsonl", source, "--json").out)
    assert report["skipped"] == {"invalid JSON at column 1: Expecting value": 30}
    assert len(report["examples"]) == 20


def test_import_git_markdown_and_lamp(run: Run, me: Path, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "a.md").write_text("# A\n\ntext")
    (vault / "b.md").write_text("---\ndraft: true\n---\n# B\n\ntext b")
    assert run("import", "markdown", vault, "--as", "post").out == "1 read, 1 added, 0 duplicates, 1 skipped\n"
    assert run("import", "markdown", vault, "--drafts").out == "2 read, 1 added, 1 duplicate, 0 skipped\n"
    (vault / "a.md").write_text("# A\n\nbetter text")
    changed = run("import", "markdown", vault)
    assert "1 item newer, or told with more, at the source: --update takes that" in changed.err
    would = run("import", "markdown", vault, "--update", "--dry-run").out
    assert would.startswith("1 read, 0 would be added, 1 would be updated")
    assert run("import", "markdown", vault, "--update").out.startswith("1 read, 0 added, 1 updated")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"user_id": "u", "profile": [{"id": "1", "text": "x", "title": "y"}]}) + "\n")
    assert run("import", "lamp", rows, "--lamp-user", "u").out.startswith("1 read, 1 added")
    if shutil.which("git"):
        repo = tmp_path / "repo"
        subprocess.run(["git", "init", "-q", str(repo)], check=True)
        (repo / "f").write_text("x\n")
        subprocess.run(["git", "-C", str(repo), "add", "."], check=True)
        ann = ("-c", "user.name=Ann", "-c", "user.email=a@b.cd")
        subprocess.run(["git", "-C", str(repo), *ann, "commit", "-qm", "Add f"], check=True)
        assert run("import", "git", repo, "--author", "Ann").out == "1 read, 1 added, 0 duplicates, 0 skipped\n"
        assert Profile.open(me).items[-1].text == "Changed files: f (new)\n\n+ x"


def test_a_full_disk_is_one_line(run: Run, me: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(me)
    before = me.read_bytes()

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: full(fd, data) if b"no room" in bytes(data) else real(fd, data))
    done = run("add", "no room")
    said = f"prlm-edge: {me}: No space left on device\n  free some space, then try again\n"
    assert (done.code, done.err) == (1, said)
    assert me.read_bytes() == before


def test_ctrl_c_during_an_import_keeps_the_batches(me: Path, home: Path, tmp_path: Path) -> None:
    """A FIFO as the source: 1,200 items arrive, then silence, then Ctrl-C."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs here")
    fifo = tmp_path / "source.jsonl"
    os.mkfifo(fifo)
    worker = subprocess.Popen(
        [*PRLM, "profile", "import", "jsonl", str(fifo), "--user", str(me), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with fifo.open("w") as stream:
        for i in range(1_200):
            stream.write(json.dumps({"id": f"i{i}", "text": f"text {i} " * 20}) + "\n")
        stream.flush()
        until = time.monotonic() + 30
        while time.monotonic() < until and (not me.exists() or me.read_bytes().count(b"\n") < 1_000):
            time.sleep(0.02)
        worker.send_signal(signal.SIGINT)
        out, err = worker.communicate(timeout=60)
    assert worker.returncode == 130, err
    report = json.loads(out)
    added = report["added"]
    assert report["interrupted"]
    assert added in (500, 1_000)  # a batch whose fsync was interrupted is taken back
    assert err == f"interrupted: {added:,} items added, and they stay; the same command again goes on from there\n"
    assert [item.id for item in Profile.open(me)] == [f"i{i}" for i in range(added)]
    assert me.read_bytes().count(b"\n") == added


@pytest.mark.parametrize("verb", [("list",), ("show", "e")])
def test_terminal_escapes_in_a_profile_are_shown_not_obeyed(me: Path, home: Path, verb: tuple[str, ...]) -> None:
    Profile.open(me, create=True).append([Item("e", "text \x1b[2J", "title \x1b]0;x\x07\nsecond")])
    code, shown = on_terminal([*PRLM, "profile", *verb, "--user", str(me)])
    assert code == 0
    assert b"\x1b" not in shown
    assert b"\\x1b" in shown
