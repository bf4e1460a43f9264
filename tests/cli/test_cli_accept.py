"""`prlm-edge accept`, and what `generate` keeps for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cli
from helpers import EXAMPLE

from prlm_edge import Profile
from prlm_edge.backends.scripted import Scripted
from prlm_edge.cli.shared import terminal
from prlm_edge.feedback import drafts_path, read_pairs
from prlm_edge.storage import cache_dir

ANSWERS = ("slow bread at last", "the oven is cold", "a walk in the hills", "fountain pens leak")
ASK = ("generate", "--user", "me.jsonl", "--task", "title", "--select", "consensus", "winter sourdough")


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def opened(*_: object) -> Scripted:
        return Scripted([f"<answer>{one}</answer>" for one in ANSWERS])

    monkeypatch.setattr("prlm_edge.writer.writer.open_backend", opened)
    path = tmp_path / "me.jsonl"
    path.write_bytes(EXAMPLE.read_bytes())
    return path


def test_the_last_answer_is_accepted_without_saying_which(cli: Cli, path: Path) -> None:
    assert cli(*ASK).out == f"{ANSWERS[0]}\n"
    ran = cli("accept")
    assert (ran.code, "never learned from" in ran.err) == (0, True)
    item = Profile.open(path).get(ran.out.strip())
    assert item is not None
    assert (item.title, item.topic, item.kind, item.teaches) == (ANSWERS[0], "winter sourdough", "post", False)
    ran = cli("accept", "--final", "-", stdin=b"slow bread, again\r\n")
    assert ran.out.strip() == item.id and "brought up to date" in ran.err
    item = Profile.open(path).get(item.id)
    assert item is not None and item.title == "slow bread, again" and item.teaches
    found = json.loads(cli("search", "--user", "me.jsonl", "winter sourdough", "-k", 99, "--json").out)["hits"]
    assert item.id in [hit["id"] for hit in found]
    assert cli("accept", "--final", "slow bread at last").code == 0
    found = json.loads(cli("search", "--user", "me.jsonl", "winter sourdough", "-k", 99, "--json").out)["hits"]
    assert found and item.id not in [hit["id"] for hit in found]


def test_an_app_names_the_draft_and_the_answer(cli: Cli, path: Path) -> None:
    shown = json.loads(cli(*ASK, "-n", 3, "--json").out)
    last = json.loads(cli(*ASK, "--jsonl").out.splitlines()[-1])
    assert shown["draft"] != last["draft"]
    ran = json.loads(cli("accept", shown["draft"], "--number", 2, "--json").out)
    taken = shown["candidates"][1]["answer"]
    assert ran == {
        **{"item": f"a{shown['draft']}", "draft": shown["draft"], "origin": "accepted", "distance": 0.0},
        **{"added": True, "pairs": 2, "profile": str(path)},
    }
    assert {(one.chosen, one.why) for one in read_pairs(path)} == {(taken, "left")}
    listed = json.loads(cli("accept", "--list", "--json").out)
    assert [one["id"] for one in listed] == [last["draft"], shown["draft"]]
    assert last["draft"] in cli("accept", "--list").out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["gone"], "no draft 'gone'"),
        (["--number", 2], "has 1 answer"),
        (["--number", 1, "--final", "x"], "exclude each other"),
        (["--final", ""], "empty text"),
        (["--final", "one\ntwo"], "several lines"),
        (["--user", "other.jsonl"], "no answer is kept"),
    ],
)
def test_what_can_not_be_accepted(cli: Cli, path: Path, args: list[object], said: str) -> None:
    cli(*ASK)
    before = path.read_bytes()
    ran = cli("accept", *args)
    assert (ran.code, ran.out, said in ran.err) == (2, "", True)
    assert path.read_bytes() == before


def test_nothing_is_kept_where_it_is_not_wanted(cli: Cli) -> None:
    for more in (["--drafts", 0], ["--dry-run"]):
        assert cli(*ASK, *more).code == 0
        assert not drafts_path().exists()
    assert json.loads(cli(*ASK, "--drafts", 0, "--json").out)["draft"] == ""
    without = [one for one in ASK if one not in ("--user", "me.jsonl")]
    assert cli(*without).code == 0  # there is no profile to add to
    assert not drafts_path().exists()
    assert cli("accept").code == 2


def test_an_answer_that_can_not_be_kept_is_an_answer(cli: Cli) -> None:
    drafts_path().mkdir(parents=True)
    ran = cli(*ASK)
    assert (ran.code, ran.out, "not kept for" in ran.err) == (0, f"{ANSWERS[0]}\n", True)


@pytest.mark.parametrize(("wanted", "origin"), [("no", None), ("picked", "edited")])
def test_what_was_picked_joins_the_profile_if_the_user_set_that(
    cli: Cli, path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, origin: str | None
) -> None:
    class Typed(terminal.Terminal):
        typed = iter("e2")

        def say(self, text: str) -> None:
            pass

        def key(self) -> str:
            return next(self.typed)

        def edit(self, text: str) -> str | None:
            return f"{text}, once more"

    @contextlib.contextmanager
    def opened(_: str) -> Iterator[terminal.Terminal]:
        yield Typed(0, 0)

    monkeypatch.setattr(terminal, "open_terminal", opened)
    before = len(Profile.open(path))
    ran = cli(*ASK, "--pick", "--accept", wanted)
    assert ran.code == 0 and ran.out.endswith(", once more\n")
    profile = Profile.open(path)
    assert len(profile) - before == (origin is not None)
    if origin is None:
        assert cli("accept").code == 0  # what was picked, as it was edited
    item = Profile.open(path).items[-1]
    assert f"{item.title}\n" == ran.out and item.meta["origin"] == "edited"
    assert [one.why for one in read_pairs(path)] == ["changed", "left", "left", "left"]


def test_what_came_of_answers_is_listed_and_deletable(cli: Cli, path: Path) -> None:
    before = json.loads(cli("profile", "stats", "--user", path, "--json").out)
    assert all(not one["n"] for one in before["feedback"].values() if isinstance(one, dict))
    for final in ([], ["--final", "my own words"]):
        cli(*ASK, "-n", 3)
        cli("accept", *final)
    cli(*ASK)
    cli("style", "cross-out", "tag", "--user", path)
    stats = json.loads(cli("profile", "stats", "--user", path, "--json").out)
    found = stats["feedback"]
    assert (found["edited"], found["accepted"], stats["items"]) == (1, 1, before["items"] + 2)
    assert {name: (one["n"], Path(one["path"]).exists()) for name, one in found.items() if isinstance(one, dict)} == {
        **{"pairs": (5, True), "drafts": (3, True), "crossed_out": (1, True)}
    }
    shown = cli("profile", "stats", "--user", path).out
    assert "1 edited, 1 as they were" in shown and str(drafts_path()) in shown and "me.jsonl.pairs" in shown
    edited = next(item for item in Profile.open(path) if item.title == "my own words")
    ran = json.loads(cli("profile", "rm", edited.id, "--user", path, "--yes", "--json").out)
    assert (ran["removed"], ran["pairs"], ran["drafts"]) == (1, 3, 1)
    assert "my own words" not in path.with_name("me.jsonl.pairs").read_text() + drafts_path().read_text()
    assert cli("profile", "rm", "--pairs", "--drafts", "--user", path, "--yes").code == 0
    assert not path.with_name("me.jsonl.pairs").exists() and not drafts_path().exists()
    assert cli("profile", "rm", "--source", "prlm-edge", "--user", path, "--yes").code == 0
    cli("style", "restore", "--all", "--user", path)
    assert json.loads(cli("profile", "stats", "--user", path, "--json").out) == before


def test_what_remains_of_a_removed_item_is_said(cli: Cli, path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"not json\n")
    cli("profile", "repair", "--user", path)
    cli(*ASK, "--prefix-cache", "disk")
    (cache_dir() / "prefix").mkdir(parents=True, exist_ok=True)
    (cache_dir() / "prefix" / "x.kept").write_bytes(b"x")
    id = Profile.open(path).items[0].id
    remains = json.loads(cli("profile", "rm", id, "--user", path, "--yes", "--json").out)["remains"]
    assert [Path(one["where"]).name.partition("-")[0] for one in remains] == ["me.jsonl.rejected", "prefix"]
    assert remains[1]["command"] == "prlm-edge cache clear prefixes"
    assert cli("cache", "clear", "prefixes", "--yes").code == 0
    again = cli("profile", "rm", Profile.open(path).items[0].id, "--user", path, "--yes").err
    assert "rejected-" in again and "cache clear" not in again
