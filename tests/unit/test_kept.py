"""The kit for kept files: what comes back, what goes first, and appended records. Damage: test_any_damage.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from array import array
from pathlib import Path

import numpy as np
import pytest

from prlm_edge.errors import PrlmError
from prlm_edge.storage import kept
from prlm_edge.storage.kept import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "cache" / "things", "things 1", max_files=3, max_bytes=100_000)


def test_what_was_written_is_read(shelf: Shelf) -> None:
    numbers, matrix = array("Q", [1, 2, 3]), np.arange(12, dtype=np.float32).reshape(3, 4)
    sections = {"numbers": numbers, "matrix": matrix, "empty": np.zeros((0, 4)), "text": b"abc", "nothing": b""}
    shelf.write("a", "key", {"n": 3, "names": ["x", "ü"]}, sections)
    found = shelf.open("a", "key")
    assert found is not None
    assert found.about == {"n": 3, "names": ["x", "ü"]}
    assert {name: bytes(section) for name, section in found.sections.items()} == {
        name: bytes(memoryview(content)) for name, content in sections.items()
    }
    assert all(np.frombuffer(found.sections["matrix"], np.float32) == matrix.ravel())
    assert np.frombuffer(found.sections["matrix"], np.float32).ctypes.data % 64 == 0
    assert shelf.open("b", "key") is None
    assert shelf.open("a", "another key") is None
    assert Shelf(shelf.folder, "things 2").open("a", "key") is None
    assert shelf.path("a").exists()  # it may be of use to another version


def test_memory_that_can_be_written_to_leaves_the_file_alone(shelf: Shelf) -> None:
    shelf.write("a", "key", {}, {"text": b"abc"})
    found, again = shelf.open("a", "key", writable=True), shelf.open("a", "key")
    assert found is not None
    assert again is not None
    found.sections["text"][0] = 0
    assert bytes(again.sections["text"]) == b"abc"
    assert again.sections["text"].readonly


def age(shelf: Shelf, name: str, seconds: float) -> None:
    os.utime(shelf.path(name), (time.time() - seconds,) * 2)


def test_the_least_recently_used_goes_first(shelf: Shelf) -> None:
    for place, name in enumerate("abc"):
        shelf.write(name, "key", {}, {})
        age(shelf, name, 100 - place)
    assert shelf.peek("a", "key")
    assert shelf.names() == ["c", "b", "a"]
    assert shelf.open("a", "key")
    assert shelf.names() == ["a", "c", "b"]
    shelf.write("d", "key", {}, {})
    assert sorted(shelf.names()) == ["a", "c", "d"]
    age(shelf, "d", 1000)
    shelf.write("large", "key", {}, {"text": bytes(99_000)})
    assert shelf.names() == ["large", "a", "c"]
    shelf.write("larger", "key", {}, {"text": bytes(101_000)})
    assert shelf.names() == ["larger"]  # what was just written stays


def test_what_killed_processes_left_goes(shelf: Shelf) -> None:
    shelf.write("a", "key", {}, {})
    old, new, other = (shelf.folder / name for name in (".a.kept.12345678.tmp", ".b.kept.abcdefgh.tmp", "notes.txt"))
    for path in (old, new, other):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    shelf.write("a", "key", {}, {})
    assert sorted(shelf.folder.iterdir()) == sorted([new, other, shelf.path("a")])


@pytest.mark.parametrize("torn", range(0, 25, 3))
def test_records_are_appended_behind_what_an_interrupted_append_left(shelf: Shelf, torn: int) -> None:
    def records() -> bytes:
        found = shelf.open("a", "key", grows=True)
        assert found is not None
        return bytes(found.records)

    shelf.append("a", "key", b"1234567812345678", 8)
    assert records() == b"1234567812345678"
    with shelf.path("a").open("ab") as stream:
        stream.write(b"x" * torn)
    assert records() == b"1234567812345678" + b"x" * torn
    shelf.append("a", "key", b"abcdefgh", 8)
    assert records() == b"1234567812345678" + b"x" * (torn // 8 * 8) + b"abcdefgh"
    assert shelf.open("a", "key") is None  # it is not a file that stays as it is
    shelf.append("a", "key", b"abcdefgh", 8)
    shelf.append("a", "new key", b"87654321", 8)
    found = shelf.open("a", "new key", grows=True)
    assert found is not None
    assert bytes(found.records) == b"87654321"


def test_a_failed_append_says_why_and_leaves_the_records(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.append("a", "key", b"12345678", 8)
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        write(descriptor, bytes(data)[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(PrlmError, match="No space left"):
        patch.setattr(os, "write", full)
        shelf.append("a", "key", b"abcdefgh", 8)
    shelf.append("a", "key", b"ABCDEFGH", 8)
    found = shelf.open("a", "key", grows=True)
    assert found is not None
    assert bytes(found.records) == b"12345678ABCDEFGH"


def test_a_file_outlives_a_moment_without_descriptors(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.write("a", "key", {}, {"text": b"abc"})

    def none_left(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(kept.mmap, "mmap", none_left)
        assert shelf.open("a", "key") is None
    assert shelf.open("a", "key") is not None


WORK = """
import random, sys
from pathlib import Path
from prlm_edge.errors import PrlmError
from prlm_edge.storage.kept import Shelf

shelf, dice, hits = Shelf(Path(sys.argv[1]), "things 1", max_bytes=400_000), random.Random(sys.argv[2]), 0
print("ready", flush=True)
forever = sys.argv[3] == 'forever'
for round in range(10**9 if forever else 5000):
    if hits > 5 and round > 100 and not forever:
        break
    name = str(dice.randrange(6))
    try:
        if dice.random() < 0.5:
            shelf.write(name, name, {"name": name}, {"data": name.encode() * 100_000})
        shelf.append("grows", "key", name.encode() * 1000, 1000)
    except PrlmError:
        pass  # cleared just now
    if (found := shelf.open(name, name)) is not None:
        hits += 1
        assert found.about == {"name": name} and bytes(found.sections["data"]) == name.encode() * 100_000
    if (found := shelf.open("grows", "key", grows=True)) is not None:
        data = bytes(found.records)
        assert all(len(set(data[i : i + 1000])) == 1 for i in range(0, len(data) // 1000 * 1000, 1000))
print(hits)
"""


def start(folder: Path, seed: int, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORK, str(folder), str(seed), how]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def test_processes_that_write_read_evict_and_clear_at_once_get_sound_files_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "things"
    workers = [start(folder, seed, "some rounds") for seed in range(3)]
    while any(worker.poll() is None for worker in workers):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
    for worker in workers:
        out, errors = worker.communicate()
        assert (worker.returncode, errors) == (0, "")
        assert int(out) > 0


def test_killed_while_writing_nothing_is_broken(tmp_path: Path) -> None:
    folder, sizes = tmp_path / "things", []
    for seed, delay in enumerate((0.02, 0.05, 0.09, 0.14)):
        worker = start(folder, seed, "forever")
        time.sleep(delay)
        worker.kill()
        worker.communicate()
        shelf = Shelf(folder, "things 1")
        assert all(shelf.open(name, name) for name in shelf.names() if name != "grows")
        found = shelf.open("grows", "key", grows=True)
        sizes.append(len(found.records) if found else 0)
    assert sizes == sorted(sizes)
    for left in folder.glob(".*.tmp"):
        os.utime(left, (0, 0))
    shelf.append("grows", "key", b"", 1000)
    shelf.write("a", "key", {}, {})
    assert not list(folder.glob(".*.tmp"))
