"""Prompt prefixes in memory and on disk: what is found, what is superseded, what goes first."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from prlm_edge.backends.engine.prefix_store import PrefixStore

KEY = "ab" * 16
CUTS = [bytes([i]) * 16 for i in range(9)]
OTHER = [CUTS[0], *(bytes([100 + i]) * 16 for i in range(5))]


def tokens(digests: list[bytes]) -> list[int]:
    return [100 * (i + 1) for i in range(len(digests))]


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PrefixStore:
    return PrefixStore(KEY, folder=tmp_path / "prefix" if request.param == "disk" else None)


def keep(store: PrefixStore, digests: list[bytes], state: bytes) -> None:
    store.keep(digests, tokens(digests), state)


def found(store: PrefixStore, digests: list[bytes], at_least: int = 0) -> tuple[int, int, bytes] | None:
    prefix = store.find(digests, at_least)
    return None if prefix is None else (prefix.n_cuts, prefix.n_tokens, bytes(prefix.state))


def test_nothing_is_found_in_an_empty_store(store: PrefixStore) -> None:
    assert found(store, CUTS) is None
    assert not store.has(CUTS[:1])


def test_an_entry_serves_every_prompt_that_begins_like_it(store: PrefixStore) -> None:
    keep(store, CUTS[:5], b"five")
    assert found(store, CUTS) == (5, 500, b"five")
    assert found(store, CUTS[:3]) == (3, 300, b"five")
    assert found(store, [*CUTS[:2], *OTHER]) == (2, 200, b"five")
    assert found(store, CUTS[1:]) is None
    assert store.has(CUTS[:5])
    assert store.has(CUTS[:2])
    assert not store.has(CUTS[:6])


def test_the_longest_wins_and_only_above_what_is_there_already(store: PrefixStore) -> None:
    keep(store, CUTS[:3], b"three")
    keep(store, OTHER, b"other")
    assert found(store, CUTS) == (3, 300, b"three")
    assert found(store, OTHER) == (6, 600, b"other")
    assert found(store, CUTS, at_least=299) == (3, 300, b"three")
    assert found(store, CUTS, at_least=300) is None


def test_what_an_entry_extends_is_dropped(store: PrefixStore, tmp_path: Path) -> None:
    keep(store, CUTS[:2], b"two")
    keep(store, OTHER, b"other")
    keep(store, CUTS[:4], b"four")
    assert found(store, CUTS) == (4, 400, b"four")
    assert found(store, OTHER) == (6, 600, b"other")
    count = len(list(tmp_path.rglob("*.kept"))) if store.files else len(store._kept)
    assert count == 2


def test_memory_is_capped_and_the_least_recently_used_goes_first() -> None:
    store = PrefixStore(KEY, memory_bytes=300)
    for i in range(3):
        keep(store, [bytes([i]) * 16], bytes(100))
    assert found(store, [bytes(16)])  # used now
    keep(store, [b"x" * 16], bytes(100))
    assert [found(store, [bytes([i]) * 16]) is not None for i in range(3)] == [True, False, True]
    keep(store, [b"y" * 16], bytes(301))
    assert found(store, [b"y" * 16]) is None
    assert found(store, [b"x" * 16])  # what doesn't fit displaces nothing


def test_the_disk_is_capped_over_all_models(tmp_path: Path) -> None:
    stores = [PrefixStore(key * 16, folder=tmp_path, disk_bytes=35_000) for key in ("aa", "bb")]
    for i, store in enumerate(stores * 2):
        keep(store, [bytes([i]) * 16], bytes(10_000))
        for path in tmp_path.glob("*.kept"):  # a second older, whatever the file system's clock
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
    assert found(stores[0], [bytes(16)]) is None
    assert [found(store, [bytes([i]) * 16]) is not None for i, store in enumerate(stores * 2)][1:] == [True] * 3
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 35_000


def test_use_counts_on_disk_too(tmp_path: Path) -> None:
    store = PrefixStore(KEY, folder=tmp_path, disk_bytes=25_000)
    for i in range(2):
        keep(store, [bytes([i]) * 16], bytes(10_000))
        for path in tmp_path.glob("*.kept"):
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
    assert found(store, [bytes(16)])
    keep(store, [b"x" * 16], bytes(10_000))
    assert found(store, [bytes(16)])
    assert found(store, [b"\1" * 16]) is None


def test_what_is_larger_than_the_cap_is_not_written(tmp_path: Path) -> None:
    store = PrefixStore(KEY, folder=tmp_path / "prefix", disk_bytes=999)
    keep(store, CUTS[:1], bytes(1000))
    assert found(store, CUTS) == (1, 100, bytes(1000))  # in memory
    assert store.files
    assert "too little room" in store.files.problem
    assert not list(tmp_path.rglob("*.kept"))


def test_a_full_disk_is_a_note_and_no_error(tmp_path: Path) -> None:
    store, state = PrefixStore(KEY, folder=tmp_path), bytes(10_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        store.keep(CUTS[:3], [10, 20, 30], state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.files
    assert "could not be kept" in store.files.problem
    assert list(tmp_path.iterdir()) == []
    assert store.has(CUTS[:3])  # in memory: not tried again and again
    assert found(store, CUTS) == (3, 30, state)
    store.keep(CUTS[:3], [10, 20, 30], state)
    assert store.files.problem == ""
    assert found(PrefixStore(KEY, folder=tmp_path), CUTS) == (3, 30, state)


def test_a_lowered_cap_counts_even_where_nothing_can_be_written(tmp_path: Path) -> None:
    keep(PrefixStore(KEY, folder=tmp_path), CUTS, bytes(10_000))
    store = PrefixStore(KEY, folder=tmp_path, disk_bytes=5_000)
    keep(store, [b"x" * 16], bytes(10_000))
    assert store.files
    assert "too little room" in store.files.problem
    assert list(tmp_path.iterdir()) == []


def test_another_process_finds_it_and_another_model_does_not(tmp_path: Path) -> None:
    keep(PrefixStore(KEY, folder=tmp_path), CUTS[:4], b"state")
    assert found(PrefixStore(KEY, folder=tmp_path), CUTS) == (4, 400, b"state")
    assert found(PrefixStore("cd" * 16, folder=tmp_path), CUTS) is None
    assert found(PrefixStore(KEY, folder=tmp_path), CUTS) == (4, 400, b"state")  # the other did not delete it
