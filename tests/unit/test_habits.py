"""Habits that a user has crossed out are followed nowhere, until they are restored."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from helpers import EXAMPLE

from prlm_edge import Profile, Writer, tasks
from prlm_edge.backends.scripted import Scripted
from prlm_edge.errors import ProfileError
from prlm_edge.profile import cross_out, crossed_out, crossed_out_for, habits_path, learn, restore
from prlm_edge.settings import load_settings
from prlm_edge.style import example_line, style_of

pytestmark = pytest.mark.usefixtures("home")
KEYS = ["case:lower", "period:no", "words"]
ANSWERS = ("A Long Answer That Ends.", "slow bread", "fountain pens leak: again", "the oven is cold")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "me.jsonl"
    path.write_bytes(EXAMPLE.read_bytes())
    return path


def followed(writer: Writer, request: str = "winter sourdough", task: str = "title") -> dict[str, str]:
    """Where the habits of a request show."""
    plan = writer.plan(request, task=task, reasoning="hide")
    result = writer.generate(request, task=task, n=4, select="style")
    return {
        "style": " ".join(fact.phrase for fact in plan.scoring.style.facts),
        "lines": " ".join(turn.text.partition("<answer>")[0] for turn in plan.prompt.turns if turn.role == "assistant"),
        "reasons": " ".join(why for one in result.candidates for why in one.why),
        "order": str([one.answer for one in result.candidates]),
    }


def test_a_habit_that_is_crossed_out_is_followed_nowhere(path: Path) -> None:
    writer = Writer(Profile.open(path), load_settings(), Scripted([f"<answer>{one}</answer>" for one in ANSWERS * 3]))
    before = followed(writer)
    assert all("lower case" in before[where] for where in ("style", "lines", "reasons"))
    cross_out(path, KEYS[:1])
    cross_out(path, KEYS)
    after = followed(writer)  # the Writer that is open notices
    for where, said in after.items():
        assert not any(phrase in said for phrase in ("lower case", "no final period", "about 6 words")), where
    assert "colon" in after["style"] and after["order"] != before["order"]
    assert stat.S_IMODE(habits_path(path).stat().st_mode) == 0o600
    assert restore(path) == 3
    assert not habits_path(path).exists()
    assert followed(writer) == before


def test_for_one_task_or_for_all(path: Path) -> None:
    cross_out(path, ["case:lower"], "commit")
    cross_out(path, ["period:no"])
    assert crossed_out(path) == {"commit": ["case:lower"], "": ["period:no"]}
    assert crossed_out_for(path, "commit") == {"case:lower", "period:no"}
    profile = Profile.open(path)
    found = {name: {fact.key for fact in learn(profile, tasks.get_task(name))[1].facts} for name in ("commit", "title")}
    assert found["title"] - found["commit"] == {"case:lower"}
    assert restore(path, ["case:lower", "period:no"], "title") == 0
    assert restore(path, ["case:lower", "words"], "commit") == 1
    assert restore(path, ["period:no"]) == 1


def test_words_that_recur_go_with_the_vocabulary() -> None:
    style = style_of(["notes on bread", "notes on rye", "notes on rain"])
    assert style.recurring and style.fact("vocabulary")
    left = style.without({"vocabulary"})
    assert (left.recurring, left.fact("vocabulary")) == ((), None)
    assert style.without(()) is style


@pytest.mark.parametrize(
    ("crossed_out", "line"),
    [
        ((), "4 words, lower case, tag 'docs:'."),
        (("tag",), "4 words, lower case."),
        (("words", "tag"), "lower case."),
        (("words", "tag", "case:lower", "period:no"), "4 words."),
    ],
)
def test_reasoning_lines_leave_it_out(crossed_out: tuple[str, ...], line: str) -> None:
    style = style_of(["docs: mend it now", "docs: bake it", "docs: say it again", "docs: rye"]).without(crossed_out)
    said = example_line(1, "docs: mend the oven", "", [], style)
    assert said.removesuffix(", no final period.").removesuffix(".") == line.removesuffix(".")


@pytest.mark.parametrize("damage", [b"not json", b"[]", b'{"crossed_out": {"": [3]}}', b"\xff"])
def test_a_damaged_file_is_named_and_kept(path: Path, damage: bytes) -> None:
    habits_path(path).write_bytes(damage)
    for use in (lambda: learn(Profile.open(path), tasks.get_task("title")), lambda: cross_out(path, ["words"])):
        with pytest.raises(ProfileError, match="habits"):
            use()
    assert habits_path(path).read_bytes() == damage
