"""The store on a healthy disk: appending, refreshing, removing, updating, repairing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prlm_edge.errors import ProfileError, UsageError
from prlm_edge.profile import Profile
from prlm_edge.profile import snapshot as profile_snapshot
from prlm_edge.types import Item

RAW = (
    b'{"id":"a","text":"first","rating":1.50,"z":{"b":1,"a":2}}\n'
    b"\n"
    b'{"title": "second",   "id": "b", "unknown": [1, 2.0, 1e3]}\r\n'
    b'\xef\xbb\xbf{"id": "c", "abstract": "third"}\n'
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "me.jsonl"


def ids(profile: Profile) -> list[str]:
    return [item.id for item in profile]


def test_create_writes_nothing_until_something_is_added(path: Path) -> None:
    profile = Profile.open(path, create=True)
    assert (len(profile), path.exists()) == (0, False)
    assert profile.append([]).added == 0
    assert not path.exists()
    done = profile.append([Item("a", "text"), Item("", "no id", "T")])
    assert (done.added, done.duplicates) == (2, 0)
    assert list(done.ids) == ids(profile) == ids(Profile.open(path))
    assert path.read_bytes().count(b"\n") == 2


def test_missing_parents_are_made_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deeper" / "me.jsonl"
    Profile.open(path, create=True).append([Item("a", "t")])
    assert [p.stat().st_mode & 0o777 for p in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]


def test_an_empty_file_is_an_empty_profile(path: Path) -> None:
    path.write_bytes(b"")
    profile = Profile.open(path)
    assert (len(profile), profile.bad, profile.repair().changed) == (0, [], False)


def test_duplicates_are_skipped_and_counted_whatever_their_id(path: Path) -> None:
    profile = Profile.open(path, create=True)
    profile.append([Item("a", "text", "Title", date="2020")])
    done = profile.append(
        [Item("b", " text ", "Title"), Item("c", "new"), Item("d", "new", kind="x"), Item("a", "text", "Title")]
    )
    assert (done.added, done.duplicates, done.ids) == (1, 3, ("c",))
    assert profile.has_content(Item("?", "new"))
    assert not profile.has_content(Item("?", "newer"))


def test_a_taken_id_costs_no_item(path: Path) -> None:
    profile = Profile.open(path, create=True)
    done = profile.append([Item("1", "one"), Item("1", "two"), Item("1", "three")])
    assert done.added == 3
    assert len(set(done.ids)) == 3
    again = profile.append([Item("1", "two"), Item("1", "three")])
    assert (again.added, again.duplicates) == (0, 2)


def test_surrogates_are_added_once(path: Path) -> None:
    profile = Profile.open(path, create=True)
    assert profile.append([Item("a", "x\udcffy")]).added == 1
    assert profile.append([Item("b", "x\udcffy")]).duplicates == 1
    assert [item.text for item in Profile.open(path)] == ["x\ufffdy"]


@pytest.mark.parametrize(
    "item", [Item("a"), Item("a", " \n"), Item("a", "t", meta={"x": object()}), Item("a", "x" * 17_000_000)]
)
def test_what_can_not_be_a_line_is_refused_whole(path: Path, item: Item) -> None:
    profile = Profile.open(path, create=True)
    with pytest.raises(UsageError, match="item 'a'"):
        profile.append([Item("good", "good"), item])
    assert not path.exists()


def test_items_in_memory_are_those_on_disk(path: Path) -> None:
    profile = Profile.open(path, create=True)
    profile.append([Item("a", "t", "T", "2020", "post", "s", {"tags": ("x", "y"), "n": 1.5})])
    assert profile.items == Profile.open(path).items
    assert profile.get("a") == profile.items[0]
    assert profile.get("zzz") is None


def test_a_torn_last_line_never_swallows_the_next_record(path: Path) -> None:
    path.write_bytes(RAW + b'{"id": "torn", "te')
    profile = Profile.open(path)
    assert ids(profile) == ["a", "b", "c"]
    assert profile.bad[0].reason.endswith("(the line is cut off)")
    profile.append([Item("new", "text")])
    profile.append([Item("newer", "text 2")])
    assert ids(profile) == ids(Profile.open(path)) == ["a", "b", "c", "new", "newer"]
    assert path.read_bytes().startswith(RAW + b'{"id": "torn", "te\n{"id": "new"')
    assert [line.number for line in profile.bad] == [line.number for line in Profile.open(path).bad] == [5]


def test_a_good_last_line_without_a_line_break_is_kept(path: Path) -> None:
    path.write_bytes(RAW[:-1])
    profile = Profile.open(path)
    assert ids(profile) == ["a", "b", "c"]
    profile.append([Item("d", "t")])
    assert path.read_bytes() == RAW + b'{"id": "d", "text": "t"}\n'
    assert profile.remove(["c"]) == 1
    assert path.read_bytes() == RAW[: RAW.index(b"\xef\xbb\xbf")] + b'{"id": "d", "text": "t"}\n'


def test_removing_copies_every_other_byte(path: Path) -> None:
    garbage = b"\xff\xfe garbage \x00\n"
    path.write_bytes(garbage[:0] + RAW + garbage)
    profile = Profile.open(path)
    assert profile.remove(["b", "nothing", "b"]) == 1
    lines = RAW.splitlines(keepends=True)
    assert path.read_bytes() == lines[0] + lines[1] + lines[3] + garbage
    assert ids(profile) == ["a", "c"]
    assert [line.number for line in profile.bad] == [4]


def test_updating_replaces_in_place_and_keeps_unknown_fields(path: Path) -> None:
    path.write_bytes(RAW)
    profile = Profile.open(path)
    assert profile.update([Item("a", "newer", "T"), Item("nobody", "x")]) == 1
    lines = path.read_bytes().split(b"\n")
    assert json.loads(lines[0]) == {"id": "a", "title": "T", "text": "newer", "rating": 1.5, "z": {"b": 1, "a": 2}}
    assert b"\n".join(lines[1:]) == RAW.partition(b"\n")[2]
    assert profile.get("a").text == "newer"  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="neither text nor title"):
        profile.update([Item("a")])


def test_repair_moves_bad_lines_byte_for_byte(path: Path) -> None:
    bad = [b"garbage\r\n", b'{"id": "x"}\n', b"\xff\xff\n", b'{"id": "torn", "te']
    path.write_bytes(bad[0] + RAW + b"".join(bad[1:]))
    profile = Profile.open(path)
    assert [line.number for line in profile.bad] == [1, 6, 7, 8]
    done = profile.repair()
    assert (done.moved, done.renamed) == (4, ())
    assert done.side_file is not None
    assert done.side_file.name.startswith("me.jsonl.rejected-")
    assert done.side_file.read_bytes() == b"".join(bad)
    assert done.side_file.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == RAW
    assert (profile.bad, ids(profile)) == ([], ["a", "b", "c"])
    assert not profile.repair().changed


def test_two_repairs_in_one_second_use_two_side_files(path: Path) -> None:
    path.write_bytes(RAW)
    profile = Profile.open(path)
    sides = []
    for text in (b"one\n", b"two\n"):
        with path.open("ab") as stream:
            stream.write(text)
        profile.refresh()
        sides.append(profile.repair().side_file)
    assert [side.read_bytes() for side in sides if side] == [b"one\n", b"two\n"]


def test_repair_gives_a_sound_line_with_a_taken_id_another_one(path: Path) -> None:
    path.write_bytes(RAW + b'{"n": 1.0, "id": "a", "text": "not the first"}\n{"id": "a", "text": "first"}\n')
    profile = Profile.open(path)
    assert [line.reason for line in profile.bad] == ["id 'a' is taken by line 1", "same item as line 1"]
    done = profile.repair()
    assert done.moved == 1
    ((number, old, new),) = done.renamed
    assert (number, old) == (5, "a")
    assert profile.get(new).text == "not the first"  # type: ignore[union-attr]
    assert path.read_bytes() == RAW + b'{"n": 1.0, "id": "%s", "text": "not the first"}\n' % new.encode()
    assert done.side_file is not None
    assert done.side_file.read_bytes() == b'{"id": "a", "text": "first"}\n'


def test_repair_closes_the_last_line(path: Path) -> None:
    path.write_bytes(RAW[:-1])
    done = Profile.open(path).repair()
    assert (done.closed, done.moved, done.side_file) == (True, 0, None)
    assert path.read_bytes() == RAW


def test_a_64_mib_line_is_named_moved_and_harmless(path: Path) -> None:
    path.write_bytes(RAW)
    with path.open("ab") as stream:
        stream.write(b'{"id": "huge", "text": "')
        for _ in range(64):
            stream.write(b"x" * (1 << 20))
        stream.write(b'"}\n{"id": "after", "text": "t"}\n')
    profile = Profile.open(path)
    assert ids(profile) == ["a", "b", "c", "after"]
    assert (profile.bad[0].number, profile.bad[0].reason[:19]) == (5, "longer than 16 MiB ")
    done = profile.repair()
    assert done.side_file is not None
    assert done.side_file.stat().st_size == (64 << 20) + 27
    assert path.read_bytes() == RAW + b'{"id": "after", "text": "t"}\n'


def test_refresh_sees_what_others_append(path: Path) -> None:
    path.write_bytes(RAW)
    profile = Profile.open(path)
    before = profile.items
    assert not profile.refresh()
    Profile.open(path).append([Item("d", "t")])
    assert profile.refresh()
    assert ids(profile) == ["a", "b", "c", "d"]
    assert len(before) == 3  # a list that was handed out doesn't change under its holder
    assert not profile.refresh()


def test_appending_reads_only_the_new_tail(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Profile.open(path, create=True).append([Item(f"{i}", f"text {i}") for i in range(50)])
    profile = Profile.open(path)
    Profile.open(path).append([Item("other", "by another process")])
    parsed = []
    parse = profile_snapshot.parse_line
    monkeypatch.setattr(profile_snapshot, "parse_line", lambda data: parsed.append(data) or parse(data))
    done = profile.append([Item("mine", "by another process"), Item("mine2", "x")])
    assert (done.added, done.duplicates) == (1, 1)
    assert len(parsed) == 1


def _same_size_edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"first", b"FIRST"))


def _same_size_edit_with_kept_mtime(path: Path) -> None:
    status = path.stat()
    _same_size_edit(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().replace(b"first", b"FIRST"))
    other.replace(path)


def _edited_and_longer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"first", b"FIRST") + b'{"id":"d","text":"d"}\n')


@pytest.mark.parametrize("edit", [_same_size_edit, _same_size_edit_with_kept_mtime, _replaced, _edited_and_longer])
def test_refresh_notices_every_edit(path: Path, edit: Callable[[Path], None]) -> None:
    path.write_bytes(RAW)
    profile = Profile.open(path)
    edit(path)
    assert profile.refresh()
    assert profile.items[0].text == "FIRST"
    assert list(profile) == Profile.open(path).items


def test_refresh_notices_a_cut_and_a_missing_file(path: Path) -> None:
    path.write_bytes(RAW)
    profile = Profile.open(path)
    path.write_bytes(RAW.partition(b"\n")[0] + b"\n")
    assert profile.refresh()
    assert ids(profile) == ["a"]
    path.unlink()
    with pytest.raises(UsageError, match="no such profile"):
        profile.refresh()
    profile.append([Item("n", "new")])  # what is gone is not written back
    assert ids(profile) == ids(Profile.open(path)) == ["n"]


def test_an_interrupted_read_is_done_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(RAW)
    profile = Profile.open(path)
    with path.open("ab") as stream:
        stream.write(b'{"id":"d","text":"d"}\n{"id":"e","text":"e"}\n')
    parse = profile_snapshot.parse_line

    def interrupted(data: bytes) -> Item:
        if b'"e"' in data:
            raise KeyboardInterrupt
        return parse(data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(profile_snapshot, "parse_line", interrupted)
        profile.refresh()
    profile.refresh()
    assert ids(profile) == ["a", "b", "c", "d", "e"]
    assert profile.bad == []


def test_bom_crlf_and_blank_lines(path: Path) -> None:
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "text": "t"}\r\n\r\n   \n\t\r\n{"id": "b", "text": "u"}\r\n')
    profile = Profile.open(path)
    assert (ids(profile), profile.bad) == (["a", "b"], [])
    path.write_bytes(b"\xef\xbb\xbf\r\n")
    assert (len(Profile.open(path)), Profile.open(path).bad) == (0, [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GGUF\x03\x00\x00\x00" + b"\x00" * 100, "is a GGUF model"),
        (b"\x1f\x8b\x08\x00", "is a gzip file"),
        (b"\x00\x01\x02\xff" * 50, "not a profile (binary data)"),
        (b"\xff\xfe{\x00}\x00", "is UTF-16 text"),
        (b"# A README\n\nwith text\n", "no line of it is a JSON object"),
        (b'[\n  {"id": "a", "text": "t"}\n]', "is a JSON array"),
        (b"x" * 200_000, "no line of it is a JSON object"),
    ],
)
def test_what_was_never_a_profile_is_refused_and_untouched(path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    for create in (False, True):
        with pytest.raises(UsageError) as caught:
            Profile.open(path, create=create)
        assert said in caught.value.message.replace("is not a", "not a")
        assert caught.value.hint
    with pytest.raises(UsageError):
        Profile(path).append([Item("a", "t")])
    assert path.read_bytes() == content


def test_missing_folder_and_odd_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such profile"):
        Profile.open(tmp_path / "none.jsonl")
    for create in (False, True):
        with pytest.raises(UsageError, match="is a folder"):
            Profile.open(tmp_path, create=create)
        with pytest.raises(UsageError, match="not a regular file"):
            Profile.open(os.devnull, create=create)
        with pytest.raises(ProfileError, match="File name too long"):
            Profile.open(tmp_path / ("n" * 300), create=create)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(ProfileError, match="Too many levels"):
        Profile.open(loop, create=True)
    (tmp_path / "file").write_text("")
    with pytest.raises((UsageError, ProfileError)):
        Profile.open(tmp_path / "file" / "me.jsonl")


def test_a_home_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Profile.open("~/me.jsonl", create=True).append([Item("a", "t")])
    assert (tmp_path / "me.jsonl").exists()


def test_each_line_is_parsed_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening parses; removing compares what was read with the file, copies it, and reads the result."""
    lines = [b'{"id": "p%d", "text": "%s"}\n' % (i, b"word " * 60) for i in range(500)]
    path.write_bytes(b"".join(lines) + b"bad\n" * 500)
    parsed, parse = [], profile_snapshot.parse_line
    monkeypatch.setattr(profile_snapshot, "parse_line", lambda data: parsed.append(data) or parse(data))
    profile = Profile.open(path)
    assert (len(profile), len(profile.bad), len(parsed)) == (500, 500, 1000)
    assert profile.remove(f"p{i}" for i in range(0, 500, 2)) == 250
    assert (profile.items[0].id, len(parsed)) == ("p1", 1750)
