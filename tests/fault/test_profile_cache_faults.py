"""What is kept of a profile is damaged, unwritable, foreign, or its writer is killed: the profile reads as ever."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import mounted

from prlm_edge import tasks
from prlm_edge.profile import Profile, learn
from prlm_edge.profile import cache_file as profile_cache
from prlm_edge.profile import kept as profile_keep
from prlm_edge.profile import lazy_items as profile_stored
from prlm_edge.style import Style
from prlm_edge.types import Item

pytestmark = pytest.mark.skipif(not profile_stored.CAN_STORE, reason="nothing is kept on this system")
TASK = tasks.get_task("title", None)
N_ITEMS = 50


@pytest.fixture
def path(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile so old that its kept state is taken over after a look at its bytes alone, or less."""
    monkeypatch.setattr(profile_keep, "KEEP_FROM", 1)
    path = tmp_path / "me.jsonl"
    lines = [json.dumps({"id": str(i), "title": f"Loaf {i}", "date": f"{2000 + i}"}) for i in range(N_ITEMS - 1)]
    path.write_text("\n".join([*lines, "not json", '{"id": "last", "title": "Rye", "kind": "post"}']) + "\n")
    monkeypatch.setattr("prlm_edge.profile.refresh._SAVE_TAIL", 0)
    read(path)
    assert type(Profile.open(path).items[0]) is profile_stored.StoredItem
    return path


def read(path: Path) -> tuple[list[Item], int, list[Item], Style]:
    profile = Profile.open(path)
    examples, style = learn(profile, TASK)
    return list(profile.items), len(profile.bad), examples, style


def kept(home: Path) -> list[Path]:
    return sorted(path for path in (home / "cache" / "profiles").glob("*") if path.suffix in (".lines", ".style"))


def expected(path: Path, home: Path) -> tuple[list[Item], int, list[Item], Style]:
    shutil.rmtree(home / "cache")
    return read(path)


@pytest.mark.parametrize("kind", ["lines", "style"])
def test_any_damage_is_found_and_mended(path: Path, home: Path, kind: str) -> None:
    wanted = expected(path, home)
    file = next(file for file in kept(home) if file.suffix == f".{kind}")
    sound = file.read_bytes()
    dice = random.Random(kind)
    damages = [sound[:n] for n in (0, 7, 20, 100, len(sound) - 1)] + [sound + b"x", b"\0" * len(sound)]
    for _ in range(60):
        place, bit = dice.randrange(len(sound)), 1 << dice.randrange(8)
        damages.append(sound[:place] + bytes([sound[place] ^ bit]) + sound[place + 1 :])
    for damaged in damages:
        file.write_bytes(damaged)
        assert read(path) == wanted
        assert profile_cache.read(file) is not None  # made anew


@pytest.mark.parametrize("name", ["starts", "hashes", "header"])
def test_sound_files_that_make_no_sense_are_refused(path: Path, home: Path, name: str) -> None:
    """As a bug, or another version of ours, might write them."""
    wanted = expected(path, home)
    for file in kept(home):
        header, parts = profile_cache.read(file) or ({}, [])
        contents = [bytes(part) for part in parts]
        if name == "header":
            header = {**header, "segments": 5}
        else:
            place = 0 if name == "starts" else min(3, len(contents) - 1)
            contents[place] = contents[place][:-8]
        assert profile_cache.write(file, header, contents)
    assert read(path) == wanted


def test_what_is_kept_of_another_file_is_not_taken_for_this_ones(path: Path, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(path.read_bytes().replace(b"Loaf", b"Roll"))
    wanted = read(other)
    for kind in ("lines", *(file.name.partition(".")[2] for file in kept(home) if file.suffix == ".style")):
        shutil.copy(profile_cache.path_of(path, kind), profile_cache.path_of(other, kind))
    assert read(other) == wanted


@pytest.mark.parametrize("foreign", ["writable by all", "link", "folder", "pipe"])
def test_files_that_are_not_ours_are_left_alone(path: Path, home: Path, tmp_path: Path, foreign: str) -> None:
    wanted = expected(path, home)
    for file in kept(home):
        if foreign == "writable by all":
            file.chmod(0o666)
            continue
        file.rename(tmp_path / file.name)
        if foreign == "link":
            file.symlink_to(tmp_path / file.name)
        elif foreign == "folder":
            file.mkdir()
        else:
            os.mkfifo(file)
    for file in kept(home):
        assert profile_cache.read(file) is None
    assert read(path) == wanted
    assert len(kept(home)) == 2


@pytest.mark.parametrize("obstacle", ["a file in its place", "a read-only disk", "a full disk"])
def test_a_cache_that_cant_be_written_costs_nothing_but_time(path: Path, home: Path, obstacle: str) -> None:
    wanted = expected(path, home)
    shutil.rmtree(home / "cache")
    if obstacle == "a file in its place":
        (home / "cache").write_text("")
        assert read(path) == read(path) == wanted
        return
    with mounted(home / "cache", "size=16k,mode=700") as folder:
        if obstacle == "a full disk":
            with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert read(path) == read(path) == wanted
        assert kept(home) == []


def test_a_read_only_cache_is_still_a_cache(path: Path, home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "cache", tmp_path / "copy")
    with mounted(home / "cache", "size=1m,mode=700") as folder:
        shutil.copytree(tmp_path / "copy", folder, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert type(Profile.open(path).items[0]) is profile_stored.StoredItem


def test_few_files_are_kept_and_nothing_of_a_killed_process(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_cache, "KEEP", 3)
    old, young = (home / "cache" / "profiles" / f".x.lines.{age}.tmp" for age in ("old", "young"))
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    for number in range(4):
        other = path.with_name(f"{number}.jsonl")
        shutil.copy(path, other)
        Profile.open(other)
        time.sleep(0.01)
        Profile.open(path)  # used: it stays
        time.sleep(0.01)
    assert len(kept(home)) == 3
    assert profile_cache.path_of(path, "lines") in kept(home)
    assert profile_cache.path_of(path.with_name("3.jsonl"), "lines") in kept(home)
    assert young.exists()
    assert not old.exists()


WRITER = """
import sys
from prlm_edge import profile_keep, profile_read, tasks
from prlm_edge.profile.store import Profile
from prlm_edge.profile.learned_style import learn
from prlm_edge.types import Item
profile_keep.KEEP_FROM, profile_read._SAVE_TAIL = 1, 0
path, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(rounds):
    profile = Profile.open(path)
    learn(profile, tasks.get_task("title", None))
    profile.append([Item(f"{name}.{number}", f"text of {name} {number}", f"Title {name} {number}")])
    if number % 5 == 4:
        profile.remove([f"{name}.{number - 1}"])
    print(number, flush=True)
"""


def start(path: Path, name: str, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_write_and_keep_at_once_and_are_killed(path: Path, home: Path) -> None:
    dice = random.Random()
    for turn in range(3):
        workers = [start(path, f"t{turn}w{n}", 10_000) for n in range(2)]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "0\n"
            for _ in range(10):
                Profile.open(path)
                time.sleep(dice.random() * 0.02)
            assert [worker.poll() for worker in workers] == [None, None]
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate(timeout=60)
        found = read(path)
        assert found == expected(path, home)
        assert any(item.id == f"t{turn}w0.0" for item in found[0])
