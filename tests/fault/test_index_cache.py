"""BM25 index and embeddings on disk: keyed by content, and nothing is made twice. Damage: test_any_damage.py."""

import os
import shutil
import signal
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from kept_users import ITEMS, QUERIES, Counting

from prlm_edge.profile import Profile
from prlm_edge.retrieve.bm25 import postings as bm25_postings
from prlm_edge.retrieve.bm25 import store as bm25_store
from prlm_edge.retrieve.bm25.retriever import Bm25Retriever
from prlm_edge.retrieve.dense.retriever import BATCH, DenseRetriever
from prlm_edge.storage import cache_dir
from prlm_edge.storage.kept import Shelf
from prlm_edge.types import Item

pytestmark = pytest.mark.usefixtures("home")


def open_fast(items=ITEMS, **options):
    return Bm25Retriever(items, fast_from=0, **options)


def answers(retriever, k=5):
    return [[(h.item.id, h.score) for h in retriever.search(query, k)] for query in QUERIES]


def reference(items=ITEMS):
    return answers(Bm25Retriever(items, fast_from=10**9))


@pytest.fixture
def tokenized(monkeypatch):
    """Texts that were tokenized to build an index."""
    seen = []
    real = bm25_postings.tokenize
    monkeypatch.setattr(bm25_postings, "tokenize", lambda text: seen.append(text) or real(text))
    return seen


def kept_files():
    return sorted((cache_dir() / "bm25").iterdir())


# --- BM25: what is noticed


def test_the_second_opening_reads_the_kept_index(tokenized):
    assert answers(open_fast()) == reference()
    assert len(tokenized) == len(ITEMS)
    assert answers(open_fast()) == reference()
    assert len(tokenized) == len(ITEMS)


def test_opening_reads_no_postings_and_a_query_only_its_own(monkeypatch):
    open_fast()
    (file,) = kept_files()
    sections = Shelf(file.parent, "bm25 2").peek(file.stem, file.stem).sections
    n_read, crc32 = [], zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda data, value=0: (n_read.append(len(data)), crc32(data, value))[1])
    found = open_fast()
    lookup = sum(len(sections[name]) for name in ("starts", "lengths", "sums", "offsets", "terms"))
    assert sum(n_read) - lookup < 1000  # the header
    n_read.clear()
    found.search("nr17", 3)
    assert n_read == [1, 1]
    found.search("nr17 nr17", 3)
    assert n_read == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda items: [*items, Item("new", title="rye again")],
        lambda items: items[:10] + items[11:],
        lambda items: [Item("0", title="rye ear nr0", text="on it"), *items[1:]],
        lambda items: [replace(items[0], meta={"topic": "winter flood"}), *items[1:]],
        lambda items: items[::-1],
        lambda items: [*items, items[3]],
        lambda items: [],
        lambda items: items[:1],
    ],
    ids=["append", "delete", "edit", "topic", "reorder", "duplicate", "empty", "one"],
)
def test_every_change_is_noticed(change):
    open_fast()
    changed = change(list(ITEMS))
    assert answers(open_fast(changed)) == reference(changed)
    assert answers(open_fast()) == reference()


def test_only_new_items_are_tokenized(tokenized):
    open_fast()
    tokenized.clear()
    changed = [*ITEMS[:20], Item("edit", title="rye edited"), *ITEMS[21:], Item("new", title="oven new")]
    assert answers(open_fast(changed)) == reference(changed)
    assert tokenized == ["rye edited", "oven new"]


def test_an_append_costs_its_own_items_alone(tokenized):
    open_fast()
    kept = {path: path.read_bytes() for path in kept_files()}
    tokenized.clear()
    grown = [*ITEMS, Item("new", title="oven new rye rye"), Item("", text="")]
    assert answers(open_fast(grown)) == reference(grown)
    assert tokenized == ["oven new rye rye", ""]
    assert {path: path.read_bytes() for path in kept_files()} == kept  # nothing was written
    grown += [Item(f"more {i}", title=f"sourdough {i}") for i in range(2)]
    assert answers(open_fast(grown)) == reference(grown)
    assert len(kept_files()) == 2  # the tail had grown too long


