"""Several processes at one profile: concurrent appends, and kill -9 at any moment."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kept_users import lines, prepare, style

from prlm_edge import feedback
from prlm_edge.profile import Profile
from prlm_edge.types import Item

APPENDER = """
import sys
from prlm_edge.profile.store import Profile
from prlm_edge.types import Item
path, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
profile = Profile.open(path, create=True)
added = 0
for i in range(rounds):
    own = [Item(f"{name}.{i}.{k}", f"{name} wrote {i}.{k} " + "x" * 300) for k in range(3)]
    added += profile.append([*own, Item(f"{name}.shared.{i}", f"everybody writes {i}")]).added
print(added)
"""

KILLED = """
import itertools, sys
from prlm_edge.profile.store import Profile
from prlm_edge.types import Item
path, run, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
profile = Profile.open(path, create=True)
for i in itertools.count():
    done = profile.append([Item(f"{run}.{i}.{k}", f"{run} {i} {k} " + "x" * size) for k in range(4)])
    assert done.added == 4
    print(i, flush=True)
    if i % 3 == 2:
        assert profile.remove([f"{run}.{i}.3"]) == 1
"""


ACCEPTED = """
import itertools, sys
from dataclasses import replace
from pathlib import Path
from prlm_edge import Profile, feedback
from prlm_edge.types import Draft
path, run = Path(sys.argv[1]), sys.argv[2]
profile = Profile.open(path, create=True)
for i in itertools.count():
    draft = Draft(f"{run}.{i}", "title", f"{run} {i}", "topic", "title", False, ("first", "second " * 9000))
    feedback.keep(draft, path, 3)
    feedback.accept(profile, draft, f"{run} wrote {i}")
    feedback.accept(profile, draft, f"{run} wrote {i} again")
    print(i, flush=True)
"""


def start(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_four_processes_append_at_once(tmp_path: Path) -> None:
    path, rounds = tmp_path / "me.jsonl", 25
    workers = [start(APPENDER, path, f"w{n}", rounds) for n in range(4)]
    added = 0
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
        added += int(out)
    profile = Profile.open(path)
    assert profile.bad == []
    assert len(profile) == added == 4 * rounds * 3 + rounds  # what all of them wrote is there once
    assert {item.id for item in profile} >= {f"w{n}.{i}.{k}" for n in range(4) for i in range(rounds) for k in range(3)}
    assert len({item.content_hash for item in profile}) == len(profile)
    for n in range(4):
        own = [item.id for item in profile if item.id.startswith(f"w{n}.") and "shared" not in item.id]
        assert own == [f"w{n}.{i}.{k}" for i in range(rounds) for k in range(3)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("size", [100, 150_000])
def test_kill_9_at_random_times_loses_no_acknowledged_record(tmp_path: Path, size: int) -> None:
    path, seed = tmp_path / "me.jsonl", random.randrange(1 << 30)
    dice = random.Random(seed)
    acknowledged: set[str] = set()
    for run in range(4):
        worker = start(KILLED, path, f"r{run}", size)
        assert worker.stdout is not None
        first = worker.stdout.readline()
        assert first == "0\n", worker.stderr.read() if worker.stderr else ""
        time.sleep(dice.random() * 0.15)
        worker.kill()
        out, _ = worker.communicate(timeout=60)
        whole = out if out.endswith("\n") or not out else out[: out.rfind("\n") + 1]
        last = max([0, *(int(line) for line in whole.split())])
        acknowledged |= {f"r{run}.{i}.{k}" for i in range(last + 1) for k in range(3)}  # the fourth may be removed

        profile = Profile.open(path)
        missing = acknowledged - {item.id for item in profile}
        assert not missing, f"lost {missing} (seed {seed}, run {run})"
        assert len(profile.bad) <= run + 1
        assert not profile.bad or profile.bad[-1].reason
        torn = [line for line in profile.bad if line.reason.endswith("(the line is cut off)")]
        assert all(line.start + line.size == path.stat().st_size for line in torn)
        assert Profile.open(path).append([Item(f"after{run}", f"written after kill {run}")]).added == 1
        acknowledged.add(f"after{run}")
    done = Profile.open(path).repair()
    profile = Profile.open(path)
    assert profile.bad == []
    assert acknowledged <= {item.id for item in profile}
    assert (done.side_file is not None) == (done.moved > 0)


def test_a_reader_beside_a_writer_never_sees_half_a_record(tmp_path: Path) -> None:
    path = tmp_path / "me.jsonl"
    Profile.open(path, create=True).append([Item("first", "t")])
    worker = start(KILLED, path, "w", 200_000)
    try:
        assert worker.stdout is not None
        worker.stdout.readline()
        profile = Profile.open(path)
        n_looks, seen = 0, 0
        while (seen < 6 or n_looks < 10) and worker.poll() is None:
            profile.refresh()
            assert profile.bad == []
            n_looks, seen = n_looks + 1, max(seen, len(profile))
            assert Profile.open(path).bad == []
    finally:
        worker.kill()
        worker.communicate(timeout=60)
    assert seen >= 6


WRITER = """
import sys
from prlm_edge import tasks
from prlm_edge.profile import Profile, cache, learn
from prlm_edge.types import Item
cache.KEEP_FROM, cache._SAVE_TAIL = 1, 0
path, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(rounds):
    profile = Profile.open(path)
    learn(profile, tasks.get_task("title", None))
    profile.append([Item(f"{name}.{number}", f"text of {name} {number}", f"Title {name} {number}")])
    if number % 5 == 4:
        profile.remove([f"{name}.{number - 1}"])
    print(number, flush=True)
"""


def test_processes_that_write_and_keep_at_once_and_are_killed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, monkeypatch)
    path, dice = tmp_path / "me.jsonl", random.Random()
    for turn in range(3):
        workers = [start(WRITER, path, f"t{turn}w{n}", 10_000) for n in range(2)]
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
        found = lines(tmp_path), style(tmp_path)
        shutil.rmtree(home / "cache")
        assert found == (lines(tmp_path), style(tmp_path))
        assert any(item.id == f"t{turn}w0.0" for item in found[0][0])


def test_accepting_that_is_killed_at_any_moment(tmp_path: Path, home: Path) -> None:
    """What was accepted is there, with its pairs; what was kept for it can be read."""
    path = tmp_path / "me.jsonl"
    draw = random.Random(7)
    for run in range(6):
        with start(ACCEPTED, path, run) as worker:
            assert worker.stdout is not None
            done = [int(worker.stdout.readline()) for _ in range(draw.randint(1, 4))][-1]
            time.sleep(draw.random() / 20)
            worker.send_signal(signal.SIGKILL)
            done = max([done, *map(int, worker.stdout.read().split())])
        profile = Profile.open(path)
        profile.repair()
        for i in range(done + 1):
            item = profile.get(f"a{run}.{i}")
            assert item is not None and item.title == f"{run} wrote {i} again"
        pairs = [one for one in feedback.read_pairs(path) if one.draft.startswith(f"{run}.")]
        assert len([one for one in pairs if int(one.draft.partition(".")[2]) <= done]) == 2 * (done + 1)
        last = feedback.find(path).draft
        assert last.id in (f"{run}.{done}", f"{run}.{done + 1}")
        assert feedback.accept(profile, last, "mine").pairs == 2
