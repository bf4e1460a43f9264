"""A run on disk: run.json says what was asked, answers.jsonl grows line by line, the rest is computed from the two.

    RUN/run.json       command, data and model with hashes, conditions, seed, versions, machine
    RUN/answers.jsonl  one `Answer` a line, appended as it comes: a killed run goes on where it was
    RUN/scores.jsonl   one line an answer: its metrics
    RUN/summary.json   each condition's mean of each metric, with a confidence interval

Answers hold what users wrote, so files are 0600. Not here: making answers (`runner.py`), scoring (`metrics/`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.records import Answer
from prlm_edge.storage import append_bytes, atomic_write, private_dir

FORMAT = 1


class RunFolder:
    """The run in `path`.

    Raises:
        UsageError: There is none, or it is of another version of prlm-edge.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Mapping[str, Any] = _load(path / "run.json")
        if self.header.get("format") != FORMAT:
            raise UsageError(f"{path}: a run of another version of prlm-edge", "evaluate again into a new folder")

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

    def append(self, answer: Answer) -> None:
        """Add an answer; it is on disk when this returns."""
        line = json.dumps(answer.record(), ensure_ascii=False) + "\n"
        append_bytes(self.path / "answers.jsonl", line.encode("utf-8", "replace"))

    def answers(self) -> list[Answer]:
        """All answers, one for each condition and row: of several the last. A torn last line doesn't count.

        Raises:
            UsageError: A line is damaged.
        """
        found: dict[tuple[str, str], Answer] = {}
        for record in _lines(self.path / "answers.jsonl"):
            answer = Answer.of(record)
            found[answer.condition, answer.row] = answer
        return list(found.values())

    def write_scores(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace scores.jsonl."""
        with atomic_write(self.path / "scores.jsonl") as stream:
            stream.writelines(json.dumps(record).encode() + b"\n" for record in records)

    def scores(self) -> list[Mapping[str, Any]]:
        """The lines of scores.jsonl; [] before the run is scored."""
        return list(_lines(self.path / "scores.jsonl"))

    def summary(self) -> Mapping[str, Any]:
        """What summary.json holds.

        Raises:
            UsageError: The run isn't scored yet.
        """
        return _load(self.path / "summary.json")


def cut_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process left half written."""
    if not path.exists():
        return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("rb+") as stream:
            stream.truncate(end)
            os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file, indented for people."""
    with atomic_write(path) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def _load(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = "`prlm-edge eval run` makes one" if path.name == "run.json" else "`prlm-edge eval score RUN` makes it"
        raise UsageError(f"{path}: no such file", hint) from None
    except ValueError:
        raise UsageError(f"{path}: damaged", "evaluate again into a new folder") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: damaged", "evaluate again into a new folder")
    return value


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                return  # being written, or torn by a kill: that answer is asked for again
            try:
                yield json.loads(line)
            except ValueError:
                raise UsageError(f"{path}:{number}: not JSON", "delete that line; the run then fills it in") from None


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What keeps a run that was asked `ours` from going on to `theirs`."""
    return ", ".join(key for key in {**ours, **theirs} if not _covers(theirs.get(key), ours.get(key), key))


def _covers(theirs: Any, ours: Any, key: str) -> bool:
    if key == "conditions":
        return all(condition in theirs for condition in ours)
    if key in ("models", "defaults"):  # a later version may know more settings
        return bool(ours.items() <= theirs.items())
    return bool(theirs == ours)
