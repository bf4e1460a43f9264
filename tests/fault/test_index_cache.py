"""BM25 index and embeddings on disk: keyed by content, never trusted for being there, never half written."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from prlm_edge.profile import Profile
from prlm_edge.retrieve.bm25 import build as bm25_build
from prlm_edge.retrieve.bm25 import store as bm25_store
from prlm_edge.retrieve.bm25.retriever import Bm25Retriever
from prlm_edge.retrieve.dense.retriever import BATCH, DenseRetriever
from prlm_edge.retrieve.dense.vectors import VectorStore
from prlm_edge.storage import cache_dir
from prlm_edge.types import Item

pytestmark = pytest.mark.usefixtures("home")
WORDS = ["rye", "oven", "drain", "wheel", "winter", "sourdough", "allotment", "ear", "flood", "truing"]
ITEMS = [
    Item(str(i), title=f"{WORDS[i % 10]} {WORDS[i * 7 % 9]} nr{i}", text=f"on {WORDS[i * 3 % 10]}") for i in range(60)
]
QUERIES = ["rye", "winter oven", "nr17 flood", "truing on ear"]


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
    real = bm25_build.tokenize
    monkeypatch.setattr(bm25_build, "tokenize", lambda text: seen.append(text) or real(text))
    return seen


def folders():
    return sorted(p for p in (cache_dir() / "bm25").iterdir())


# --- BM25: what is noticed


def test_the_second_opening_reads_the_kept_index(tokenized):
    assert answers(open_fast()) == reference()
    assert len(tokenized) == len(ITEMS)
    assert answers(open_fast()) == reference()
    assert len(tokenized) == len(ITEMS)


def test_files_are_the_owners_alone():
    open_fast()
    root = cache_dir() / "bm25"
    for path in (root, *root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    "change",
    [
        lambda items: [*items, Item("new", title="rye again")],
        lambda items: items[:10] + items[11:],
        lambda items: [Item("0", title="rye ear nr0", text="on it"), *items[1:]],
        lambda items: items[::-1],
        lambda items: [*items, items[3]],
        lambda items: [],
        lambda items: items[:1],
    ],
    ids=["append", "delete", "edit", "reorder", "duplicate", "empty", "one"],
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
    kept = {path: path.stat().st_mtime_ns for path in (cache_dir() / "bm25").rglob("*") if path.suffix == ".npy"}
    tokenized.clear()
    grown = [*ITEMS, Item("new", title="oven new rye rye"), Item("", text="")]
    assert answers(open_fast(grown)) == reference(grown)
    assert tokenized == ["oven new rye rye", ""]
    now = {path: path.stat().st_mtime_ns for path in (cache_dir() / "bm25").rglob("*") if path.suffix == ".npy"}
    assert now == kept  # nothing was written
    grown += [Item(f"more {i}", title=f"sourdough {i}") for i in range(2)]
    assert answers(open_fast(grown)) == reference(grown)
    assert len(folders()) == 2  # the tail had grown too long


@pytest.mark.parametrize("name", ["places.npy", "counts.npy", "lengths.npy", "starts.npy", "vocabulary.bin"])
def test_a_damaged_index_gets_no_tail(name):
    open_fast()
    (folder,) = folders()
    data = bytearray((folder / name).read_bytes())
    data[-3] ^= 1
    (folder / name).write_bytes(data)
    grown = [*ITEMS, Item("new", title="oven new")]
    assert answers(open_fast(grown)) == reference(grown)


def test_profile_edits_are_noticed_whatever_size_and_mtime_say(tmp_path):
    path = tmp_path / "me.jsonl"
    path.write_text("".join(json.dumps({"id": i.id, "title": i.title, "text": i.text}) + "\n" for i in ITEMS))
    open_fast(Profile.open(path).items)
    before = path.stat()
    text = path.read_text()
    path.write_text(text.replace("rye", "ale"))  # the same size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    items = Profile.open(path).items
    assert answers(open_fast(items)) == reference(items)
    assert not any("rye" in i.title for i in items)
    assert open_fast(items).search("rye", 1)[0].score == 0
    assert open_fast(items).search("ale", 1)[0].score > 0


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
    text = profile.path.read_text("utf-8")
    profile.path.write_text(text.replace("nr17 ", "nr77 ").replace('nr17"', 'nr77"'), "utf-8")  # edited by hand
    assert both_agree() == [ITEMS[17].searchable.replace("nr17", "nr77")]


def test_other_parameters_or_versions_are_another_index(monkeypatch):
    open_fast()
    monkeypatch.setattr(bm25_store, "TOKENIZER_VERSION", "other")
    open_fast()
    assert len(folders()) == 2


# --- BM25: damage


def damages():
    names = (
        "data.npy",
        "places.npy",
        "starts.npy",
        "offsets.npy",
        "vocabulary.bin",
        "sums.npy",
        "counts.npy",
        "lengths.npy",
        "hashes.npy",
        "manifest.json",
    )
    for name in names:
        for how in ("flip", "truncate", "empty", "delete", "folder", "zeros"):
            yield pytest.param(name, how, id=f"{name}-{how}")


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "flip":
        for at in range(len(data) // 2, len(data), 64):
            data[at] ^= 0x40
        path.write_bytes(data)
    elif how == "zeros":
        path.write_bytes(bytes(len(data)))
    elif how in ("truncate", "empty"):
        os.truncate(path, len(data) // 2 if how == "truncate" else 0)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()


@pytest.mark.parametrize(("name", "how"), list(damages()))
def test_a_damaged_index_is_built_again(name, how):
    open_fast()
    (folder,) = folders()
    damage(folder / name, how)
    assert answers(open_fast()) == reference()
    assert answers(open_fast()) == reference()
    changed = [*ITEMS, Item("new", title="rye again")]
    damage(folders()[0] / name, how)
    assert answers(open_fast(changed)) == reference(changed)  # nor is it built on


def test_damage_while_it_is_open_is_noticed():
    found = open_fast()
    found = open_fast()  # memory-mapped now
    (folder,) = folders()
    with (folder / "data.npy").open("r+b") as stream:
        stream.seek(200)
        stream.write(bytes(4000))
    assert answers(found) == reference()


def test_an_index_renamed_to_another_key_is_not_believed():
    open_fast(ITEMS[:30])
    (other,) = folders()
    open_fast()
    mine = next(p for p in folders() if p != other)
    for path in mine.iterdir():
        path.unlink()
    mine.rmdir()
    other.rename(mine)
    assert answers(open_fast()) == reference()


def test_a_full_disk_costs_only_the_cache(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bm25_store.np, "save", full)
    found = open_fast()
    assert answers(found) == reference()
    assert "could not be kept" in found.notes[0]
    assert "No space left" in found.notes[0]
    assert folders() == []


@pytest.mark.skipif(os.name != "posix", reason="POSIX folders")
def test_a_cache_folder_that_cannot_be_made(home):
    home.mkdir(parents=True)
    (home / "cache").write_text("a file")
    found = open_fast()
    assert answers(found) == reference()
    assert found.notes


def test_no_cache_writes_nothing(home):
    open_fast(cache=False)
    DenseRetriever(ITEMS, Counting(), cache=False)
    assert not home.exists()


def test_old_indexes_go():
    for n in range(10, 10 + bm25_store.KEEP + 3):
        open_fast(ITEMS[:n])
    assert len(folders()) == bm25_store.KEEP
    open_fast(ITEMS[: 12 + bm25_store.KEEP])
    assert len(folders()) == bm25_store.KEEP


def test_the_size_cap(monkeypatch):
    open_fast(ITEMS[:30])
    monkeypatch.setattr(bm25_store, "KEEP_BYTES", 1)
    open_fast()
    assert len(folders()) == 1
    assert answers(open_fast()) == reference()


def test_what_killed_builders_left_goes():
    root = cache_dir() / "bm25"
    for name, age in ((".tmp-old", 7200), (".tmp-new", 60)):
        (root / name).mkdir(parents=True)
        os.utime(root / name, (time.time() - age,) * 2)
    open_fast()
    assert not (root / ".tmp-old").exists()
    assert (root / ".tmp-new").exists()


BUILD_SLOWLY = """
import sys, time
from prlm_edge.retrieve import bm25_store
from prlm_edge.retrieve.bm25.retriever import Bm25Retriever
from prlm_edge.types import Item
real = bm25_store._write
def slowly(path, content):
    print(path.name, flush=True)
    time.sleep(0.2)
    return real(path, content)
