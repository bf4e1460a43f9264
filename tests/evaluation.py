"""A small data set of made-up users, and where the real ones are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"
TOPICS = ("sourdough", "beekeeping", "old radios", "trail running", "fountain pens", "night trains")


def shared(*parts: str) -> Path:
    """A file of the real data; the test is skipped where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the evaluation data are not beside the repository: {'/'.join(parts)}")
    return path


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