def test_profile_changes_are_noticed_by_both_indexes(tmp_path):
    profile = Profile.open(tmp_path / "me.jsonl", create=True)
    profile.append(ITEMS)

    def both_agree():
        items = Profile.open(profile.path).items
        assert answers(open_fast(items)) == reference(items)
        found, embedded = dense(items)
        near(answers(found), dense_reference(items))
        return embedded

    assert len(both_agree()) == len(ITEMS)
    profile.append([Item("new", title="rye and rye again")])
    assert both_agree() == ["rye and rye again"]
    profile.remove(["3", "new"])
    assert both_agree() == []
    profile.update([told := replace(profile.items[5], meta={"change": "+ def mend_wheel():"})])
    assert both_agree() == [told.searchable]
    text = profile.path.read_text("utf-8")
    profile.path.write_text(text.replace("nr17 ", "nr77 ").replace('nr17"', 'nr77"'), "utf-8")  # edited by hand
    assert both_agree() == [ITEMS[17].searchable.replace("nr17", "nr77")]


def test_other_parameters_or_versions_are_another_index(monkeypatch):
    open_fast()
    monkeypatch.setattr(bm25_store, "TOKENIZER_VERSION", "other")
    open_fast()
    assert len(kept_files()) == 2


def test_damage_while_it_is_open_is_noticed():
    found = open_fast()
    found = open_fast()  # memory-mapped now
    (file,) = kept_files()
    places = bytes(Shelf(file.parent, "bm25 2").peek(file.stem, file.stem).sections["places"])
    with file.open("r+b") as stream:
        stream.seek(file.read_bytes().index(places))
        stream.write(bytes(len(places)))
    assert answers(found) == reference()
    assert answers(open_fast()) == reference()


@pytest.mark.skipif(os.name != "posix", reason="POSIX folders")
def test_a_cache_that_can_not_be_written_is_a_note(home):
    home.mkdir(parents=True)
    (home / "cache").write_text("a file")
    found, (near_, embedded) = open_fast(), dense()
    assert answers(found) == reference()
    near(answers(near_), dense_reference())
    assert len(embedded) == len(ITEMS)
    assert [len(retriever.notes) for retriever in (found, near_)] == [1, 1]
    assert all("could not be kept" in retriever.notes[0] for retriever in (found, near_))


def test_no_cache_writes_nothing(home):
    open_fast(cache=False)
    DenseRetriever(ITEMS, Counting(), cache=False)
    assert not home.exists()


# --- embeddings


def dense(items=ITEMS, **options):
    embedder = Counting()
    retriever = DenseRetriever(items, embedder, **options)
    embedded, embedder.texts = embedder.texts, []
    return retriever, embedded


def dense_reference(items=ITEMS):
    return answers(dense(items, cache=False)[0])


def near(got, expected):
    for one, other in zip(got, expected, strict=True):
        assert [i for i, _ in one] == [i for i, _ in other]
        assert [s for _, s in one] == pytest.approx([s for _, s in other], abs=1e-6)


RECORD_BYTES = 24 + 4 * Counting.dim


def store_file():
    return cache_dir() / "embeddings" / f"{Counting.key[:32]}.kept"


def test_nothing_is_embedded_twice():
    first, embedded = dense()
    assert embedded == [i.searchable for i in ITEMS]
    second, embedded = dense()
    assert embedded == []
    near(answers(second), answers(first))
    near(answers(second), dense_reference())


