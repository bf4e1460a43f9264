"""A run on disk: run.json says what was asked, answers.jsonl grows line by line, the rest is computed from the two.

    RUN/run.json       command, data and model with hashes, conditions, seed, versions, machine
    RUN/answers.jsonl  one `Answer` a line, appended as it comes: a killed run goes on where it was
    RUN/timings.jsonl  rows answered and seconds, a line for each uninterrupted stretch of a draw
    RUN/scores.jsonl   one line an answer: its metrics by name, null where one does not apply
    RUN/summary.json   each condition's mean of each metric, with a confidence interval

Answers hold what users wrote, so only the owner may read the files (0600).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import NoneType
from typing import Any

from prlm_edge.errors import BAD_DATA, DataError, UsageError
from prlm_edge.evaluate.records import Answer
from prlm_edge.storage import NUMBER, append_json, atomic_write, fits, json_lines, private_dir, write_json

FORMAT = 1
_CONDITION = {"name": str, "settings": {str: object}, "profile": str, "baseline": str}
_HEADER = {
    "format": int,
    "seed": int,
    "asked": {
        "data": {"name": str, "sha256": str, "task": str, "n_rows": int, "n_users": int},
        "models": {str: {"file": str, "sha256": str}},
        "conditions": [_CONDITION],
    },
}
_ESTIMATE = {"mean": NUMBER, "low": NUMBER, "high": NUMBER, "n_users": int, "n_rows": int}
_SIGNATURE = {"condition": str, "name": str, "share": NUMBER, "n": int, "advice": str, "examples": [str]}
_SUMMARY = {
    "conditions": {str: {str: _ESTIMATE}},
    "users_per_minute": {str: NUMBER},
    "signatures": [_SIGNATURE],
}
_AGAIN = "evaluate again into a new folder"
_FILLS_IN = "delete that line; `prlm-edge eval run` then fills it in"


class RunFolder:
    """The run in `path`.

    Raises:
        UsageError: There is none, or it is of another version of prlm-edge.
        DataError: run.json is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Mapping[str, Any] = _load(path / "run.json")

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> RunFolder:
        """Begin a run, or go on with the one in `path` if it was asked the same, or the same of fewer conditions.

        Args:
            path: The folder.
            header: What run.json is to hold; what "asked" holds must be equal for a run to go on, but it may have more
                "conditions" and "models".

        Raises:
            UsageError: The folder holds a run that was asked something else, or other files.
        """
        if (path / "run.json").exists():
            run = cls(path)
            asked = json.loads(json.dumps(header["asked"]))
            if differs := _difference(run.header["asked"], asked):
                raise UsageError(f"{path}: holds another run ({differs} differs)", "choose a new folder with --out")
            if run.header["asked"] != asked:
                write_json(path / "run.json", {**run.header, "command": header["command"], "asked": asked})
                run = cls(path)
            return run
        if path.exists() and any(path.iterdir()):
            raise UsageError(f"{path}: holds other files", "choose a new or empty folder with --out")
        private_dir(path)
        write_json(path / "run.json", {"format": FORMAT, **header})
        return cls(path)

    @property
    def source(self) -> Mapping[str, Any]:
        """Where the data were: "path", and what was taken of them: "limit", "per_user", "task", "ask" (None: all).

        Raises:
            DataError: run.json does not say.
        """
        found: Mapping[str, Any] = {"ask": None, **self.header.get("source", {})}
        number, name = (int, NoneType), (str, NoneType)
        if not fits(found, {"path": str, "limit": number, "per_user": number, "task": name, "ask": name}):
            raise DataError(f"{self.path / 'run.json'}: damaged: it does not say which data were read", _AGAIN)
        return found

    def append(self, answer: Answer) -> None:
        """Add an answer; it is on disk when this returns."""
        append_json(self.path / "answers.jsonl", asdict(answer))

    def answers(self) -> list[Answer]:
        """All answers, one for each condition and row: of several the last.

        Raises:
            DataError: A line is damaged.
        """
        lines = json_lines(self.path / "answers.jsonl", Answer.of, _FILLS_IN)
        return list({(answer.condition, answer.row): answer for answer in lines}.values())

    def append_timing(self, conditions: Iterable[str], rows: int, seconds: float) -> None:
        """Note that `rows` rows were answered under each of `conditions` together in `seconds`."""
        record = {"conditions": list(conditions), "rows": rows, "seconds": round(seconds, 3)}
        append_json(self.path / "timings.jsonl", record)

    def timings(self) -> list[tuple[list[str], int, float]]:
        """What `append_timing` noted: (conditions, rows, seconds).

        Raises:
            DataError: A line is damaged.
        """
        return list(json_lines(self.path / "timings.jsonl", _timing, "delete that line"))

    def write_scores(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace scores.jsonl."""
        with atomic_write(self.path / "scores.jsonl") as stream:
            stream.writelines(json.dumps(record).encode() + b"\n" for record in records)

    def scores(self) -> list[Mapping[str, Any]]:
        """The lines of scores.jsonl; [] before the run is scored.

        Raises:
            DataError: A line is damaged.
        """
        hint = f"`prlm-edge eval score {self.path}` writes it again"
        return list(json_lines(self.path / "scores.jsonl", _score, hint))

    def summary(self) -> Mapping[str, Any]:
        """What summary.json holds.

        Raises:
            UsageError: The run isn't scored yet.
            DataError: The file is damaged.
        """
        return _load(self.path / "summary.json")


def _load(path: Path) -> Mapping[str, Any]:
    run, score = path.name == "run.json", f"`prlm-edge eval score {path.parent}` makes it"
    try:
        value = json.loads(path.read_bytes())
        if run and value["format"] != FORMAT:
            raise UsageError(f"{path.parent}: a run of another version of prlm-edge", _AGAIN)
        if not fits(value, _HEADER if run else _SUMMARY):
            raise TypeError
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: no such file", "`prlm-edge eval run` makes one" if run else score) from None
    except BAD_DATA:
        raise DataError(f"{path}: damaged", _AGAIN if run else score) from None
    return dict(value)


def _timing(record: dict[str, Any]) -> tuple[list[str], int, float]:
    if not fits(record, {"conditions": [str], "rows": int, "seconds": NUMBER}):
        raise TypeError
    return [str(name) for name in record["conditions"]], int(record["rows"]), float(record["seconds"])


def _score(record: dict[str, Any]) -> Mapping[str, Any]:
    record = {"domain": "", **record}
    if not fits(record, {"condition": str, "row": str, "user": str, "domain": str, str: (int, float, NoneType)}):
        raise TypeError
    return record


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What keeps a run that was asked `ours` from going on to `theirs`."""
    return ", ".join(key for key in {**ours, **theirs} if not _covers(theirs.get(key), ours.get(key), key))


def _covers(theirs: Any, ours: Any, key: str) -> bool:
    if key == "conditions":
        return all(condition in theirs for condition in ours)
    if key == "models":
        return bool(ours.items() <= theirs.items())
    if key == "defaults":  # another version may know more settings, or fewer
        return all(theirs[name] == ours[name] for name in ours.keys() & theirs.keys())
    return bool(theirs == ours)
