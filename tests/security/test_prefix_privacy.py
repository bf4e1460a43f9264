"""Kept prompt prefixes can be read back as the user's text: the owner's alone, and nobody else's file is believed."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prlm_edge.backends.engine.prefix_store import PrefixStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
KEY = "ab" * 16
CUTS = [bytes([i]) * 16 for i in range(3)]
STATE = b"a state " * 1000


def keep(folder: Path) -> None:
    PrefixStore(KEY, folder=folder).keep(CUTS, [10, 20, 30], STATE)


def found(folder: Path) -> bytes | None:
    prefix = PrefixStore(KEY, folder=folder).find(CUTS)
    return None if prefix is None else bytes(prefix.state)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    keep(tmp_path / "prefix")
    (path,) = (tmp_path / "prefix").iterdir()
    assert found(path.parent) == STATE
    return path


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_files_and_folders_are_the_owners_alone_even_with_umask_0(tmp_path: Path) -> None:
    keep(tmp_path / "cache" / "prefix")
    everything = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
    assert [oct(stat.S_IMODE(p.stat().st_mode)) for p in everything] == ["0o700", "0o700", "0o600"]


@pytest.mark.usefixtures("open_umask")
def test_private_from_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at in the moment before the file gets its name."""
    seen = []
    replace = Path.replace

    def looked_at(self: Path, target: Path) -> Path:
        seen.append((oct(stat.S_IMODE(self.stat().st_mode)), self.stat().st_size > len(STATE)))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", looked_at)
    keep(tmp_path)
    assert seen == [("0o600", True)]


def test_in_memory_nothing_touches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRLM_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    store = PrefixStore(KEY)
    store.keep(CUTS, [10, 20, 30], STATE)
    assert store.find(CUTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_is_refused_and_replaced_by_our_own(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert found(path.parent) is None
    keep(path.parent)
    assert found(path.parent) == STATE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused_and_left(path: Path) -> None:
    os.chown(path, 12345, -1)
    assert found(path.parent) is None
    assert path.exists()
    os.chown(path, 0, -1)
    assert found(path.parent) == STATE


def test_a_link_is_neither_read_nor_written_through(path: Path, tmp_path: Path) -> None:
    moved = path.rename(tmp_path / "elsewhere")
    before = moved.read_bytes()
    path.symlink_to(moved)
    assert found(path.parent) is None
    PrefixStore(KEY, folder=path.parent).keep(CUTS, [10, 20, 30], b"another")
    assert found(path.parent) == b"another"
    assert not path.is_symlink()
    assert moved.read_bytes() == before


def test_a_folder_and_a_pipe_do_not_hold_it_up(path: Path) -> None:
    (path.parent / "0.kv").mkdir()
    os.mkfifo(path.parent / "1.kv")
    assert found(path.parent) == STATE


def test_another_versions_file_is_refused_and_left(path: Path) -> None:
    path.write_bytes(b"PRLM-KV2" + path.read_bytes()[8:])
    assert found(path.parent) is None
    assert path.exists()


@pytest.mark.parametrize(
    ("cuts", "size"), [(0, len(STATE)), (2**32 - 1, len(STATE)), (4096, len(STATE)), (3, 2**63), (3, 0), (2, 8000)]
)
def test_numbers_that_do_not_fit_the_file_are_refused_though_their_checksum_is_right(
    path: Path, cuts: int, size: int
) -> None:
    head = struct.pack("<8s16sIQI", b"PRLM-KV1", bytes.fromhex(KEY), cuts, size, zlib.crc32(STATE))
    head += b"".join(struct.pack("<16sI", digest, 10) for digest in CUTS)
    path.write_bytes(head + struct.pack("<I", zlib.crc32(head)) + STATE)
    assert found(path.parent) is None


@given(st.binary(max_size=300), st.sampled_from([b"", b"PRLM-KV1", b"PRLM-KV1" + bytes.fromhex(KEY)]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_are_believed(path: Path, data: bytes, start: bytes) -> None:
    path.write_bytes(start + data)
    assert found(path.parent) is None