bm25_store._write = slowly
Bm25Retriever([Item(str(i), title=f"rye nr{i}") for i in range(60)], fast_from=0)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_builder_killed_half_way_leaves_nothing_to_trust():
    items = [Item(str(i), title=f"rye nr{i}") for i in range(60)]
    child = subprocess.Popen([sys.executable, "-c", BUILD_SLOWLY], stdout=subprocess.PIPE, text=True)
    for _ in range(4):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert all(folder.name.startswith(".tmp-") for folder in folders())
    assert answers(open_fast(items)) == reference(items)


# --- embeddings


class Counting:
    """A deterministic embedder that remembers what it was asked for: a text's vector is that of its words."""

    key, dim = "c" * 64, 8

    def __init__(self):
        self.texts = []

    def embed(self, texts):
        self.texts.extend(texts)
        rows = [np.random.default_rng(sum(text.encode())).standard_normal(self.dim) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32).reshape(-1, self.dim)


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


def store_folder():
    return cache_dir() / "embeddings" / Counting.key[:32]


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


def test_embeddings_are_the_owners_alone():
    dense()
    for path in (store_folder(), *store_folder().iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("name", ["vectors.f32", "rows.bin"])
@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "delete", "zeros"])
def test_damaged_embeddings_are_computed_again(name, how):
    dense()
    damage(store_folder() / name, how)
    found, embedded = dense()
    near(answers(found), dense_reference())
    assert embedded
    assert set(embedded) <= {i.searchable for i in ITEMS}
    found, embedded = dense()
    near(answers(found), dense_reference())
    assert embedded == []


