"""Several answers on the command line: how they are printed, and what each key of --pick does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from prlm_edge.backends.scripted import Scripted
from prlm_edge.cli import main
from prlm_edge.cli.shared.pick import pick_one
from prlm_edge.cli.shared.terminal import Terminal
from prlm_edge.errors import UsageError
from prlm_edge.types import Candidate


class Typed(Terminal):
    """Types given keys; what is edited gets a word more, `None` where the editor is left."""

    def __init__(self, keys: str, edited: str | None = " more") -> None:
        self.keys, self.edited, self.shown = iter(keys), edited, ""

    def say(self, text: str) -> None:
        self.shown += text

    def key(self) -> str:
        return next(self.keys)

    def edit(self, text: str) -> str | None:
        return None if self.edited is None else text + self.edited


def rounds(*answers: str) -> Iterator[tuple[Candidate, ...]]:
    """Of each round the answers between bars."""
    yield from (tuple(map(Candidate, filter(None, some.split("|")))) for some in answers)


@pytest.mark.parametrize(
    ("keys", "drawn", "taken"),
    [
        ("2", ["bread|oven"], "oven"),
        ("\n", ["bread|oven"], "bread"),
        ("x30\r", ["bread|oven"], "bread"),
        ("e2", ["bread|oven"], "oven more"),
        ("E\n", ["bread|oven"], "bread more"),
        ("e", ["bread"], "bread more"),
        ("eq1", ["bread|oven"], "bread"),
        ("r1", ["bread|oven", "Bread.|the kettle"], "the kettle"),
        ("rr1", ["bread|oven", "the oven", "the kettle|oven"], "the kettle"),
        ("r2", ["bread|oven", "the bread"], "oven"),
        ("r", ["bread|oven", ""], None),
        *((key, ["bread|oven"], None) for key in "q\x1b\x04Q"),
        ("", [""], None),
    ],
)
def test_what_a_key_takes(keys: str, drawn: list[str], taken: str | None) -> None:
    found = rounds(*drawn)
    asked: list[int] = []
    picked = pick_one(Typed(keys), lambda n: (asked.append(n), next(found))[1])
    assert (picked.text if picked else None) == taken
    assert asked == list(range(len(drawn)))


def test_an_edit_that_is_given_up_goes_back_to_the_list() -> None:
    terminal = Typed("e1q", edited=None)
    assert pick_one(terminal, lambda _: next(rounds("two\nlines|one"))) is None
    assert terminal.shown.count("1  two\n   lines\n2  one\n") == 2
    blank = pick_one(Typed("e11", edited="\n"), lambda _: (Candidate("one"), Candidate("oven")))
    assert blank == ("one", ("one", "oven"))


def test_several_lines_are_edited_in_an_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "my editor"
    editor.write_text('#!/bin/sh\necho three >> "$2"\n')
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", f"'{editor}' --wait")
    terminal = Terminal(0, 1)
    assert terminal.edit("one\ntwo") == "one\ntwo\nthree\n"
    editor.write_text("#!/bin/sh\nexit 1\n")
    assert terminal.edit("one\ntwo") is None
    monkeypatch.setenv("VISUAL", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="none"):
        terminal.edit("one\ntwo")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["-n", "3", "--task", "title"], ["slow bread", "the oven"]),
        (["-n", "3", "--task", "write"], ["slow bread", "---", "the oven"]),
        (["-n", "1", "--task", "write"], ["slow bread"]),
    ],
)
def test_how_answers_are_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str], printed: list[str]
) -> None:
    def replies(*_: object) -> Scripted:
        return Scripted(
            [f"<answer>{text}</answer>" for text in ("slow bread", "The oven", "Slow bread!", "slow bread")]
        )

    monkeypatch.setattr("prlm_edge.writer.writer.open_backend", replies)
    words = ["generate", "--select", "consensus", *options, "a kitchen in winter"]
    assert main(words) == 0
    assert capsys.readouterr().out.lower().splitlines() == printed
    assert main([*words, "--json"]) == 0
    candidates = json.loads(capsys.readouterr().out)["candidates"]
    assert [one["answer"].lower() for one in candidates] == ([] if len(printed) == 1 else [printed[0], printed[-1]])
    assert all(one["score"] is not None and one["why"] == [] for one in candidates)  # nobody's habits are known
