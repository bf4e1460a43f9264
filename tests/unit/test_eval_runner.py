"""Running an evaluation with a scripted model: every row asked once, nothing lost, nothing done twice, draws shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation import asked, row, write_rows

from prlm_edge.backends.scripted import Scripted
from prlm_edge.errors import DataError, UsageError
from prlm_edge.evaluate import runner
from prlm_edge.evaluate.conditions import make
from prlm_edge.evaluate.data import Dataset, load
from prlm_edge.evaluate.records import Condition
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.scoring import score_run
from prlm_edge.types import Cancel

REPLY = "<think>6 words.</think><answer>notes on sourdough, part 7</answer>"
Run = Callable[..., Scripted]


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return load(write_rows(tmp_path / "dev.jsonl", [row(u) for u in range(4)]))


def folder(path: Path, conditions: list[Condition]) -> RunFolder:
    return RunFolder.create(path, {"asked": asked(conditions), "seed": 0, "command": "prlm-edge eval run"})


@pytest.fixture
def run(tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Answers `conditions` in tmp_path/run with a scripted model, which is returned."""

    def go(conditions: list[Condition], replies: list[str] | None = None, **options: object) -> Scripted:
        backend = Scripted(replies or [REPLY], logprobs=options.pop("logprobs", None))  # type: ignore[arg-type]
        monkeypatch.setattr(runner, "open_backend", lambda settings: backend)
        runner.answer_all(folder(tmp_path / "run", conditions), data, conditions, **options)  # type: ignore[arg-type]
        return backend

    return go


def lines(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]


def test_every_row_is_asked_once_with_the_profile_of_its_condition(tmp_path: Path, run: Run, data: Dataset) -> None:
    backend = run(
        [make("own", {"k": 2}), make("swapped", {"k": 2, "profile": "other"}), make("zero", {"profile": "none"})]
    )
    assert len(backend.requests) == 12
    texts = ["\n".join(turn.text for turn in request.turns) for request in backend.requests]
    topics = [r.profile[0].title.split(",")[0] for r in data.rows]
    assert all(topic in text for topic, text in zip(topics, texts[:4], strict=True))
    assert all(f"{topic}, part" not in text for topic, text in zip(topics, texts[4:8], strict=True))
    assert all("notes on" not in text for text in texts[8:])
    first = lines(tmp_path)[0]
    assert first["answer"] == "notes on sourdough, part 7"
    assert len(first["used"]) == 2  # type: ignore[arg-type]
    assert first["prompt_tokens"] == backend.count_turns(backend.requests[0].turns)


def test_a_second_run_does_nothing_and_a_new_row_only_itself(tmp_path: Path, run: Run) -> None:
    conditions = [make("own", {})]
    assert len(run(conditions).requests) == 4
    assert len(run(conditions).requests) == 0
    path = tmp_path / "run" / "answers.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])  # killed while writing the last line
    assert len(run(conditions).requests) == 1
    assert path.read_bytes() == whole


def test_a_run_takes_more_conditions_but_no_fewer(tmp_path: Path, run: Run) -> None:
    one, two = make("own", {}), make("zero", {"profile": "none"})
    assert len(run([one]).requests) == 4
    assert len(run([two, one]).requests) == 4
    assert [c["name"] for c in RunFolder(tmp_path / "run").header["asked"]["conditions"]] == ["zero", "own"]
    assert len(run([two, one]).requests) == 0
    with pytest.raises(UsageError, match=r"holds another run \(conditions differs\)"):
        run([one])


def test_cancelled_it_keeps_what_is_finished(tmp_path: Path, run: Run) -> None:
    cancel = Cancel()

    def stop_after_two(done: int, total: int) -> None:
        if done == 2:
            cancel.cancel()

    conditions = [make("own", {})]
    run(conditions, cancel=cancel, progress=stop_after_two)
    assert len(lines(tmp_path)) == 2
    assert len(run(conditions).requests) == 2
    assert len({line["row"] for line in lines(tmp_path)}) == 4


