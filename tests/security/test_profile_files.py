"""A profile is private: its files are the owner's alone, links stay links, and imports run and reveal nothing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import as_nobody

from prlm_edge.errors import PrlmError
from prlm_edge.ingest import git, markdown
from prlm_edge.profile import Profile
from prlm_edge.types import Item

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_every_file_is_0600_and_every_folder_0700_even_with_umask_0(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "me.jsonl"
    profile = Profile.open(path, create=True)
    profile.append([Item("a", "t"), Item("b", "u")])
    assert mode(path) == 0o600
    profile.remove(["a"])
    assert mode(path) == 0o600
    with path.open("ab") as stream:
        stream.write(b"bad\n")
    done = Profile.open(path).repair()
    assert done.side_file is not None
    everything = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert {p.name: oct(mode(p)) for p in everything} == {
        "a": "0o700",
        "b": "0o700",
        "me.jsonl": "0o600",
        ".me.jsonl.lock": "0o600",
        done.side_file.name: "0o600",
    }


@pytest.mark.usefixtures("open_umask")
def test_files_are_private_from_their_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at in the moment of each write: no window in which others could read."""
    seen = set()
    write, fsync = os.write, os.fsync

    def look(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            seen.add(stat.S_IMODE(status.st_mode))

    monkeypatch.setattr(os, "write", lambda fd, data: (look(fd), write(fd, data))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (look(fd), fsync(fd))[1])
    profile = Profile.open(tmp_path / "me.jsonl", create=True)
    profile.append([Item("a", "t"), Item("b", "u")])
    profile.remove(["a"])
    assert seen == {0o600}


def test_a_profile_that_the_user_opened_to_others_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "me.jsonl"
    path.write_bytes(b'{"id":"a","text":"t"}\n{"id":"b","text":"u"}\n')
    path.chmod(0o640)
    Profile.open(path).remove(["a"])
    assert mode(path) == 0o640


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_profile_that_root_rewrites_stays_its_owner_s(tmp_path: Path) -> None:
    path = tmp_path / "me.jsonl"
    path.write_bytes(b'{"id":"a","text":"t"}\n{"id":"b","text":"u"}\n')
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    assert Profile.open(path).remove(["a"]) == 1
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (12345, 23456, 0o640)


def test_a_planted_lock_is_not_written_through(tmp_path: Path) -> None:
    path, target = tmp_path / "me.jsonl", tmp_path / "target"
    target.write_text("precious")
    (tmp_path / ".me.jsonl.lock").symlink_to(target)
    with pytest.raises(PrlmError):
        Profile.open(path, create=True).append([Item("a", "t")])
    assert target.read_text() == "precious"


def test_a_linked_profile_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "me.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(Path("real") / "me.jsonl")
    profile = Profile.open(link, create=True)  # a link to nothing yet
    profile.append([Item("a", "t"), Item("b", "u")])
    profile.remove(["a"])
    with real.open("ab") as stream:
        stream.write(b"bad\n")
    done = Profile.open(link).repair()
    assert link.is_symlink()
    assert [item.id for item in Profile.open(real)] == ["b"]
    assert done.side_file is not None
    assert done.side_file.parent == real.parent.resolve()
    assert Profile.open(real).append([Item("c", "t")]).added == 1  # both names share one lock and one file
    assert profile.refresh()
    assert len(profile) == 2


def test_no_permission_is_one_line_and_nothing_lost() -> None:
    with as_nobody() as folder:
        path = folder / "me.jsonl"
        content = b'{"id":"a","text":"t"}\n'
        path.write_bytes(content)
        folder.chmod(0o500)  # no new files, so no lock
        profile = Profile.open(path)
        for act in (
            lambda: profile.append([Item("b", "u")]),
            lambda: profile.remove(["a"]),
            lambda: Profile.open(folder / "x" / "new.jsonl", create=True).append([Item("b", "u")]),
        ):
            with pytest.raises(PrlmError, match="Permission denied") as caught:
                act()
            assert "mend its permissions" in caught.value.hint
        folder.chmod(0o700)
        path.chmod(0o400)
        for act in (lambda: profile.append([Item("b", "u")]), lambda: profile.remove(["a"])):
            with pytest.raises(PrlmError, match="Permission denied"):
                act()
        path.chmod(0o000)
        with pytest.raises(PrlmError, match="Permission denied"):
            Profile.open(path)
        path.chmod(0o600)
        assert path.read_bytes() == content


def run_git(repo: Path, *args: str, **env: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repo), *args], check=True, capture_output=True, text=True, env={**os.environ, **env}
    ).stdout


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repo = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    run_git(repo, "config", "user.email", "ann@example.org")
    run_git(repo, "config", "user.name", "Ann Lee")
    (repo / "a.txt").write_text("one\n")
    run_git(repo, "add", ".")
    run_git(repo, "commit", "-qm", "Add a file")
    return repo


