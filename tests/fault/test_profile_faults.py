"""The store on a failing disk: full, broken, read-only, over a size limit. One line is said and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import filled, mounted

from prlm_edge.errors import PrlmError
from prlm_edge.profile import Profile
from prlm_edge.types import Item

CONTENT = b'{"id":"a","text":"first","n":1.50}\nbad line\n{"id":"b","text":"second"}\n{"id":"a","text":"x"}\n'

Act = Callable[[Profile], object]
ACTS: dict[str, Act] = {
    "append": lambda profile: profile.append([Item("n", "new"), Item("m", "more")]),
    "remove": lambda profile: profile.remove(["a"]),
    "update": lambda profile: profile.update([Item("b", "newer")]),
    "repair": lambda profile: profile.repair(),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "me.jsonl"
    path.write_bytes(CONTENT)
    return path


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.endswith(".lock")}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "mkstemp", "chmod"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failing_call_leaves_the_profile_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, act: str, call: str, code: int
) -> None:
    """Every system call of a write fails in turn; what a half-done os.write left is cut off again."""
    profile = Profile.open(path)
    failed = []
    write = os.write

    def fail(*args: object, **kwargs: object) -> object:
        failed.append(call)
        if call == "write":  # half of it lands before the disk is full
            write(args[0], bytes(args[1])[: len(args[1]) // 2])  # type: ignore[arg-type,index]
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp" if call == "mkstemp" else f"os.{call}", fail)
        with contextlib.suppress(PrlmError):
            ACTS[act](profile)
            assert not failed
    if failed:
        assert path.read_bytes() == CONTENT
        left = files(path.parent) - {"me.jsonl"}
        assert not [name for name in left if act != "repair" or "rejected" not in name]
        assert profile.items == Profile.open(path).items
    ACTS[act](Profile.open(path))  # the disk is well again: it works
    assert path.read_bytes() != CONTENT
    assert not [name for name in files(path.parent) if name.endswith(".tmp")]


def test_the_failing_calls_above_are_really_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = set()
    for name in ("write", "fsync", "replace", "chmod"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, r=real, n=name, **more: (made.add(n), r(*args, **more))[1])
    for act in ACTS.values():
        path.write_bytes(CONTENT)
        act(Profile.open(path))
    assert made == {"write", "fsync", "replace", "chmod"}


def test_a_side_file_is_safe_before_the_profile_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second replace (the profile's own) fails: the bad lines are then in both files, never in none."""
    real, targets = os.replace, []

    def replace(source: str, target: Path) -> None:
        targets.append(Path(target).name)
        if len(targets) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PrlmError, match="Input/output error"):
        Profile.open(path).repair()
    assert targets[0].startswith("me.jsonl.rejected-")
    assert targets[1] == "me.jsonl"
    assert path.read_bytes() == CONTENT
    assert (path.parent / targets[0]).read_bytes() == b"bad line\n"


def test_ctrl_c_in_the_middle_of_an_append_takes_the_batch_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile.open(path)
    write = os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        write(descriptor, bytes(data)[:7])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "write", interrupted)
        profile.append([Item("n", "new")])
    assert path.read_bytes() == CONTENT
    assert profile.append([Item("n", "new")]).added == 1


def test_a_really_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=256k") as folder:
        path = folder / "me.jsonl"
        profile = Profile.open(path, create=True)
        profile.append([Item("a", "x" * 100_000)])
        content = path.read_bytes()
        for act in (lambda: profile.append([Item("b", "y" * 200_000)]), lambda: profile.remove(["tiny"])):
            profile.append([Item("tiny", "removable")]) if not profile.get("tiny") else None
            content = path.read_bytes()
            with filled(folder), pytest.raises(PrlmError, match="No space left") as caught:
                act()
            assert caught.value.hint.startswith("free some space")
            assert path.read_bytes() == content
            assert not [p for p in folder.iterdir() if p.name.endswith(".tmp")]
        assert profile.append([Item("b", "y")]).added == 1
        assert [item.id for item in Profile.open(path)] == ["a", "tiny", "b"]


