"""Commits as items, from repositories made here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from prlm_edge.errors import MissingError, PrlmError, UsageError
from prlm_edge.ingest import git
from prlm_edge.ingest.diff import CHANGE_CHARS, diff_to_text
from prlm_edge.ingest.into_profile import Report, import_items
from prlm_edge.profile import Profile

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

ANN, BOB = ("Ann Lee", "ann@example.org"), ("Bob Ray", "bob@example.org")


class Repo:
    """A repository whose commits have chosen authors and dates."""

    def __init__(self, path: Path, *init: str) -> None:
        self.path = path
        subprocess.run(["git", "init", "-q", "-b", "main", *init, str(path)], check=True)

    def git(self, *args: str, env: dict[str, str] | None = None) -> str:
        return (
            subprocess.run(
                ["git", "-C", str(self.path), *args], check=True, capture_output=True, env={**os.environ, **(env or {})}
            )
            .stdout.decode("utf-8", "replace")
            .strip()
        )

    def commit(
        self,
        subject: str,
        files: dict[str, str | bytes],
        body: str = "",
        who: tuple[str, str] = ANN,
        day: str = "2024-03-01",
    ) -> None:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "-A")
        env = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in (("NAME", who[0]), ("EMAIL", who[1]), ("DATE", f"{day}T12:00:00+0000"))
        }
        self.git("commit", "-q", "--allow-empty", "--cleanup=verbatim", "-m", f"{subject}\n\n{body}", env=env)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "tool")
    repo.git("config", "user.email", "Ann@Example.org")
    return repo


def test_own_commits_oldest_first_without_merges(repo: Repo) -> None:
    repo.commit(
        "Add parser",
        {"src/parse.py": "def parse():\n    pass\n", "docs/x.md": "x\n"},
        "It reads lines.\n\nSigned-off-by: Ann Lee <ann@example.org>",
        day="2024-01-05",
    )
    repo.commit("Bob's work", {"b.txt": "b"}, who=BOB)
    repo.git("checkout", "-qb", "side", "HEAD~1")
    repo.commit("Side: work", {"side.txt": "s\n"}, "Because.", day="2024-02-01")
    repo.git("checkout", "-q", "main")
    env = {
        "GIT_AUTHOR_NAME": "Ann Lee",
        "GIT_AUTHOR_EMAIL": "ann@example.org",
        "GIT_COMMITTER_NAME": "Ann Lee",
        "GIT_COMMITTER_EMAIL": "ann@example.org",
    }
    repo.git("merge", "-q", "--no-ff", "-m", "Merge side", "side", env=env)
    items = list(git.read(repo.path))
    assert [(item.title, item.date, item.kind, item.source) for item in items] == [
        ("Add parser", "2024-01-05", "commit", "git:tool"),
        ("Side: work", "2024-02-01", "commit", "git:tool"),
    ]
    assert items[0].text == "Changed files: docs/x.md (new), src/parse.py (new)\n\nIt reads lines."
    assert {**items[0].meta, "change": ""} == {"files": 2, "insertions": 3, "deletions": 0, "change": ""}
    assert items[0].id == "c" + repo.git("rev-list", "--max-parents=0", "HEAD")[:12]


def test_a_silent_commit_is_told_by_its_changed_lines_like_the_diff_at_hand(repo: Repo) -> None:
    repo.commit("Start", {"a.py": "x = 1\n", "dir with space/é\t.txt": "words here\n"})
    repo.commit("Set x", {"a.py": "x = 2\n"})
    root, second = git.read(repo.path)
    assert root.text == "Changed files: a.py (new), dir with space/é?.txt (new)\n\n+ x = 1\n+ words here"
    assert second.text == "Changed files: a.py\n\n- x = 1\n+ x = 2"
    (repo.path / "a.py").write_text("x = 3\n")
    assert diff_to_text(repo.git("diff")) == "Changed files: a.py\n\n- x = 2\n+ x = 3"


def test_renames_binaries_odd_names_and_empty_commits(repo: Repo) -> None:
    repo.commit("Add", {"old.txt": "same content\n" * 20, "new\nline.txt": "n\n", "b.bin": b"\x00\x01"}, "body")
    (repo.path / "old.txt").rename(repo.path / "renamed.txt")
    repo.commit("Rename", {}, "body 2")
    repo.commit("Nothing in it", {}, "Only words.")
    first, second, third = git.read(repo.path)
    assert first.text.startswith("Changed files: b.bin (new, binary), new?line.txt (new), old.txt (new)\n\n")
    assert second.text == "Changed files: renamed.txt (renamed from old.txt)\n\nbody 2"
    assert third.text == "Only words."


def test_what_git_wrote_is_skipped_and_told(repo: Repo) -> None:
    repo.commit("Good", {"a": "1"})
    by_git = (
        *("fixup! Good", "squash! Good", "amend! Good", 'Revert "Good"', 'Reapply "Good"', 'Revert "Reapply "Good""'),
        *("Merge branch 'side' into main", "Merge branches 'a' and 'b'", "Merge remote-tracking branch 'o/x'"),
        *("Merge tag 'v1'", "Merge pull request #12 from a/b", "Merge 0123abc into 4567def"),
        *("Merged in side (pull request #3)", "Squashed commit of the following:"),
    )
    by_ann = ("Merge the two lists", "Merge branch prediction tables", "Revert to the old parser", "Merged at last")
    for subject in (*by_git, *by_ann, "Merged PR 12: Mend it"):
        repo.commit(subject, {"a": subject})
    told = []
    items = list(git.read(repo.path, on_skip=lambda where, why: told.append(why)))
    assert [item.title for item in items] == ["Good", *by_ann, "Mend it"]
    assert told == ["written by git (fixup, revert or merge)"] * len(by_git)


def test_the_kinds_of_change_are_told_as_in_a_diff(repo: Repo) -> None:
    repo.commit("Start", {"a": "1\n", "b": "2\n" * 9, "c.sh": "3\n", "d.bin": b"\0"})
    (repo.path / "b").rename(repo.path / "e")
    (repo.path / "c.sh").chmod(0o755)
    (repo.path / "a").unlink()
    repo.commit("Change", {"d.bin": b"\0\1", "f": "new\n"}, "Why.")
    text = "a (deleted), c.sh (now executable), d.bin (binary), e (renamed from b), f (new)"
    assert list(git.read(repo.path))[1].text == f"Changed files: {text}\n\nWhy."
    assert diff_to_text(repo.git("show", "--format=")).startswith(f"Changed files: {text}\n\n")


CHANGES: dict[str, dict[str, str | bytes | None]] = {
    "words": {"a.py": "".join(f"def f{i}():\n    return {i + (i == 7)}\n\n" for i in range(12))},
    "renamed and edited": {"a.py": None, "src/b.py": "".join(f"def f{i}():\n    return {i}\n\n" for i in range(11))},
    "odd names": {"dir with space/é\t.txt": "words here\n", 'quo"te\n.md': "text\n", "\udce9.txt": "latin name\n"},
    "no UTF-8, NUL bytes, odd line ends": {
        "latin.txt": "Größe war hier\n".encode("latin-1"),
        "late.txt": b"line\n" * 2000 + b"nul \0 here\n\0" + b"a" * 40 + b"\n",
        "mac.txt": b"one\rtwo\r\nthree\x85four\n",
    },
    "binary": {"b.bin": b"\0\1\2", "more.bin": b"\0" * 99},
    "like git's own words": {"hashes": "a" * 40 + "\n\n-- a/x\ndiff --git a/z b/z\n@@ -1 +1 @@\n"},
    "one very long line": {"min.js": "let a=1;" * 400_000},
    "many lines": {"long.txt": "".join(f"line {i} of many\n" for i in range(5000))},
    "many files": {f"d/{i}.txt": f"text of file {i}\n" * 3 for i in range(600)},
    "an address": {"AUTHORS": "Ann Lee <ann@example.org>\n", "x@example.org.md": "mail bob@example.org\n"},
    "a link where a file was": {"latin.txt": None},
    "executable": {"hashes": None},
    "a repository within": {"sub/readme": "words\n"},
    "empty": {"empty.txt": ""},
    "nothing": {},
}


@pytest.mark.parametrize("config", [{}, {"algorithm": "histogram", "context": "1", "noprefix": "1"}])
def test_the_account_of_a_commit_is_that_of_its_diff(repo: Repo, config: dict[str, str]) -> None:
    for key, value in config.items():
        repo.git("config", f"diff.{key}", value)
    before = {"a.py": "".join(f"def f{i}():\n    return {i}\n\n" for i in range(12)), "mac.txt": "one\n"}
    repo.commit("Start", {**before, "hashes": "x\n", "latin.txt": "y\n"}, "body")
    for subject, files in CHANGES.items():
        for name in [name for name, content in files.items() if content is None]:
            (repo.path / name).unlink()
        if subject == "a link where a file was":
            (repo.path / "latin.txt").symlink_to("hashes")
        elif subject == "executable":
            (repo.path / "hashes").write_text("x\n")
            (repo.path / "hashes").chmod(0o755)
        elif subject == "a repository within":
            Repo(repo.path / "sub").commit("Inner", {"x": "y\n"})
        repo.commit(subject, {name: content for name, content in files.items() if content is not None}, "body")
    items = {item.title: item for item in git.read(repo.path)}
    assert list(items) == ["Start", *CHANGES]
    for line in repo.git("log", "--format=%H %s").splitlines():
        sha, _, subject = line.partition(" ")
        shown = ["git", "-C", str(repo.path), "show", "--format=", sha]
        diff = subprocess.run(shown, check=True, capture_output=True).stdout.decode("utf-8", "replace")
        item = items[subject]
        assert item.change == diff_to_text(diff).strip(), subject
        stat = repo.git("log", "-1", "--format=", "--numstat", sha).split("\n") if item.change else []
        counted = [sum(int(row.split("\t")[side].replace("-", "0")) for row in stat) for side in (0, 1)]
        assert [item.meta["insertions"], item.meta["deletions"]] == counted, subject
        assert len(item.change) <= CHANGE_CHARS + 200, subject
        assert "@example" not in item.change + item.text, subject
        assert bool(item.change) == (subject != "nothing")


def test_commits_at_the_edge_of_a_shallow_clone_are_left_out(repo: Repo, tmp_path: Path) -> None:
    for i in range(4):
        repo.commit(f"Commit {i}", {f"f{i}": "x\n"})
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "2", f"file://{repo.path}", str(shallow)], check=True)
    told: list[tuple[str, str]] = []
    items = list(git.read(shallow, authors=["Ann Lee"], on_skip=lambda *what: told.append(what)))
    assert [(item.title, item.text) for item in items] == [("Commit 3", "Changed files: f3 (new)\n\n+ x")]
    assert [(where, "shallow" in why) for where, why in told] == [(repo.git("rev-parse", "HEAD~1")[:12], True)]
    (repo.path / ".git" / "info").mkdir(exist_ok=True)
    (repo.path / ".git" / "info" / "grafts").write_text(f"{repo.git('rev-parse', 'HEAD~2')}\n")
    assert [item.title for item in git.read(repo.path)] == ["Commit 2", "Commit 3"]


@pytest.mark.parametrize("kind", ["blob:none", "tree:0"])
def test_partial_clones_tell_what_they_have(repo: Repo, tmp_path: Path, kind: str) -> None:
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.commit("One", {"a": "1\n" * 9}, "Why.")
    (repo.path / "a").rename(repo.path / "b")
    repo.commit("Two", {"c": "2\n"})
    part = tmp_path / "part"
    clone = ["git", "clone", "-q", f"--filter={kind}", "--no-checkout", f"file://{repo.path}", str(part)]
    subprocess.run(clone, check=True)
    if kind == "tree:0":
        with pytest.raises(UsageError, match="a partial clone") as caught:
            list(git.read(part, authors=["Ann Lee"]))
        assert "fetch --refetch" in caught.value.hint
        return
    assert [(item.title, item.text, item.meta) for item in git.read(part, authors=["Ann Lee"])] == [
        ("One", "Changed files: a (new)\n\nWhy.", {"files": 1}),
        ("Two", "Changed files: b (renamed from a), c (new)", {"files": 2}),
    ]


def test_a_message_that_can_not_be_decoded_is_told(repo: Repo) -> None:
    repo.commit("Good", {"a": "1"})
    raw = (
        repo.git("cat-file", "commit", "HEAD").replace("Good", "Größe").encode("latin-1")
    )  # without an "encoding" line
    write = ["git", "-C", str(repo.path), "hash-object", "-t", "commit", "-w", "--stdin"]
    sha = subprocess.run(write, check=True, input=raw, capture_output=True).stdout.decode().strip()
    repo.git("update-ref", "HEAD", sha)
    told: list[str] = []
    assert list(git.read(repo.path, on_skip=lambda where, why: told.append(why))) == []
    assert "not UTF-8" in told[0]


def test_a_message_may_look_like_anything(repo: Repo) -> None:
    """Bodies with what the parser looks for: hashes, numstat lines, diffs."""
    body = f"{'a' * 40}\n1\t2\tfake.py\n\ndiff --git a/z b/z\n"
    repo.commit("Odd", {"a": "1\n"}, body)
    repo.commit("f" * 40, {"b": f"{'b' * 40}\n"})
    odd, hashy = git.read(repo.path)
    assert odd.text == f"Changed files: a (new)\n\n{body.strip()}"
    assert (hashy.title, hashy.text) == ("f" * 40, f"Changed files: b (new)\n\n+ {'b' * 40}")


def test_more_than_one_batch_in_order_with_progress(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_BATCH", 4)
    for i in range(10):
        repo.commit(f"Commit {i}", {"a": f"{i}\n"})
    seen: list[tuple[int, int | None]] = []
    items = list(git.read(repo.path, on_progress=lambda done, total: seen.append((done, total))))
    assert [item.title for item in items] == [f"Commit {i}" for i in range(10)]
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert [item.title for item in git.read(repo.path, limit=3)] == ["Commit 7", "Commit 8", "Commit 9"]


def test_authors_by_exact_name_or_address(repo: Repo) -> None:
    repo.commit("By Ann", {"a": "1"})
    repo.commit("By Bob", {"a": "2"}, who=BOB)
    repo.commit("By Joann", {"a": "3"}, who=("Joann Lee", "joann@example.org"))
    titles = lambda *who: [item.title for item in git.read(repo.path, authors=who)]  # noqa: E731
    assert titles() == ["By Ann"]
    assert titles("BOB RAY") == ["By Bob"]
    assert titles("bob@example.org", "Joann Lee") == ["By Bob", "By Joann"]
    with pytest.raises(UsageError, match="no commits by ann") as caught:
        titles("ann")
    assert "Ann Lee (1)" in caught.value.hint
    assert "@" not in caught.value.hint


def test_mailmap_joins_a_person_s_addresses(repo: Repo) -> None:
    repo.commit("Old job", {"a": "1"}, who=("ann", "ann@old.example"))
    repo.commit("Map", {".mailmap": "Ann Lee <ann@example.org> <ann@old.example>\n"})
    assert [item.title for item in git.read(repo.path)] == ["Old job", "Map"]


def test_since_and_revisions(repo: Repo) -> None:
    repo.commit("Old", {"a": "1"}, day="2019-05-05")
    repo.commit("New", {"a": "2"}, day="2024-05-05")
    assert [item.title for item in git.read(repo.path, since="2020")] == ["New"]
    assert [item.title for item in git.read(repo.path, rev="HEAD~1")] == ["Old"]
    assert [item.title for item in git.read(repo.path, rev="HEAD~1..HEAD")] == ["New"]
    assert list(git.read(repo.path, since="2030")) == []


def test_a_subfolder_a_bare_clone_and_other_encodings(repo: Repo, tmp_path: Path) -> None:
    repo.git("config", "i18n.commitEncoding", "ISO-8859-1")
    (repo.path / "f").write_text("1")
    repo.git("add", ".")
    subprocess.run(
        ["git", "-C", str(repo.path), "-c", "user.name=Ann Lee", "commit", "-qF", "-"],
        check=True,
        input="Größe geändert\n".encode("latin-1"),
    )
    (repo.path / "sub").mkdir()
    assert [item.title for item in git.read(repo.path / "sub")] == ["Größe geändert"]
    subprocess.run(["git", "clone", "-q", "--bare", str(repo.path), str(tmp_path / "bare.git")], check=True)
    assert [item.source for item in git.read(tmp_path / "bare.git", authors=["ann@example.org"])] == ["git:bare"]


def test_what_is_no_repository_says_so(tmp_path: Path, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()
    for path, said in ((tmp_path / "none", "no such folder"), (tmp_path / "plain", "not a git repository")):
        with pytest.raises(UsageError, match=said):
            list(git.read(path))
    with pytest.raises(UsageError, match="no commits yet"):
        list(git.read(repo.path))
    repo.commit("x", {"a": "1"})
    with pytest.raises(UsageError, match="bad revision"):
        list(git.read(repo.path, rev="nope"))
    (repo.path / ".git" / "HEAD").write_text("garbage")
    with pytest.raises(PrlmError):
        list(git.read(repo.path))


def test_no_identity_and_no_git(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.commit("x", {"a": "1"})
    repo.git("config", "--unset", "user.email")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    with pytest.raises(UsageError, match="does not know who you are"):
        list(git.read(repo.path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="git is not installed"):
        list(git.read(repo.path))


def test_stopping_early_ends_git(repo: Repo) -> None:
    for i in range(5):
        repo.commit(f"Commit {i}", {"a": f"{i}\n"})
    items = git.read(repo.path)
    next(items)
    items.close()  # type: ignore[attr-defined]


def test_update_gives_old_items_their_changes_and_loses_nothing(repo: Repo, tmp_path: Path) -> None:
    for i in range(6):
        repo.commit(f"Commit {i}", {"a.py": f"x = {i}\n"}, "body" if i % 2 else "")
    path = tmp_path / "me.jsonl"
    import_items(Profile.open(path, create=True), git.read(repo.path), Report())
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:  # as older versions wrote them
        del line["meta"]["change"]
    lines[0]["text"] = "Changed files: a.py (new)\n\n+ x = 0"
    lines[1] |= {"title": "My own words", "stars": 5}  # edited since
    lines[2]["meta"] = {"mine": [1]}
    lines[3]["source"] = "git:another-folder"
    lines.insert(2, {"id": "z", "text": "Not of git", "meta": {"change": "+ mine"}})
    before = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(before)

    def run(**options: bool) -> tuple[int, int, int, int]:
        report = Report()
        import_items(Profile.open(path), git.read(repo.path), report, fixed=True, **options)
        return report.added, report.updated, report.changed, report.duplicates

    assert run() == (0, 0, 6, 0)
    assert run(update=True, dry_run=True) == (0, 6, 0, 0)
    assert path.read_text() == before
    assert run(update=True) == (0, 6, 0, 0)
    told = {item.id: item.change for item in git.read(repo.path)}
    for old, new in zip(lines, map(json.loads, path.read_text("utf-8").splitlines()), strict=True):
        expected = {**old.get("meta", {}), "change": told[old["id"]]} if old["id"] in told else old["meta"]
        assert {**old, "meta": {}} == {**new, "meta": {}}
        assert expected == {key: value for key, value in new["meta"].items() if key in expected}
    assert "- x = 4\n+ x = 5" in told[lines[-1]["id"]]
    after = path.read_bytes()
    assert run(update=True) == run() == (0, 0, 0, 6)
    assert path.read_bytes() == after


def test_importing_twice_adds_nothing(repo: Repo, tmp_path: Path) -> None:
    for i in range(5):
        repo.commit(f"Commit {i}", {"a": f"{i}\n"}, "body" if i % 2 else "")
    profile = Profile.open(tmp_path / "me.jsonl", create=True)
    first, second = Report(), Report()
    import_items(profile, git.read(repo.path), first)
    import_items(profile, git.read(repo.path), second)
    assert (first.added, second.added, second.duplicates, second.changed) == (5, 0, 5, 0)
