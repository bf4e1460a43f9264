"""Prompt prefixes on disk that are damaged, half written or can't be written: refused, never trusted.

Not here: files that are somebody else's (`tests/security/test_prefix_privacy.py`).
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prlm_edge.backends.engine.prefix_store import PrefixStore

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
    assert store.has(CUTS)  # in memory: not tried again and again
    kept = store.find(CUTS)
    assert kept
    assert bytes(kept.state) == STATE
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


def test_a_sound_file_outlives_a_moment_without_descriptors(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    store = PrefixStore(KEY, folder=path.parent)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 8, before[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        os.close(taken.pop())  # one is left: the folder can be listed, the file opened, but not mapped
        assert store.find(CUTS) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)
    assert found(path.parent) == STATE


def test_leftovers_go_and_a_lowered_cap_counts_even_where_nothing_can_be_written(path: Path) -> None:
    stale, fresh = path.parent / ".stale.kv.tmp", path.parent / ".fresh.kv.tmp"
    for leftover in (stale, fresh):
        leftover.write_bytes(STATE)
    os.utime(stale, (0, 0))
    store = PrefixStore(KEY, folder=path.parent, disk_bytes=len(STATE) // 2)
    store.keep([b"x" * 16], [10], STATE)
    assert store.files
    assert "too little room" in store.files.problem
    assert list(path.parent.iterdir()) == [fresh]  # perhaps being written


WORK = """
import random, sys, zlib
from pathlib import Path
from prlm_edge.backends.engine.prefix_store import PrefixStore

store = PrefixStore("ab" * 16, folder=Path(sys.argv[1]), disk_bytes=400_000)
dice, hits = random.Random(sys.argv[2]), 0
for _ in range(300):
    which, n = dice.randrange(6), dice.randrange(1, 4)
    digests = [bytes([which, i]) * 8 for i in range(n)]
    if dice.random() < 0.5:
        store.keep(digests, [10, 20, 30][:n], bytes([which]) * 100_000)
    prefix = PrefixStore("ab" * 16, folder=Path(sys.argv[1])).find(digests)
    if prefix is not None:
        hits += 1
        assert bytes(prefix.state) == bytes([which]) * 100_000, (which, bytes(prefix.state)[:9])
print(hits)
"""


def test_processes_that_write_read_evict_and_clear_at_once_get_right_states_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "prefix"
    command = [sys.executable, "-c", WORK, str(folder)]
    workers = [
        subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(3)
    ]
    while any(worker.poll() is None for worker in workers):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
    for worker in workers:
        out, errors = worker.communicate()
        assert (worker.returncode, errors) == (0, "")
        assert int(out) > 10
    PrefixStore(KEY, folder=folder, disk_bytes=400_000).keep(CUTS, [10, 20, 30], bytes(100_000))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 400_000


def test_killed_while_writing_nothing_is_broken(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom prlm_edge.backends.engine.prefix_store import PrefixStore\n"
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
