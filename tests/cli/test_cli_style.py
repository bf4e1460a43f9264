"""`prlm-edge style`: habits shown, checked, exported and crossed out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import Cli
from helpers import EXAMPLE

ME = ("--user", "me.jsonl")


@pytest.fixture(autouse=True)
def path(tmp_path: Path) -> Path:
    path = tmp_path / "me.jsonl"
    path.write_bytes(EXAMPLE.read_bytes())
    return path


def test_habits_are_shown_by_task(cli: Cli) -> None:
    styles = json.loads(cli("style", "show", *ME, "--json").out)["styles"]
    assert {task for one in styles for task in one["tasks"]} >= {"title", "commit", "write"}
    titles = next(one for one in styles if "title" in one["tasks"])
    habit = next(one for one in titles["habits"] if one["key"] == "case:lower")
    assert habit == {"key": "case:lower", "phrase": "lower case", "value": "lower", "share": 1.0, "crossed_out": False}
    shown = cli("style", "show", *ME, "--task", "title").out.splitlines()
    assert shown[0] == "title: from 46 items" and shown[1].split() == ["100%", "lower", "case", "case:lower"]


@pytest.mark.parametrize(
    ("text", "more", "code", "said"),
    [
        ("slow bread: a loaf again", (), 0, "100% of your habits, as a title"),
        ("Slow bread: a loaf again.", ("--min", "0.9"), 1, "breaks: lower case, no final period"),
        ("slow bread: a loaf again\n\n# a comment", ("--task", "commit", "--min", 1), 0, "100%"),
        ("One line.\nAnother, by me.", (), 0, "as a text"),
        (" \n", (), 2, ""),
        ("x", ("--min", 2), 2, ""),
    ],
)
def test_a_text_is_checked(cli: Cli, tmp_path: Path, text: str, more: tuple[object, ...], code: int, said: str) -> None:
    for ran in (
        cli("style", "check", "-", *ME, *more, stdin=text.encode()),
        (tmp_path / "text").write_text(text) and cli("style", "check", "text", *ME, *more),
    ):
        assert (ran.code, said in ran.out) == (code, True), ran
    if code < 2:
        found = json.loads(cli("style", "check", "text", *ME, *more, "--json").out)
        assert 0 <= found["match"] <= 1 and bool(found["broken"]) == (found["match"] < 1)


def test_facts_are_exported_without_texts_unless_asked(cli: Cli) -> None:
    titles = [json.loads(line)["title"] for line in EXAMPLE.read_text("utf-8").splitlines()]
    for form in ("md", "skill", "json"):
        out = cli("style", "export", *ME, "--as", form).out
        assert "lower case" in out and not any(title in out for title in titles)
        assert "says 'two'" not in out
        assert titles[-1] in cli("style", "export", *ME, "--as", form, "--quote", 1).out
    _, head, body = cli("style", "export", *ME, "--as", "skill").out.split("---\n", 2)
    assert yaml.safe_load(head).keys() == {"name", "description"} and body.startswith("\n# How I write\n")
    assert cli("style", "export", *ME, "--as", "skil").err.splitlines()[1].startswith("  did you mean skill?")


def test_crossing_out_and_back(cli: Cli, path: Path) -> None:
    assert cli("style", "cross-out", "lower case", "tag", *ME).code == 0
    assert json.loads(path.with_name("me.jsonl.habits").read_text()) == {"crossed_out": {"": ["case:lower", "tag"]}}
    assert "crossed out" in cli("style", "show", *ME).out
    assert "lower case" not in cli("style", "export", *ME).out
    assert cli("style", "check", "-", *ME, "--min", 1, stdin=b"Slow bread: a loaf again").code == 0
    assert cli("style", "restore", "tag", *ME, "--task", "commit").err == "0 habits restored for commit\n"
    assert cli("style", "restore", "--all", *ME).err == "2 habits restored\n"
    assert cli("style", "check", "-", *ME, "--min", 1, stdin=b"Slow bread: a loaf again").code == 1
    for wrong in (["restore"], ["restore", "tag", "--all"], ["cross-out", "lowercase"], ["cross-out"]):
        assert cli("style", *wrong, *ME).code == 2
    assert "did you mean lower case?" in cli("style", "cross-out", "lowercase", *ME).err
