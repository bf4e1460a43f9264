"""Any damage to a kept file, any foreign file in its place and any failing disk: the answer is that of a fresh cache.

One table for everything that is kept (`kept_users.py`). Afterwards the file is sound again, or left as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import as_nobody, filled, mounted
from kept_users import USERS, index, index_with_tail, kept_files, lines, prepare, style

from prlm_edge.profile.lazy_items import CAN_STORE
from prlm_edge.storage import kept
from prlm_edge.storage.kept import Shelf

pytestmark = pytest.mark.skipif(not CAN_STORE, reason="POSIX")
User = Callable[[Path], Any]
FULL_SIZE = 100  # bytes that a file may have on the disk that is full


class Question:
    """A question with its answer, and the file that it is answered from."""

    def __init__(self, user: User, folder: Path) -> None:
        self.user, self.folder = user, folder
        self.answer = user(folder)
        assert user(folder) == self.answer
        (self.file,) = kept_files(user)
        self.sound = self.file.read_bytes()

    def ask(self) -> None:
        """Twice: the second answer comes from what the first has mended."""
        assert self.user(self.folder) == self.answer
        assert self.user(self.folder) == self.answer

    def is_sound(self) -> bool:
        """Whether the file's header and size are those of a sound file."""
        with self.file.open("rb") as stream, contextlib.suppress(kept._DamagedError):
            size = os.fstat(stream.fileno()).st_size
            return kept._read_header(stream.fileno(), size).stop <= size
        return False