def test_a_read_only_disk_can_be_read_and_says_so(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as folder:
        path = folder / "me.jsonl"
        path.write_bytes(CONTENT + b'{"torn')
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        profile = Profile.open(path)
        assert [item.id for item in profile] == ["a", "b"]
        for act in ACTS.values():
            with pytest.raises(PrlmError, match=r"(?i)read-only file system"):
                act(profile)
        with pytest.raises(PrlmError, match=r"(?i)read-only file system"):
            Profile.open(folder / "new" / "me.jsonl", create=True).append([Item("a", "t")])


def test_a_file_size_limit(path: Path) -> None:
    """`ulimit -f`: the kernel writes a part, then refuses; the part is taken back."""
    code = f"""
import resource
from prlm_edge.errors import PrlmError
from prlm_edge.profile.store import Profile
from prlm_edge.types import Item
profile = Profile.open({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
profile.append([Item("small", "fits")])
try:
    profile.append([Item("big", "x" * 10_000)])
except PrlmError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert path.read_bytes() == CONTENT + b'{"id": "small", "text": "fits"}\n'


def test_a_vanishing_file_is_no_traceback(path: Path) -> None:
    profile = Profile.open(path)
    path.unlink()
    for act in ("remove", "update", "repair"):
        with pytest.raises(PrlmError, match="no such profile"):
            ACTS[act](profile)


def appended(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b'{"id":"late","text":"late"}\n')


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes() + b'{"id":"late","text":"late"}\n')
    other.replace(path)


def edited_in_place(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as stream:
        stream.write(b'{"id":"late"')
        stream.truncate(before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("act", ["remove", "update", "repair"])
@pytest.mark.parametrize("write", [appended, replaced, edited_in_place])
def test_what_another_program_writes_during_a_rewrite_is_not_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch, act: str, write: Callable[[Path], None]
) -> None:
    """It knows no lock. The last moment in which it is seen is after the copy is on disk."""
    if write is edited_in_place:
        path.write_bytes(b'{"id":"old1","text":"x"}\n' + CONTENT)
    profile, fsync, calls = Profile.open(path), os.fsync, []

    def meanwhile(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(descriptor)
        if calls == [descriptor]:
            write(path)

    monkeypatch.setattr(os, "fsync", meanwhile)
    ACTS[act](profile)
    assert profile.get("late")
    found = Profile.open(path)
    assert found.items == profile.items
    texts = {item.id: item.text for item in found}
    assert {"remove": texts["a"] == "x", "repair": not found.bad, "update": texts["b"] == "newer"}[act]
    assert len([name for name in files(path.parent) if "rejected" in name]) == (act == "repair")


def test_a_program_that_never_stops_writing_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, fsync = Profile.open(path), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (appended(path), fsync(descriptor)))
    with pytest.raises(PrlmError, match="another program keeps writing"):
        profile.remove(["a"])
    assert path.read_bytes().startswith(CONTENT)
    assert files(path.parent) == {path.name}


def test_what_killed_rewrites_left_goes_with_the_next_one(path: Path) -> None:
    ours = [f".me.jsonl{middle}.abcd123_.tmp" for middle in ("", ".rejected-20260101T000000Z")]
    others = [".me.jsonl.x.abcd1234.tmp", ".you.jsonl.abcd1234.tmp", ".me.jsonl.tmp", "me.jsonl.abcd1234.tmp"]
    for name in (*ours, *others):
        path.with_name(name).write_bytes(CONTENT)
    profile = Profile.open(path)
    assert sorted(left.name for left in profile.leftovers) == sorted(ours)
    profile.append([Item("n", "new")])
    assert len(profile.leftovers) == 2
    profile.remove(["a"])
    assert files(path.parent) == {path.name, *others}
