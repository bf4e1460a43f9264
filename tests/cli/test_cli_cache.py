"""`prlm-edge cache`: what is kept, and deleting it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prlm_edge.backends.engine.prefix_store import PrefixStore
from prlm_edge.cli.cache import KINDS
from prlm_edge.retrieve.bm25.retriever import Bm25Retriever
from prlm_edge.storage import cache_dir
from prlm_edge.types import Item


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prlm_edge", "cache", *args]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)


def sizes() -> dict[str, int]:
    return {one["kind"]: one["bytes"] for one in json.loads(run("show", "--json").stdout)}


@pytest.fixture
def filled(home: Path) -> Path:
    Bm25Retriever([Item(str(i), f"text number {i}") for i in range(30)], fast_from=1)
    PrefixStore("ab" * 16, folder=cache_dir() / "prefix").keep([bytes(16)], [10], bytes(5_000_000))
    return home


def test_an_empty_cache(home: Path) -> None:
    result = run("show")
    assert result.returncode == 0
    assert result.stdout.count("nothing") == len(KINDS)
    assert str(cache_dir()) in result.stderr
    assert run("clear", "all").returncode == 0
    assert not cache_dir().exists()


def test_show_counts_what_is_really_there(filled: Path) -> None:
    assert sizes()["prefixes"] == sum(path.stat().st_size for path in (cache_dir() / "prefix").iterdir()) > 5_000_000
    assert sizes()["indexes"] > 0
    assert sizes()["embeddings"] == 0
    assert "5.0 MB" in run("show").stdout


def test_clear_deletes_what_is_named_and_nothing_else(filled: Path) -> None:
    result = run("clear", "prefixes", "--yes")
    assert result.returncode == 0
    assert "prefixes: 5.0 MB freed" in result.stderr
    after = sizes()
    assert after["prefixes"] == 0
    assert after["indexes"] > 0
    (freed,) = (one["freed"] for one in json.loads(run("clear", "indexes", "-y", "--json").stdout))
    assert freed == after["indexes"]
    assert sum(sizes().values()) == 0


def test_nothing_goes_unasked_or_by_a_wrong_name(filled: Path) -> None:
    before = sizes()
    for args, words in ((("clear", "all"), "--yes"), (("clear", "prefix", "-y"), "prefixes")):
        result = run(*args)
        assert result.returncode == 2
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 2
    assert sizes() == before
