"""`prlm-edge cache`: what is kept, and deleting it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from prlm_edge.backends.engine.prefix_store import PrefixStore
from prlm_edge.cli.cache import KINDS
from prlm_edge.retrieve.bm25.retriever import Bm25Retriever
from prlm_edge.storage import cache_dir
from prlm_edge.types import Item


@pytest.fixture
def filled(home: Path) -> Path:
    Bm25Retriever([Item(str(i), f"text number {i}") for i in range(30)], fast_from=1)
    PrefixStore("ab" * 16, folder=cache_dir() / "prefix").keep([bytes(16)], [10], bytes(5_000_000))
    return home


@pytest.fixture
def run(cli):
    return partial(cli, "cache")


@pytest.fixture
def sizes(run):
    return lambda: {one["kind"]: one["bytes"] for one in json.loads(run("show", "--json").out)}


def test_an_empty_cache(run):
    result = run("show")
    assert result.code == 0
    assert result.out.count("nothing") == len(KINDS)
    assert str(cache_dir()) in result.err
    assert run("clear", "all").code == 0
    assert not cache_dir().exists()


def test_show_counts_what_is_really_there(filled, run, sizes):
    assert sizes()["prefixes"] == sum(path.stat().st_size for path in (cache_dir() / "prefix").iterdir()) > 5_000_000
    assert sizes()["indexes"] > 0
    assert sizes()["embeddings"] == 0
    assert "5.0 MB" in run("show").out


def test_clear_deletes_what_is_named_and_nothing_else(filled, run, sizes):
    result = run("clear", "prefixes", "--yes")
    assert result.code == 0
    assert "prefixes: 5.0 MB freed" in result.err
    after = sizes()
    assert after["prefixes"] == 0
    assert after["indexes"] > 0
    (freed,) = (one["freed"] for one in json.loads(run("clear", "indexes", "-y", "--json").out))
    assert freed == after["indexes"]
    assert sum(sizes().values()) == 0


def test_nothing_goes_unasked_or_by_a_wrong_name(filled, run, sizes):
    before = sizes()
    for args, words in ((("clear", "all"), "--yes"), (("clear", "prefix", "-y"), "prefixes")):
        result = run(*args)
        assert result.code == 2
        assert words in result.err
        assert len(result.err.splitlines()) == 2
    assert sizes() == before


def test_a_link_in_a_folder_s_place_is_deleted_and_not_what_it_leads_to(filled, run, sizes, tmp_path):
    (cache_dir() / "bm25").rename(tmp_path / "elsewhere")
    (cache_dir() / "bm25").symlink_to(tmp_path / "elsewhere")
    assert sizes()["indexes"] == 0
    assert run("clear", "indexes", "--yes").code == 0
    assert not (cache_dir() / "bm25").is_symlink()
    assert list((tmp_path / "elsewhere").iterdir())
