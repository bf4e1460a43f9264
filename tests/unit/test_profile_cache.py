"""A profile that is taken over from the cache is the one that would be read from the file, whatever happened to it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prlm_edge import tasks
from prlm_edge.errors import ProfileError
from prlm_edge.profile import Profile, cache, lazy_items, learn, learned_style, snapshot
from prlm_edge.profile.lines import parse_line
from prlm_edge.types import Item

pytestmark = pytest.mark.skipif(not lazy_items.CAN_STORE, reason="nothing is kept on this system")
TASKS = [tasks.get_task(name, None) for name in ("title", "note", "commit")]
SETTLED_S = 0.03  # in these tests; more than a tick of any kernel's file clock


@pytest.fixture(autouse=True)
def keep_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep profiles of any size; look at a file again only while it is younger than `SETTLED_S`."""
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "KEEP_FROM", 1)
    monkeypatch.setattr(cache, "_SAVE_TAIL", 3)
    monkeypatch.setattr(snapshot, "_RACY_NS", int(SETTLED_S * 1e9))


def kept_files(home: Path) -> list[Path]:
    return sorted((home / "cache" / "profiles").glob("*"))


def is_stored(profile: Profile) -> bool:
    return any(type(item) is lazy_items.StoredItem for item in profile.items)


def facts_of(profile: Profile) -> dict[str, Any]:
    """All that can be asked of a profile. Styles first: reading them must not depend on what was looked at before."""
    state = profile._state
    found: dict[str, Any] = {
        "styles": [(style, [item.id for item in items]) for items, style in (learn(profile, task) for task in TASKS)],
        "hashes": profile._state.content_hashes(),
        "search hashes": [item.search_hash for item in profile],
        "spans": {id: state.span(id) for id in state.by_id},
        "state": (state.ended, state.torn, state.n_bytes, state.n_lines, list(state.numbers)),
        "bad": profile.bad,
        "dates": [(item.id, item.date) for item in profile],
        "teaches": [item.teaches for item in profile],
        "by id": [profile.get(id) for id in state.by_id],
        "items": list(profile.items),
    }
    return found


def without_cache(path: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as empty, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRLM_HOME", empty)
        profile = Profile.open(path)
        assert not is_stored(profile)
        return facts_of(profile)


WORDS = st.sampled_from(["bread", "winter loaf", "Docs: mend it", "the end.", "ünï", "a\u2028b", "\U0001f35e"])
LINES = st.one_of(
    st.builds(
        lambda id, title, text, kind, date, more: json.dumps(
            {"id": id, "title": title, "text": text, "kind": kind, "date": date, **more}
        ),
        st.integers(0, 12).map(str),
        WORDS,
        WORDS,
        st.sampled_from(["", "post", "commit", "note"]),
        st.sampled_from(["", "2024", "2025-03"]),
        st.sampled_from([{}, {"meta": {"n": 1, "topic": "rye"}}, {"meta": {"change": "+ a"}}, {"x": 1.5}]),
    ),
    st.builds(lambda title: json.dumps({"title": title}, ensure_ascii=False), WORDS),
    st.sampled_from(["not json", '{"id": "only"}', "", "  ", '{"text": "torn']),
).map(lambda line: line.encode() + b"\n")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(LINES, min_size=1, max_size=5)),
        st.tuples(st.sampled_from(["edit", "swap back"]), st.integers(0, 400)),
        st.tuples(st.sampled_from(["truncate", "tear"]), st.integers(1, 30)),
        st.tuples(st.sampled_from(["delete", "rewrite"]), st.integers(0, 12)),
        st.tuples(st.sampled_from(["wait", "open"]), st.none()),
        st.tuples(st.just("own append"), st.lists(WORDS, min_size=1, max_size=3)),
    ),
    min_size=1,
    max_size=8,
)


def apply(path: Path, step: str, value: Any) -> None:
    """One thing that happens to the file: by us, by an editor in place, by another program that replaces it."""
    content = path.read_bytes()
    if step == "append":
        with path.open("ab") as stream:
            stream.write((b"" if content.endswith(b"\n") else b"\n") + b"".join(value))
    elif step == "edit":  # in place, the same size, the time of modification set back
        before = path.stat()
        place = value % len(content)
        with path.open("r+b") as stream:
            stream.seek(place)
            stream.write(b"x" if content[place : place + 1] not in b'x\n"{' else content[place : place + 1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif step == "swap back":  # replaced by a file of the same size and time of modification
        before = path.stat()
        other = path.with_name("other")
        other.write_bytes(content.replace(b"winter", b"summer", 1))
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(path)
    elif step == "truncate":
        lines = content.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: max(1, len(lines) - value)]))
    elif step == "tear":
        os.truncate(path, max(2, len(content) - value))
    elif step == "delete":
        Profile.open(path).remove([str(value)])
    elif step == "rewrite":
        path.write_bytes(content)
    elif step == "wait":
        time.sleep(1.5 * SETTLED_S)
    elif step == "own append":
        Profile.open(path).append([Item("", text=text, title=f"own {text}") for text in value])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=st.lists(LINES, min_size=1, max_size=12), steps=STEPS)
