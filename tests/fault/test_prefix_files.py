"""Prompt prefixes on disk that are damaged, foreign, half written or can't be written: refused, never trusted."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prlm_edge.backends.prefix_store import PrefixStore

KEY = "ab" * 16
CUTS = [bytes([i]) * 16 for i in range(3)]
STATE = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    PrefixStore(KEY, folder=tmp_path).keep(CUTS, [10, 20, 30], STATE)
    (path,) = tmp_path.iterdir()
    return path


def found(folder: Path) -> bytes | None:
    prefix = PrefixStore(KEY, folder=folder).find(CUTS)
    return None if prefix is None else bytes(prefix.state)


@pytest.mark.parametrize("at", [0, 3, 8, 20, 24, 30, 40, 41, 60, 99, 104, 110, 5000, -1])
def test_a_flipped_bit_anywhere_is_seen(path: Path, at: int) -> None:
    assert found(path.parent) == STATE
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert found(path.parent) is None


@pytest.mark.parametrize("size", [0, 7, 40, 99, 110, 5000, -1])
def test_a_torn_file_is_refused_and_deleted(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    assert found(path.parent) is None
    assert not path.exists()
    PrefixStore(KEY, folder=path.parent).keep(CUTS, [10, 20, 30], STATE)
    assert found(path.parent) == STATE


def test_bytes_behind_the_end_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")
    assert found(path.parent) is None


def test_only_the_owner_may_have_written_it(path: Path) -> None:
    path.chmod(0o622)
    assert found(path.parent) is None


def test_a_link_a_folder_and_a_pipe_are_refused(path: Path, tmp_path: Path) -> None:
    moved = path.rename(tmp_path / "elsewhere")
    path.symlink_to(moved)
    assert found(tmp_path) is None
    (tmp_path / "folder.kv").mkdir()
    os.mkfifo(tmp_path / "pipe.kv")
    assert found(tmp_path) is None
    assert moved.exists()


def test_files_and_folder_are_the_owners_alone(tmp_path: Path) -> None:
    PrefixStore(KEY, folder=tmp_path / "a" / "prefix").keep(CUTS, [10, 20, 30], STATE)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "a" / "prefix").stat().st_mode) == 0o700


def test_a_full_disk_is_a_note_and_no_error(tmp_path: Path) -> None:
    store = PrefixStore(KEY, folder=tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        store.keep(CUTS, [10, 20, 30], STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.files
    assert "could not be kept" in store.files.problem
    assert list(tmp_path.iterdir()) == []
    store.keep(CUTS, [10, 20, 30], STATE)
    assert store.files.problem == ""
    assert found(tmp_path) == STATE


def test_a_folder_that_can_not_be_made_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = PrefixStore(KEY, folder=tmp_path / "file" / "prefix")
    assert store.find(CUTS) is None
    store.keep(CUTS, [10, 20, 30], STATE)
    assert store.files
    assert store.files.problem


def test_killed_while_writing_nothing_is_broken(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom prlm_edge.backends.prefix_store import PrefixStore\n"
        "store = PrefixStore('ab' * 16, folder=Path(sys.argv[1]))\n"
        "digests = [bytes([i]) * 16 for i in range(3)]\nprint('ready', flush=True)\n"
        "while True:\n"
        "    for n in (1, 2, 3):\n        store.keep(digests[:n], [10, 20, 30][:n], bytes([n]) * (20 << 20))\n"
    )
    for delay in (0.02, 0.05, 0.09, 0.14):
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        state = found(tmp_path)
        assert state is None or (len(state) == 20 << 20 and len(set(state[:: 1 << 16])) == 1)
    leftovers = list(tmp_path.glob(".*.tmp"))
    for leftover in leftovers:
        os.utime(leftover, (0, 0))
    PrefixStore(KEY, folder=tmp_path).keep(CUTS, [10, 20, 30], STATE)
    assert not list(tmp_path.glob(".*.tmp"))
    assert found(tmp_path) == STATE
