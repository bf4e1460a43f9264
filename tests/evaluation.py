"""A small data set of made-up users, and where the real ones are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prlm_edge.evaluate.conditions import make
from prlm_edge.evaluate.data import load
from prlm_edge.evaluate.provenance import header
from prlm_edge.evaluate.records import Answer, Shown
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.scoring import score_run

SHARED = Path(__file__).parents[2] / "shared" / "data"
TOPICS = ("sourdough", "beekeeping", "old radios", "trail running", "fountain pens", "night trains")


def shared(*parts: str) -> Path:
    """A file of the real data; the test is skipped where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the evaluation data are not beside the repository: {'/'.join(parts)}")
    return path


def real_texts() -> list[str]:
    """500 texts of the real data: requests, answers and past titles of three tasks."""
    found: list[str] = []
    for task in ("acl_title", "commit_subject", "release_note"):
        with gzip.open(shared(task, "dev.jsonl.gz"), "rt", encoding="utf-8") as stream:
            for line in stream:
                one = json.loads(line)
                found += [one["query"]["text"], one["target"], *(item["title"] for item in one["profile"][:3])]
                if len(found) % 170 > 165:
                    break
    return found[:500]


def sample(task: str) -> list[dict[str, Any]]:
    """Twenty rows of a task of the real data: acl_title, commit_subject or release_note."""
    return [json.loads(line) for line in shared("sample", f"{task}.sample20.jsonl").read_text("utf-8").splitlines()]


def row(user: int, sample: int = 0) -> dict[str, Any]:
    """A user of titles like "notes on TOPIC, part N"; even users are of one domain, odd ones of the other."""
    topic = TOPICS[user % len(TOPICS)]
    profile = [
        {"id": f"i{i}", "text": f"Part {i} about {topic}: what went wrong.", "title": f"notes on {topic}, part {i}"}
        for i in range(5)
    ]
    return {
        "user_id": f"u{user}",
        "task": "acl_title",
        "domain": f"d{user % 2}",
        "query": {
            "id": f"q{sample}",
            "text": f"Part {7 + sample} about {topic}. What went right.",
            "date": "2026-01-02",
        },
        "target": f"notes on {topic}, part {7 + sample}",
        "profile": [{**item, "date": f"2025-01-0{i + 1}"} for i, item in enumerate(profile)],
    }


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def asked(conditions: Sequence[Any] = (), models: Any = None) -> dict[str, Any]:
    """What run.json says was asked, of made-up data."""
    data = {"name": "dev.jsonl", "sha256": "", "task": "t", "n_rows": 4, "n_users": 4}
    return {"data": data, "models": models or {}, "conditions": [vars(one) for one in conditions]}


def scored_run(path: Path, extra: str = "") -> RunFolder:
    """A small scored run of six users: a baseline, zero-shot, and own-profile conditions of which k=4 is the best.

    Only the first user does better without a profile. `extra` stands in queries, answers and titles.
    """
    data = load(write_rows(path.with_suffix(".jsonl"), [row(user) for user in range(6)]))
    conditions = [
        make("first sentence", {"baseline": "first_sentence"}),
        make("zero-shot", {"profile": "none"}),
        *(make(f"k={k}", {"k": k}) for k in (4, 1, 2)),
        make("dense", {"k": 4, "retriever": "dense"}),
    ]
    run = RunFolder.create(path, header(data, conditions, 0, "prlm-edge eval run dev.jsonl"))
    for condition in conditions:
        for one in data.rows:
            good = (condition.name == "zero-shot") == (one.user == "u0") or (
                condition.name == "k=4" and one.user != "u0"
            )
            text = one.target if good else f"Something about {extra}"
            used = tuple(Shown(item.id, f"{item.title}{extra}", 1.0) for item in one.profile[:2])
            tokens = 100 if condition.profile == "none" else 0 if condition.baseline else 400
            run.append(
                Answer(
                    condition.name, one.id, one.user, one.query + extra, one.target, text, "6 words.", used,
                    (2.0, 1.0), "stop", False, tokens,
                )
            )  # fmt: skip
    score_run(run, data)
    return RunFolder(path)