@pytest.fixture(params=USERS, ids=lambda user: user.__name__)
def question(request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Question:
    prepare(tmp_path, monkeypatch)
    return Question(request.param, tmp_path)


def header_of(data: bytes) -> tuple[dict[str, Any], int]:
    length = struct.unpack_from("<8sII", data)[2]
    return json.loads(data[16 : 16 + length]), 16 + length


def with_header(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with another header, whose checksum is right; the sections stay where they are if there is room."""
    header, end = header_of(data)
    text = json.dumps(change(header)).encode().ljust(end - 16)
    return struct.pack("<8sII", b"PRLMKPT1", zlib.crc32(text), len(text)) + text + data[end:]


def test_any_damaged_byte(question: Question) -> None:
    sound, dice = question.sound, random.Random(question.user.__name__)
    _, end = header_of(sound)
    for place in [
        *range(0, 16, 2),
        *dice.sample(range(16, end), 10),
        *dice.sample(range(end, len(sound)), min(16, len(sound) - end)),
        len(sound),
    ]:
        flipped = bytearray(sound + b"\0")
        flipped[place] ^= 1 << dice.randrange(8)
        question.file.write_bytes(flipped[: len(sound) + (place == len(sound))])
        question.ask()
        assert question.is_sound()


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda sound, n=n: sound[:n] for n in (0, 7, 15, 20, 200)),
        lambda sound: sound[:-1],
        lambda sound: sound[: len(sound) // 2],
        lambda sound: bytes(len(sound)),
        lambda sound: sound[: len(sound) // 2] + bytes(len(sound) - len(sound) // 2),
        lambda sound: sound + bytes(4096),
        lambda sound: sound + sound,
        lambda sound: b"PRLMKPT2" + sound[8:],
        lambda sound: with_header(sound, lambda header: header | {"format": "of another version"}),
        lambda sound: with_header(sound, lambda header: header | {"key": "another"}),
        lambda sound: with_header(sound, lambda header: header | {"sections": {"data": [0, 2**63, 0]}, "size": 2**63}),
        lambda sound: with_header(sound, lambda header: header | {"sections": {"data": [-64, 64, 0]}}),
        lambda sound: with_header(sound, lambda header: header | {"sections": 5}),
        lambda sound: with_header(sound, lambda header: header | {"size": -1}),
        lambda sound: with_header(sound, lambda header: [header]),
        lambda sound: struct.pack("<8sII", b"PRLMKPT1", zlib.crc32(b"[" * 99_999), 99_999) + b"[" * 99_999,
        lambda sound: struct.pack("<8sII", b"PRLMKPT1", 0, 2**32 - 1) + sound[16:],
    ],
)
def test_a_file_of_another_size_version_or_shape(question: Question, damage: Callable[[bytes], bytes]) -> None:
    question.file.write_bytes(damage(question.sound))
    question.ask()
    assert question.is_sound()


def test_a_file_under_another_s_name_is_not_believed(question: Question) -> None:
    if question.user in (lines, style):
        return  # they look at the profile's own bytes: `test_profile_cache.py`
    other = question.file.with_name(f"{'0' * 32}.kept")
    question.file.rename(other)
    shelf = Shelf(other.parent, header_of(question.sound)[0]["format"].rpartition(" ")[0])
    assert shelf.open(other.name.removesuffix(".kept"), "0" * 32, grows=True) is None
    question.ask()


FOREIGN = ["link", "link to nothing", "folder", "pipe", "mode 000", "mode 666", "another user's", "folder is a link"]


@pytest.mark.parametrize("foreign", [*FOREIGN, "folder is another user's"])
def test_what_is_not_ours_alone_is_neither_read_nor_written_through(
    question: Question, tmp_path: Path, foreign: str
) -> None:
    target, file = tmp_path / "target", question.file
    if foreign.startswith("link"):
        file.rename(target)
        file.symlink_to(target if foreign == "link" else tmp_path / "nothing")
    elif foreign in ("folder", "pipe"):
        file.unlink()
        (Path.mkdir if foreign == "folder" else os.mkfifo)(file)
    elif foreign.startswith("mode"):
        file.chmod(int(foreign.split()[1], 8))
    elif foreign == "folder is a link":
        file.parent.rename(target)
        file.parent.symlink_to(target)
    elif os.geteuid() != 0:
        pytest.skip("only root can give files away")
    else:
        os.chown(file.parent if "folder" in foreign else file, 12345, -1)
    before = {path: path.read_bytes() for path in tmp_path.glob("target/*.kept")} | (
        {target: target.read_bytes()} if target.is_file() else {}
    )
    question.ask()
    assert {path: path.read_bytes() for path in before} == before
    assert not (tmp_path / "nothing").exists()
    if foreign in (*FOREIGN[:2], *FOREIGN[5:7]):  # replaced by our own
        assert not file.is_symlink()
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (os.geteuid(), 0o600)


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
@pytest.mark.parametrize("what", ["file", "folder", "folder of all"])
def test_what_can_not_be_read_is_done_without(user: User, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with as_nobody() as folder:
        monkeypatch.setenv("PRLM_HOME", str(folder / "home"))
        prepare(folder, monkeypatch)
        question = Question(user, folder)
        locked = {"file": question.file, "folder": question.file.parent, "folder of all": question.file.parent.parent}
        locked[what].chmod(0)
        question.ask()
        locked[what].chmod(0o700)


@contextlib.contextmanager
def size_limit(_: Path) -> Iterator[None]:
    """`ulimit -f`: the kernel writes a part, then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_SIZE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def full_disk(cache: Path) -> Iterator[None]:
    with mounted(cache, "size=64k,mode=700"), filled(cache):
        yield


@contextlib.contextmanager
def read_only_disk(cache: Path) -> Iterator[None]:
    with mounted(cache, "size=64k,mode=700"):
        subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
        yield


@contextlib.contextmanager
def a_file_in_its_place(cache: Path) -> Iterator[None]:
    cache.write_text("")
    yield
    cache.unlink()


@pytest.mark.parametrize("obstacle", [size_limit, full_disk, read_only_disk, a_file_in_its_place])
def test_a_cache_that_can_not_be_written_costs_nothing_but_time(
    question: Question, home: Path, obstacle: Callable[[Path], contextlib.AbstractContextManager[None]]
) -> None:
    shutil.rmtree(home / "cache")
    with obstacle(home / "cache"):
        question.ask()
        assert kept_files(question.user) == []
        assert not list((home / "cache").rglob("*.tmp"))
    question.ask()
    assert question.is_sound()


def test_a_read_only_cache_is_still_a_cache(question: Question, home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "cache", tmp_path / "copy")
    with mounted(home / "cache", "size=1m,mode=700") as folder:
        shutil.copytree(tmp_path / "copy", folder, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        question.ask()


def test_a_cache_that_is_cleared_while_it_is_used(question: Question, home: Path) -> None:
    """Files are deleted behind the back of whoever has just opened or written them."""
    real, calls = Shelf._own, iter(range(10**6))

    @contextlib.contextmanager
    def cleared(self: Shelf, *args: Any) -> Iterator[tuple[int, int]]:
        with real(self, *args) as opened:
            if next(calls) % 2:
                shutil.rmtree(home / "cache", ignore_errors=True)
            yield opened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shelf, "_own", cleared)
        question.ask()
    question.ask()


def test_what_is_known_is_not_made_again(question: Question) -> None:
    before = question.file.stat().st_mtime_ns, question.file.read_bytes()
    os.utime(question.file, ns=(0, 0))
    question.ask()
    assert question.file.read_bytes() == before[1]
    assert question.file.stat().st_mtime_ns > 0  # used now
    assert question.user in (index, index_with_tail) or len(kept_files(question.user)) == 1
