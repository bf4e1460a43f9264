"""Any sequence of additions, removals, foreign writes, garbage and repairs keeps every good record, byte for byte."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prlm_edge.profile import LineError, Profile
from prlm_edge.profile.lines import parse_line
from prlm_edge.types import Item

TEXT = st.text(min_size=1, max_size=30).filter(lambda text: text.strip())
COMMON = st.sampled_from(["same", "other"]) | TEXT  # so that contents meet again
NUMBERS = st.sampled_from(["1.50", "1e3", "-0.0", "12345678901234567890", "1"])


def _is_bad(data: bytes) -> bool:
    try:
        parse_line(data)
    except LineError:
        return bool(data.strip()) and data.strip() != b"\xef\xbb\xbf"
    return False


GARBAGE = st.one_of(
    st.binary(min_size=1, max_size=40).map(lambda data: data.replace(b"\n", b"\x00")),
    st.sampled_from([b'{"id": "half', b'{"id": "x"}', b"[]", b'{"text": 5}', b"\xed\xa0\x80", b"\x00" * 20]),
).filter(_is_bad)


class Store(RuleBasedStateMachine):
    """The model: raw bytes of each good line by id, in file order, and every garbage line ever written."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "me.jsonl"
        self.good: dict[str, bytes] = {}
        self.hashes: set[str] = set()
        self.garbage: list[bytes] = []
        self.torn = False
        self.number = 0
        self.profile = Profile.open(self.path, create=True)
        self.add([("seed", "the first line makes it a profile")])

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def _note(self, item: Item, line: bytes) -> None:
        self.good[item.id] = line
        self.hashes.add(item.content_hash)

    @rule(pairs=st.lists(st.tuples(st.just("") | TEXT, COMMON), min_size=1, max_size=3))
    def add(self, pairs: list[tuple[str, str]]) -> None:
        before = self.path.read_bytes() if self.path.exists() else b""
        self.number += 1
        items = [Item(f"i{self.number}.{k}", text, title) for k, (title, text) in enumerate(pairs)]
        done = self.profile.append(items)
        new = [item for item in items if item.id in done.ids]
        expected = {item.content_hash for item in items} - self.hashes
        assert {item.content_hash for item in new} == expected
        assert (done.added, done.duplicates) == (len(expected), len(items) - len(expected))
        after = self.path.read_bytes()
        assert after.startswith(before)
        closing = b"\n" if before and not before.endswith(b"\n") and new else b""
        lines = after[len(before) + len(closing) :].split(b"\n")[:-1] if new else []
        for item, line in zip(new, lines, strict=True):
            self._note(item, line + b"\n")
        if new:
            self.torn = False

    @precondition(lambda self: not self.torn)
    @rule(text=COMMON, number=NUMBERS, crlf=st.booleans(), known=st.booleans())
    def another_program_writes_a_line(self, text: str, number: str, crlf: bool, known: bool) -> None:
        """With unknown fields, number formats and spaces of its own; half of the time on top of what we have read."""
        self.number += 1
        id = f"f{self.number}"
        line = f'{{"x":{number} ,"text":{json.dumps(text)},"id":"{id}"}}'.encode() + (b"\r\n" if crlf else b"\n")
        with self.path.open("ab") as stream:
            stream.write(line)
        self._note(parse_line(line), line)
        if known:
            assert self.profile.refresh()

    @precondition(lambda self: not self.torn)
    @rule(data=GARBAGE, closed=st.booleans())
    def garbage_is_written(self, data: bytes, closed: bool) -> None:
        with self.path.open("ab") as stream:
            stream.write(data + (b"\n" if closed else b""))
        self.garbage.append(data)
        self.torn = not closed

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.good)), max_size=2, unique=True))
        chosen = [id for id in chosen if not id.startswith("i1.")]  # the seed stays
        assert self.profile.remove([*chosen, "nobody"]) == len(chosen)
        for id in chosen:
            self.hashes.discard(parse_line(self.good.pop(id)).content_hash)
        self.hashes = {parse_line(line).content_hash for line in self.good.values()}

    @rule()
    def repair(self) -> None:
        bad = len(Profile.open(self.path).bad)
        done = self.profile.repair()
        assert done.moved == bad
        assert self.profile.bad == []
        assert self.path.read_bytes() == b"".join(self.good.values())
        self.torn = False

    @rule()
    def refresh(self) -> None:
        fresh = Profile.open(self.path)
        self.profile.refresh()
        assert self.profile.items == fresh.items
        assert self.profile.bad == fresh.bad

    @rule()
    def open_anew(self) -> None:
        self.profile = Profile.open(self.path)

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "path") or not self.path.exists():
            return
        content = self.path.read_bytes()
        fresh = Profile.open(self.path)
        assert fresh.items == [parse_line(line) for line in self.good.values()]
        position = 0
        for line in self.good.values():  # every good line stands as it was written, in order
            position = content.index(line, position) + len(line)
        moved = b"".join(side.read_bytes() for side in sorted(self.folder.glob("*.rejected-*")))
        for data in self.garbage:
            assert data in content or data in moved


Store.TestCase.settings = settings(
    max_examples=40, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStore = Store.TestCase