def test_conditions_that_only_choose_otherwise_share_their_draws(tmp_path: Path, run: Run) -> None:
    replies = [f"<answer>{text}</answer>" for text in ("Title Case Here", "notes on it", "notes on it, part 9")] * 4
    conditions = [
        make("one", {}),
        make("style", {"best_of": 3, "select": "style"}),
        make("logprob", {"best_of": 3, "select": "logprob"}),
        make("two", {"best_of": 2, "select": "style"}),
    ]
    backend = run(conditions, replies, logprobs=[-1.0, -2.0, -3.0] * 4)
    assert len(backend.requests) == 12
    found = {(line["condition"], line["row"]): line["answer"] for line in lines(tmp_path)}
    assert len(found) == 16
    assert {answer for (condition, _), answer in found.items() if condition in ("one", "logprob")} == {
        "Title Case Here"
    }
    assert {answer for (condition, _), answer in found.items() if condition == "style"} == {"notes on it, part 9"}
    assert {answer for (condition, _), answer in found.items() if condition == "two"} == {"notes on it"}


def test_rows_without_enough_answers_get_spares_last(tmp_path: Path, run: Run) -> None:
    replies = [f"<answer>{text}</answer>" for text in ("notes on it", "notes on it", "the kettle", "a lid")]
    later = [f"<answer>{text}</answer>" for text in ("notes on it", "the spout", "a handle", "it", "it")]
    conditions = [make("three", {"n": 3}), make("two", {"n": 2}), make("one", {})]
    backend = run(conditions, [*replies[:3], *(replies[:1] + replies[2:]) * 3, *later])
    assert len(backend.requests) == 4 * 3 + 5  # the first row's draws are alike
    found = {(line["condition"], line["row"]): line for line in lines(tmp_path)}
    assert len(found) == 12
    last = lines(tmp_path)[-1]["row"]
    assert {line["row"] for line in lines(tmp_path)[-3:]} == {last}
    n_shown = {name: len(found[name, last]["candidates"]) for name in ("three", "two", "one")}  # type: ignore[arg-type]
    assert n_shown == {"three": 3, "two": 2, "one": 0}


def test_baselines_need_no_model(tmp_path: Path, run: Run) -> None:
    assert len(run([make("b", {"baseline": "nearest_own"})]).requests) == 0
    assert len(lines(tmp_path)) == 4


def test_another_run_does_not_get_into_the_folder(tmp_path: Path, run: Run) -> None:
    run([make("own", {})])
    with pytest.raises(UsageError, match=r"holds another run \(conditions differs\)"):
        folder(tmp_path / "run", [make("own", {"k": 1})])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match="other files"):
        folder(tmp_path / "other", [])


def test_a_run_is_private_and_scored_whole_or_not(home: Path, tmp_path: Path, run: Run, data: Dataset) -> None:
    run([make("own", {}), make("copy", {"baseline": "copy"})])
    summary = score_run(RunFolder(tmp_path / "run"), data)
    assert summary["conditions"]["own"]["rouge1"]["n_users"] == 4
    assert summary["conditions"]["own"]["rouge1"]["mean"] > summary["conditions"]["copy"]["rouge1"]["mean"]
    assert "similarity" not in summary["conditions"]["own"]  # no embedder in this home
    assert summary["users_per_minute"].keys() == {"own"}
    assert {one["name"] for one in summary["signatures"] if one["condition"] == "own"} >= {"generic reasoning"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "run").iterdir())
    assert score_run(RunFolder(tmp_path / "run"), data) == summary


@pytest.mark.parametrize("line", [b"{", b"[1]", b"{}", b"5", b"\xff", b"[" * 10_000, b'"own"'])
@pytest.mark.parametrize(("name", "read"), [("answers", "answers"), ("timings", "timings"), ("scores", "scores")])
def test_a_damaged_line_is_named(tmp_path: Path, run: Run, data: Dataset, name: str, read: str, line: bytes) -> None:
    run([make("own", {})])
    score_run(RunFolder(tmp_path / "run"), data)
    path = tmp_path / "run" / f"{name}.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(DataError, match=rf"{name}\.jsonl:1: damaged"):
        getattr(RunFolder(tmp_path / "run"), read)()


@pytest.mark.parametrize("key", ["answer", "seconds", "used", "candidates", "retrieved", "reasoning_truncated"])
def test_a_value_of_another_type_is_damage_too(tmp_path: Path, run: Run, key: str) -> None:
    run([make("own", {})])
    path = tmp_path / "run" / "answers.jsonl"
    path.write_text(json.dumps({**lines(tmp_path)[0], key: {"x": [None]}}) + "\n")
    with pytest.raises(DataError, match=r"answers\.jsonl:1: damaged"):
        RunFolder(tmp_path / "run").answers()
