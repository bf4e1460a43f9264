"""Prompt prefixes that the disk can't take are a note and kept in memory. Damage: test_any_damage.py."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from kept_users import CUTS, KEY, STATE

from prlm_edge.backends.engine.prefix_store import PrefixStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    PrefixStore(KEY, folder=tmp_path).keep(CUTS, [10, 20, 30], STATE)
    (path,) = tmp_path.iterdir()
    return path


def found(folder: Path) -> bytes | None:
    prefix = PrefixStore(KEY, folder=folder).find(CUTS)
    return None if prefix is None else bytes(prefix.state)


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


def test_leftovers_go_and_a_lowered_cap_counts_even_where_nothing_can_be_written(path: Path) -> None:
    stale, fresh = path.parent / ".a.kept.stale123.tmp", path.parent / ".a.kept.fresh123.tmp"
    for leftover in (stale, fresh):
        leftover.write_bytes(STATE)
    os.utime(stale, (0, 0))
    store = PrefixStore(KEY, folder=path.parent, disk_bytes=len(STATE) // 2)
    store.keep([b"x" * 16], [10], STATE)
    assert store.files
    assert "too little room" in store.files.problem
    assert list(path.parent.iterdir()) == [fresh]  # perhaps being written