def test_a_flipped_bit_costs_one_item():
    dense()
    path = store_folder() / "vectors.f32"
    data = bytearray(path.read_bytes())
    data[17 * 4 * Counting.dim + 5] ^= 1
    path.write_bytes(data)
    assert dense()[1] == [ITEMS[17].searchable]


@pytest.mark.parametrize(("vectors", "rows"), [(5, 0), (0, 7), (100, 30), (4 * 8 * 3, 0), (4 * 8 * 3, 11)])
def test_torn_tails_are_cut(vectors, rows):
    dense(ITEMS[:50])
    for name, extra in (("vectors.f32", vectors), ("rows.bin", rows)):
        with (store_folder() / name).open("ab") as stream:
            stream.write(b"\x55" * extra)
    found, embedded = dense()
    assert embedded == [i.searchable for i in ITEMS[50:]]
    near(answers(found), dense_reference())
    assert dense()[1] == []


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
from test_index_cache import Counting, DenseRetriever, ITEMS
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
        [sys.executable, "-c", EMBED, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
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


def test_another_model_has_its_own_vectors(monkeypatch):
    dense()
    monkeypatch.setattr(Counting, "key", "d" * 64)
    assert len(dense()[1]) == len(ITEMS)


def test_a_disk_that_fills_up_costs_only_the_cache(monkeypatch):
    def full(*_, **__):
        from prlm_edge.errors import PrlmError

        raise PrlmError("vectors.f32: No space left on device")

    monkeypatch.setattr("prlm_edge.retrieve.dense.vectors.append_bytes", full)
    found, embedded = dense()
    assert len(embedded) == len(ITEMS)
    near(answers(found), dense_reference())
    assert "No space left" in found.notes[0]


def test_a_store_that_grew_too_large_keeps_this_profile_only(monkeypatch):
    dense(ITEMS[:40])
    monkeypatch.setattr("prlm_edge.retrieve.dense.vectors.MAX_ROWS", 45)
    found, embedded = dense(ITEMS[30:])
    assert embedded == [i.searchable for i in ITEMS[40:]]
    near(answers(found), dense_reference(ITEMS[30:]))
    assert (store_folder() / "rows.bin").stat().st_size == 30 * 24
    assert dense(ITEMS[30:])[1] == []


def test_a_replacement_torn_between_its_files_is_not_believed(monkeypatch):
    dense()
    real = VectorStore(store_folder(), Counting.dim)
    stored = real.read()
    keep = [bytes.fromhex(i.content_hash) for i in ITEMS[30:]]
    old_rows = (store_folder() / "rows.bin").read_bytes()
    real.replace(keep, stored.vectors[30:])
    (store_folder() / "rows.bin").write_bytes(old_rows)
    found, _ = dense()
    near(answers(found), dense_reference())