def test_any_history_reads_the_same_with_and_without_the_cache(first: list[bytes], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRLM_HOME", str(Path(folder, "home")))
        path = Path(folder, "me.jsonl")
        path.write_bytes(b'{"id": "first", "text": "makes it a profile"}\n' + b"".join(first))
        lasting = Profile.open(path)
        for step, value in steps:
            apply(path, step, value)
            assert facts_of(Profile.open(path)) == without_cache(path), step
            if step == "open":
                lasting = Profile.open(path)
            lasting.refresh()
            assert facts_of(lasting) == without_cache(path), step


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A profile that is kept, and settled when it was."""
    path = tmp_path / "me.jsonl"
    made = [{"id": str(i), "title": f"Loaf {i}", "text": "x" * i, "date": f"20{i:02}"} for i in range(40)]
    path.write_text("".join(json.dumps(item) + "\n" for item in made))
    time.sleep(1.5 * SETTLED_S)
    profile = Profile.open(path)
    learn(profile, TASKS[0])
    return path


def test_an_unchanged_profile_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError

    for name in ("read_on", "is_prefix_of"):
        monkeypatch.setattr(snapshot.Snapshot, name, unwanted if name == "read_on" else lambda self, stream: False)
    monkeypatch.setattr(lazy_items, "parse_line", unwanted)
    profile = Profile.open(path)
    items, style = learn(profile, TASKS[0])
    assert (len(profile), len(items), style.n) == (40, 40, 40)
    assert [item.id for item in profile] == [str(i) for i in range(40)]
    assert max(item.date for item in profile) == "2039"
    assert all(type(item) is lazy_items.StoredItem for item in items)


def test_of_a_profile_that_grew_only_the_end_is_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("ab") as stream:
        stream.write(b'{"id": "new", "title": "Loaf 41"}\n{"id": "3", "title": "again"}\n')
    parsed = []
    monkeypatch.setattr(snapshot, "parse_line", lambda data: (parsed.append(data), parse_line(data))[1])
    profile = Profile.open(path)
    items, style = learn(profile, TASKS[0])
    assert len(parsed) == 2
    assert (len(items), style.n, profile.bad[0].reason) == (41, 41, "id '3' is taken by line 4")
    assert sum(type(item) is lazy_items.StoredItem for item in items) == 40
    assert facts_of(profile) == without_cache(path)


def test_an_item_is_an_item_in_every_way(path: Path) -> None:
    wanted = [parse_line(line) for line in path.read_bytes().splitlines()]

    def fresh() -> Item:
        item = Profile.open(path).items[7]
        assert type(item) is lazy_items.StoredItem
        assert isinstance(item, Item)
        return item

    assert fresh() == wanted[7]
    assert wanted[7] == fresh()
    assert fresh() == fresh()
    assert fresh() != wanted[8]
    assert fresh() != "7"
    assert repr(fresh()) == repr(wanted[7])
    assert asdict(fresh()) == asdict(wanted[7])
    assert fresh().searchable == wanted[7].searchable
    assert replace(fresh(), id="other") == replace(wanted[7], id="other")
    changes: dict[str, Any] = {"text": "t", "title": "", "kind": "", "source": "", "meta": {}}
    assert type(replace(fresh(), **changes)) is Item
    for copied in (copy.copy(fresh()), copy.deepcopy(fresh()), pickle.loads(pickle.dumps(fresh()))):
        assert (type(copied), copied) == (Item, wanted[7])
    read = fresh()
    assert read.text == "xxxxxxx"
    assert type(read) is Item
    assert vars(read).keys() == {**vars(wanted[7]), "search_hash": ""}.keys()
    with pytest.raises(TypeError):
        hash(fresh())
    with pytest.raises(AttributeError):
        fresh().title = "x"  # type: ignore[misc]


def test_items_survive_a_profile_that_is_replaced(path: Path) -> None:
    before = Profile.open(path)
    Profile.open(path).remove([str(i) for i in range(30)])
    assert [item.title for item in before] == [f"Loaf {i}" for i in range(40)]
    assert before.refresh()
    assert len(before) == 10


@pytest.mark.parametrize("new", [b"Bun ", b'"Bun'])
def test_a_line_that_was_changed_in_place_is_refused(path: Path, tmp_path: Path, new: bytes) -> None:
    profile = Profile.open(path)
    content = path.read_bytes()
    with path.open("r+b") as stream:
        stream.seek(content.index(b"Loaf 20"))
        stream.write(new)
    assert profile.items[19].title == "Loaf 19"
    with pytest.raises(ProfileError, match="line 21 was changed while it was in use"):
        _ = profile.items[20].title
    assert [file.stem[-6:] for file in kept_files(tmp_path / "home")] == [".style"]  # so that the next try reads it all
    os.truncate(path, 50)
    with pytest.raises(ProfileError, match="line 40 was changed"):
        _ = profile.items[39].title
    path.write_bytes(content)
    assert profile.items[20].title == "Loaf 20"


@pytest.mark.parametrize("wrong", ["a short section", "segments", "bad"])
def test_sound_files_that_make_no_sense_are_refused(path: Path, wrong: str) -> None:
    """As a bug of ours might write them."""
    shelf = cache.shelf()
    for file in kept_files(path.parent / "home"):
        name = file.name.removesuffix(".kept")
        key = learned_style._KEY if ".style" in name else str(cache.FORMAT)
        kept = shelf.open(name, key)
        assert kept is not None
        sections = {section: bytes(content) for section, content in kept.sections.items()}
        about = {**kept.about} if wrong == "a short section" else {**kept.about, wrong: 5}
        if wrong == "a short section":
            section = "codes" if ".style" in name else "starts"
            sections[section] = sections[section][:-8]
        shelf.write(name, key, about, sections)
    assert facts_of(Profile.open(path)) == without_cache(path)


def test_what_is_kept_of_another_file_is_not_taken_for_this_ones(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(path.read_bytes().replace(b"Loaf", b"Roll"))
    for file in kept_files(tmp_path / "home"):
        digest = cache.name_of(path, "")
        file.with_name(file.name.replace(digest, cache.name_of(other, ""))).write_bytes(file.read_bytes())
    assert facts_of(Profile.open(other)) == without_cache(other)


def test_another_process_takes_over_what_one_has_kept(path: Path) -> None:
    code = """
import sys
from pathlib import Path
from prlm_edge import tasks
from prlm_edge.profile import Profile, cache, lazy_items, learn, snapshot
cache.KEEP_FROM, snapshot._RACY_NS = 1, 30_000_000
items, style = learn(Profile.open(sys.argv[1]), tasks.get_task("title", None))
print(all(type(item) is lazy_items.StoredItem for item in items), style == eval(sys.stdin.read(), vars(
    __import__("prlm_edge.style.counts").style.counts)), len(items), "numpy" in sys.modules)
"""
    style = repr(learn(Profile.open(path), TASKS[0])[1])
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], input=style, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["True", "True", "40", "False"], done.stderr


def test_small_profiles_are_not_kept(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEEP_FROM", 41)
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "other"))
    assert not is_stored(Profile.open(path))
    assert len(learn(Profile.open(path), TASKS[0])[0]) == 40
    assert kept_files(tmp_path / "other") == []


def test_a_link_and_the_file_itself_share_what_is_kept(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    n_before = len(kept_files(tmp_path / "home"))
    assert is_stored(Profile.open(tmp_path / "link"))
    assert len(kept_files(tmp_path / "home")) == n_before == 2


def test_recurring_words_are_counted_in_all_titles_even_if_not_asked_for_each_time(path: Path) -> None:
    """Asked for in the first 40 titles, too rare among 83, asked for again in 123."""
    rare = [f"w{i}x" for i in range(40)]
    for titles in ([*rare, *["Loaf again"] * 3], [f"Loaf {i}" for i in range(40, 80)], ["Loaf, Rye"] * 90):
        with path.open("ab") as stream:
            stream.writelines(
                json.dumps({"title": title, "text": repr(time.time_ns())}).encode() + b"\n" for title in titles
            )
        time.sleep(1.5 * SETTLED_S)
        profile = Profile.open(path)
        assert is_stored(profile)
        found = facts_of(profile)
        assert found == without_cache(path)
        vocabulary = found["styles"][0][0].fact("vocabulary")
        assert vocabulary is None if len(profile) == 83 else vocabulary.value[0] == "loaf"
    assert vocabulary.value == ("loaf", "rye")


def test_how_lines_are_read_is_what_the_kept_hashes_were_made_by() -> None:
    """If this fails, what was kept by an older version is wrong now: raise `cache.FORMAT`, then change it."""
    lines = [
        '{"title": " A ", "abstract": "b\\ud800"}',
        '{"id": 3.0, "headline": "h", "content": "c", "date": 2024}',
        '{"title": "t", "text": "x", "meta": {"topic": "rye", "change": "+ a"}}',
    ]
    items = [parse_line(line.encode()) for line in lines]
    assert (cache.FORMAT, [(item.id, item.content_hash, item.date) for item in items]) == (
        4,
        [
            ("x9da3e6c12e2a39c", "9da3e6c12e2a39c1edfa393cbd83fb53", ""),
            ("3", "7b3a0ebbeb62dc9f3bf56285f0d32c90", "2024"),
            ("xe333786b3e75dba", "e333786b3e75dba7b5f2a353cdff5869", ""),
        ],
    )
    searched = [item.search_hash for item in items]
    assert searched == [*(item.content_hash for item in items[:2]), "c8f8ccb0dde5f52c018754c1e9bec361"]