def test_only_new_items_are_embedded():
    dense(ITEMS[:40])
    changed = [Item("new", title="first new"), *ITEMS[5:50], Item("again", ITEMS[0].text, ITEMS[0].title)]
    found, embedded = dense(changed)
    assert embedded == ["first new", *(i.searchable for i in ITEMS[40:50])]
    near(answers(found), dense_reference(changed))
    assert dense(ITEMS)[1] == [i.searchable for i in ITEMS[50:]]


def test_equal_items_are_embedded_once_and_empty_ones_never():
    items = [Item("a", title="rye"), Item("b", title="rye"), Item("empty"), Item("c", text="oven")]
    found, embedded = dense(items)
    assert embedded == ["rye", "oven"]
    hits = found.search("rye", 9)
    assert [h.item.id for h in hits[:2]] == ["a", "b"]
    assert hits[-1].item.id == "empty"
    assert hits[-1].score == 0
    assert [h.score for h in found.search("  ", 2)] == [0, 0]  # nothing to compare with


def test_a_flipped_bit_costs_one_item():
    dense()
    data = bytearray(store_file().read_bytes())
    data[(17 - 60) * RECORD_BYTES - 5] ^= 1
    store_file().write_bytes(data)
    assert dense()[1] == [ITEMS[16].searchable]


def test_ctrl_c_loses_at_most_one_batch():
    class Interrupted(Counting):
        def embed(self, texts):
            if len(self.texts) >= 2 * BATCH:
                raise KeyboardInterrupt
            return super().embed(texts)

    with pytest.raises(KeyboardInterrupt):
        DenseRetriever(ITEMS, Interrupted())
    assert dense()[1] == [i.searchable for i in ITEMS[2 * BATCH :]]


EMBED = """
import sys
sys.path.insert(0, sys.argv[1])
from kept_users import Counting, ITEMS
from prlm_edge.retrieve.dense.retriever import DenseRetriever
import time
class Slow(Counting):
    def embed(self, texts):
        time.sleep(0.1)
        print("batch", flush=True)
        return super().embed(texts)
DenseRetriever(ITEMS, Slow())
"""


def start_embedding():
    return subprocess.Popen(
        [sys.executable, "-c", EMBED, str(Path(__file__).parents[1])], stdout=subprocess.PIPE, text=True
    )


def test_two_processes_at_once():
    children = [start_embedding() for _ in range(2)]
    assert [child.communicate()[0].count("batch") > 0 and child.returncode for child in children] == [0, 0]
    found, embedded = dense()
    assert embedded == []
    near(answers(found), dense_reference())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_embedder_loses_at_most_the_batch_at_hand():
    child = start_embedding()
    for _ in range(3):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    found, embedded = dense()
    assert embedded == [i.searchable for i in ITEMS[len(ITEMS) - len(embedded) :]]
    assert len(embedded) <= len(ITEMS) - 2 * BATCH
    near(answers(found), dense_reference())


def test_a_cache_that_another_process_clears_meanwhile():
    class Clearing(Counting):
        def embed(self, texts):
            shutil.rmtree(cache_dir(), ignore_errors=True)
            return super().embed(texts)

    dense(ITEMS[:50])
    near(answers(DenseRetriever(ITEMS, Clearing())), dense_reference())


def test_another_model_has_its_own_vectors(monkeypatch):
    dense()
    monkeypatch.setattr(Counting, "key", "d" * 64)
    assert len(dense()[1]) == len(ITEMS)


def test_a_store_that_grew_too_large_keeps_this_profile_only(monkeypatch):
    dense(ITEMS[:40])
    monkeypatch.setattr("prlm_edge.retrieve.dense.vectors.MAX_ROWS", 45)
    found, embedded = dense(ITEMS[30:])
    assert embedded == [i.searchable for i in ITEMS[40:]]
    near(answers(found), dense_reference(ITEMS[30:]))
    stored = Shelf(store_file().parent, "vectors 2").open(store_file().stem, Counting.key, grows=True)
    assert len(stored.records) == 30 * RECORD_BYTES
    assert dense(ITEMS[30:])[1] == []
