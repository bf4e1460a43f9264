"""Profiles of 0, 1, 10 and 100,000 items against contexts of 512 to 8,192: never an exception, always a report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.profile import Profile
from prlm_edge.settings import load_settings
from prlm_edge.types import Item
from prlm_edge.writer import Writer

pytestmark = [pytest.mark.model, pytest.mark.slow]
TOPICS = (
    "sourdough",
    "allotment",
    "bicycle",
    "network",
    "library",
    "swimming",
    "kettle",
    "compost",
    "router",
    "ladder",
)


def items(n: int) -> Iterator[Item]:
    for i in range(n):
        topic = TOPICS[i % len(TOPICS)]
        yield Item(f"i{i}", f"note {i} on {topic}: what went wrong and what it cost. " * 8, f"{topic}: lesson {i}")


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Profile]:
    folder = tmp_path_factory.mktemp("profiles")
    made = {}
    for n in (0, 1, 10, 100_000):
        made[n] = Profile.open(folder / f"{n}.jsonl", create=True)
        made[n].append(items(n))
        made[n].path.touch()
    return made


@pytest.fixture(scope="module")
def backends(smollm2_path: Path) -> Iterator[dict[int, LlamaCpp]]:
    made = {n_ctx: LlamaCpp(smollm2_path, n_ctx=n_ctx) for n_ctx in (512, 1024, 2048, 8192)}
    yield made
    for backend in made.values():
        backend.close()


@pytest.mark.parametrize("n_items", [0, 1, 10, 100_000])
@pytest.mark.usefixtures("home")
def test_every_profile_fits_every_context(
    profiles: dict[int, Profile], backends: dict[int, LlamaCpp], n_items: int
) -> None:
    profile = profiles[n_items]
    for n_ctx, backend in backends.items():
        writer = Writer(profile, load_settings(), backend)
        for k in (1, 4, 1000):
            for query in ("winter sourdough", "a long story about sourdough and the library. " * 2000):
                for layout in ("turns", "block"):
                    plan = writer.plan(f"title for {query}", k=k, layout=layout)
                    room = n_ctx - plan.reasoning_tokens - plan.answer_tokens
                    assert plan.prompt.tokens < room
                    assert len(plan.hits) == min(k, n_items)
                    gone = [drop for drop in plan.prompt.dropped if drop.what == "item"]
                    assert len(plan.prompt.used) + len(gone) == len(plan.hits)
                    if n_items:
                        assert plan.prompt.used
                    assert any(drop.what == "query" for drop in plan.prompt.dropped) == (len(query) > 1000)


@pytest.mark.usefixtures("home")
def test_the_tightest_one_really_generates(profiles: dict[int, Profile], backends: dict[int, LlamaCpp]) -> None:
    result = Writer(profiles[100_000], load_settings(), backends[512]).generate("title for sourdough " * 500, k=50)
    assert result.answer
    assert result.dropped
