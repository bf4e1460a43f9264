"""What is kept can hold the user's text: it is the owner's alone from the first byte, and it goes when asked for.

Files that are not ours: `tests/fault/test_any_damage.py`.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kept_users import CUTS, KEY, STATE, USERS, lines, prepare, style

from prlm_edge.backends.engine.prefix_store import PrefixStore
from prlm_edge.errors import PrlmError
from prlm_edge.profile import Profile
from prlm_edge.storage import cache_dir, own_dir

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
SECRET = "swordfish"


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("_open_umask", "home")
@pytest.mark.parametrize("user", USERS)
def test_files_are_0600_in_folders_that_are_0700_from_the_first_byte_even_with_umask_0(
    user: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, monkeypatch)
    seen, replace = [], Path.replace

    def looked_at(self: Path, target: Path) -> Path:
        """In the moment before the file gets its name."""
        seen.append((self.stat().st_size > 0, mode(self)))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", looked_at)
    user(tmp_path)
    assert set(seen) == {(True, 0o600)}
    for path in (cache_dir(), *cache_dir().rglob("*")):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_in_memory_nothing_touches_the_disk(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = PrefixStore(KEY)
    store.keep(CUTS, [10, 20, 30], STATE)
    assert store.find(CUTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("home")
def test_what_is_kept_of_a_profile_holds_no_text_and_not_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, monkeypatch)
    profile = tmp_path / "me.jsonl"
    profile.write_text("".join(json.dumps({"id": str(i), "text": f"{SECRET} {i}"}) + "\n" for i in range(50)))
    lines(tmp_path)
    style(tmp_path)
    files = list((cache_dir() / "profiles").iterdir())
    assert len(files) == 2
    for file in files:
        assert SECRET.encode() not in file.read_bytes()
        assert profile.name not in file.name


@pytest.mark.usefixtures("home")
def test_the_cache_command_shows_and_deletes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: str) -> dict[str, int]:
        command = [sys.executable, "-m", "prlm_edge", "cache", *args, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return {one["kind"]: one.get("bytes", one.get("freed")) for one in json.loads(done.stdout)}

    prepare(tmp_path, monkeypatch)
    for user in USERS:
        user(tmp_path)
    shown = run("show")
    assert sum(shown.values()) == sum(path.stat().st_size for path in cache_dir().rglob("*") if path.is_file())
    assert {kind for kind, size in shown.items() if size} == {*shown} - {"words"}
    assert run("clear", "all", "--yes") == shown
    assert not list(cache_dir().iterdir())
    assert len(Profile.open(tmp_path / "me.jsonl")) == 51


@pytest.mark.parametrize("planted", ["link", "file", "writable by all", "another user's"])
def test_folders_whose_files_are_run_are_ours_alone(tmp_path: Path, planted: str) -> None:
    folder = tmp_path / "cache" / "optimum"
    assert mode(own_dir(folder)) == 0o700
    if planted in ("link", "file"):
        folder.rmdir()
        folder.symlink_to(tmp_path) if planted == "link" else folder.write_text("")
    elif planted == "writable by all":
        folder.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:
        pytest.skip("only root can give a folder away")
    with pytest.raises(PrlmError, match=r"not this user's alone|exists"):
        own_dir(folder)
