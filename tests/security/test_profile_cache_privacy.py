"""What is kept of a profile is its owner's alone, small, and deleted when asked for."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from prlm_edge import tasks
from prlm_edge.profile import Profile, learn
from prlm_edge.profile import kept as profile_keep
from prlm_edge.profile import lazy_items as profile_stored

pytestmark = pytest.mark.skipif(not profile_stored.CAN_STORE, reason="nothing is kept on this system")
SECRET = "swordfish"


@pytest.fixture
def path(home: Path, tmp_path: Path) -> Path:
    """A profile that is large enough to be kept; made with umask 0."""
    path = tmp_path / "me.jsonl"
    n = profile_keep.KEEP_FROM
    lines = [json.dumps({"id": str(i), "title": f"Loaf {i}", "text": f"{SECRET} {i}"}) + "\n" for i in range(n)]
    path.write_text("".join(lines))
    before = os.umask(0)
    try:
        learn(Profile.open(path), tasks.get_task("title", None))
    finally:
        os.umask(before)
    return path


def test_files_are_0600_in_a_folder_that_is_0700_and_hold_no_text(path: Path, home: Path) -> None:
    folder = home / "cache" / "profiles"
    files = list(folder.iterdir())
    assert sorted(file.suffix for file in files) == [".lines", ".style"]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert SECRET.encode() not in file.read_bytes()
        assert path.name not in file.name
    for made in (folder, home / "cache"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_the_cache_command_shows_and_deletes_them(path: Path, home: Path) -> None:
    def run(*args: str) -> dict[str, int]:
        command = [sys.executable, "-m", "prlm_edge", "cache", *args, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return {one["kind"]: one.get("bytes", one.get("freed")) for one in json.loads(done.stdout)}

    folder = home / "cache" / "profiles"
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert run("show")["profiles"] == size > 0
    assert run("clear", "profiles", "--yes") == {"profiles": size}
    assert not folder.exists()
    assert len(Profile.open(path)) == profile_keep.KEEP_FROM
