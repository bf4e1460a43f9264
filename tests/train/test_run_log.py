"""The run's log on disk: what it holds, that a kill costs nothing, and what it forgets when a run goes on."""

import json
import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prlm_edge.errors import PrlmError
from prlm_edge.train.run.log import RunLog, read_records, read_samples
from prlm_edge.train.run.stopping import Verdict


def step(at, **figures):
    return {"kind": "step", "step": at, "loss": at / 7, **figures}


def test_it_appends_and_reads_back(tmp_path):
    log = RunLog(tmp_path / "run")
    log.add(step(1, terms={"accuracy": 1.25}))
    log.dev(1, {"rouge1": np.float32(0.5)})
    log.stop(2, Verdict(True, "why", "what", "hacking"))
    log.samples(1, [{"answer": "ünïcode\n\ud800", "terms": {"accuracy": math.nan}}])
    again = RunLog(tmp_path / "run")
    assert again.records == log.records == list(read_records(again.path))
    assert again.records[1] == {"kind": "dev", "step": 1, "figures": {"rouge1": 0.5}}
    assert again.records[2]["advice"] == "what"
    assert read_samples(again.samples_path) == [{"step": 1, "answer": "ünïcode\n?", "terms": {"accuracy": "nan"}}]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.jsonl", "samples.jsonl"}
    for path in (again.path, again.samples_path):
        assert path.stat().st_mode & 0o077 == 0


def test_every_line_is_json_also_where_a_figure_is_none(tmp_path):
    log = RunLog(tmp_path)
    log.add(step(1, reward=math.nan, terms={"a": math.inf, "b": -math.inf}))

    def refuse(word):
        raise AssertionError(word)

    (line,) = log.path.read_text().splitlines()
    json.loads(line, parse_constant=refuse)
    (record,) = read_records(log.path)
    assert math.isnan(record["reward"])
    assert record["terms"] == {"a": math.inf, "b": -math.inf}


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_kill_at_any_byte_costs_the_torn_line_alone(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    log = RunLog(folder)
    for at in range(1, 5):
        log.add(step(at))
        log.samples(at, [{"answer": f"a{at}"}])
    whole = log.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    log.path.write_bytes(whole[:cut])
    again = RunLog(folder)
    kept = whole[:cut].count(b"\n")
    assert [one["step"] for one in again.records] == list(range(1, kept + 1))
    again.add(step(9))
    assert [one["step"] for one in RunLog(folder).records] == [*range(1, kept + 1), 9]


def test_reading_leaves_a_line_that_is_being_written(tmp_path):
    RunLog(tmp_path).add(step(1))
    with (tmp_path / "run.jsonl").open("a") as stream:
        stream.write('{"kind": "st')
    assert len(list(read_records(tmp_path / "run.jsonl"))) == 1
    assert (tmp_path / "run.jsonl").read_text().endswith('"st')


@pytest.mark.parametrize(
    "line",
    [
        "\0\0\0\n",
        "[1]\n",
        "{}\n",
        '{"step": "1"}\n',
        '{"step": 1, "terms": "x"}\n',
        '{"step": 1, "kind": "dev"}\n',
        '{"step": 2}\n',
    ],
)
def test_a_damaged_line_is_named(tmp_path, line):
    RunLog(tmp_path).add(step(1))
    with (tmp_path / "run.jsonl").open("a") as stream:
        stream.write(line)
    with pytest.raises(PrlmError, match=r"run\.jsonl:2: damaged"):
        RunLog(tmp_path)


def test_rewinding_forgets_what_came_later_and_the_stop(tmp_path):
    log = RunLog(tmp_path)
    for at in (1, 2, 3):
        log.add(step(at))
        log.dev(at, {"rouge1": at})
        log.samples(at, [{"answer": str(at)}])
    log.stop(2, Verdict(True, "w", "a", "truncated"))
    log.rewind(2)
    assert [(one["kind"], one["step"]) for one in log.records] == [("step", 1), ("dev", 1), ("step", 2), ("dev", 2)]
    assert RunLog(tmp_path).records == log.records
    assert [one["step"] for one in read_samples(log.samples_path)] == [1, 2]
    before = os.stat(log.path).st_mtime_ns, os.stat(log.path).st_ino
    log.rewind(2)  # nothing to forget: the file stays
    assert (os.stat(log.path).st_mtime_ns, os.stat(log.path).st_ino) == before
    log.rewind(0)
    assert RunLog(tmp_path).records == read_samples(log.samples_path) == []


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path):
    RunLog(tmp_path).add(step(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = RunLog(tmp_path, writes=False)
    other.add(step(2))
    other.samples(2, [{"answer": "a"}])
    other.rewind(1)
    assert len(other.records) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_is_said_and_leaves_the_log_whole(tmp_path, monkeypatch):
    log = RunLog(tmp_path)
    log.add(step(1))

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(PrlmError, match="No space left"):
            log.add(step(2))
    assert [one["step"] for one in RunLog(tmp_path).records] == [1]