def test_a_repository_can_not_run_anything(repo: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    script.chmod(0o755)
    (repo / ".gitattributes").write_text("*.txt diff=evil filter=evil\n")
    (repo / "a.txt").write_text("two\n")
    run_git(repo, "add", ".")
    run_git(repo, "commit", "-qm", "Change it")
    for key in (
        "diff.external",
        "diff.evil.command",
        "diff.evil.textconv",
        "core.pager",
        "pager.log",
        "core.fsmonitor",
        "gpg.program",
        "core.sshCommand",
        "core.editor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "interactive.diffFilter",
        "core.askPass",
        "credential.helper",
        "uploadpack.packObjectsHook",
    ):
        run_git(repo, "config", key, str(script))
    run_git(repo, "config", "log.showSignature", "true")
    run_git(repo, "config", "alias.log", f"!{script}")
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-checkout", "pre-commit", "reference-transaction"):
        shutil.copy(script, hooks / hook)
    canary.unlink(missing_ok=True)
    assert [item.title for item in git.read(repo)] == ["Add a file", "Change it"]
    assert not canary.exists()


def test_arguments_are_never_options(repo: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(PrlmError, match="bad revision"):
        list(git.read(repo, rev=f"--output={canary}"))
    assert not canary.exists()
    with pytest.raises(PrlmError, match="no commits by"):
        list(git.read(repo, authors=["--all"]))


def test_a_hook_s_environment_does_not_redirect_git(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    assert [item.source for item in git.read(repo)] == ["git:repo"]


def test_no_e_mail_address_reaches_an_item(repo: Path) -> None:
    (repo / "icon@2x.png").write_bytes(b"\0")
    (repo / "b.txt").write_text("mail bob@example.com\n")
    run_git(repo, "add", ".")
    run_git(repo, "commit", "-qm", "Thank bob@example.com and <eve@example.com>")
    (repo / "c.txt").write_text("c")
    run_git(repo, "add", ".")
    run_git(
        repo,
        "commit",
        "-qm",
        "Write c",
        "-m",
        "As Eve Poe <eve@example.com> said; see git@1.2.3 and dan@mail.example.co.uk.",
        "-m",
        "Signed-off-by: Ann Lee <ann@example.org>\nCc: x@y.org\nReported-by: Z <z@z.io>",
    )
    items = list(git.read(repo))
    text = "\n".join(f"{item!r}" for item in items)
    for address in ("ann@", "bob@", "eve@", "dan@", "x@y", "z@z"):
        assert address not in text
    assert "icon@2x.png" in text
    assert "As Eve Poe said; see git@1.2.3 and [email]." in text
    assert "Signed-off" not in text


def test_a_vault_with_link_loops_ends_and_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    (vault / "sub").mkdir(parents=True)
    (vault / "sub" / "a.md").write_text("# A\n\ntext")
    (vault / "sub" / "up").symlink_to(vault)
    (vault / "again").symlink_to(vault / "sub")
    (vault / "dangling.md").symlink_to(tmp_path / "nothing")
    for hidden in (".obsidian", ".trash", "templates"):
        (vault / hidden).mkdir()
        (vault / hidden / "secret.md").write_text("# Secret\n\nprivate")
    assert [item.title for item in markdown.read(vault)] == ["A"]
