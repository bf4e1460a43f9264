"""Stages are done once, again when anything about them changed, and published whole."""

import json

import pytest

from prlm_edge.errors import UsageError
from prlm_edge.export.folder.staging import STAGES, Staging


def write(staging, name, text, calls, **figures):
    def make():
        calls.append(name)
        (staging.folder / name).write_text(text)
        return figures

    return make


def run(target, calls, text="a", **inputs):
    staging = Staging(target)
    staging.step("one", {"n": 1, **inputs}, write(staging, "one.txt", text, calls), ("one.txt",))
    noted = staging.step("two", {"n": 2}, write(staging, "two.txt", text, calls, figure=0.5), ("two.txt",))
    assert noted == {"figure": 0.5}
    return staging


def test_a_stage_is_done_once_and_again_when_its_inputs_change(tmp_path):
    calls = []
    run(tmp_path / "out", calls)
    run(tmp_path / "out", calls)
    assert calls == ["one.txt", "two.txt"]
    run(tmp_path / "out", calls, text="b", more=True)
    assert calls == ["one.txt", "two.txt"] * 2  # the second builds on the first


def test_a_torn_file_is_made_again(tmp_path):
    calls = []
    staging = run(tmp_path / "out", calls)
    (staging.folder / "one.txt").write_text("x")  # same size, other bytes
    run(tmp_path / "out", calls)
    assert calls == ["one.txt", "two.txt"] * 2


def test_a_kill_inside_a_stage_leaves_it_undone(tmp_path):
    staging = Staging(tmp_path / "out")

    def killed():
        (staging.folder / "one.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        staging.step("one", {}, killed, ("one.txt",))
    assert json.loads((staging.folder / STAGES).read_text()) == {}
    calls = []
    staging.step("one", {}, write(staging, "one.txt", "whole", calls), ("one.txt",))
    assert calls == ["one.txt"]


def test_published_in_one_move_without_what_was_in_between(tmp_path):
    (tmp_path / "out").mkdir()
    staging = run(tmp_path / "out", [])
    assert staging.publish(leave_out=("one.txt",)) == tmp_path / "out"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two.txt"]
    assert not staging.folder.exists()
    with pytest.raises(UsageError, match="there already"):
        Staging(tmp_path / "out")


def test_what_failed_is_kept_aside_and_gives_way_to_the_next_failure(tmp_path):
    for text in "ab":
        failed = run(tmp_path / "out", [], text=text).set_aside()
        assert failed.name == "out.failed" and (failed / "two.txt").read_text() == text
    assert not (tmp_path / "out").exists()
