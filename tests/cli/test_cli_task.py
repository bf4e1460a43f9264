"""`prlm-edge task`."""

import json
import os
import tomllib
from functools import partial

import pytest

NAMES = ["commit", "headline", "note", "paraphrase", "title", "write"]


@pytest.fixture
def run(cli):
    return partial(cli, "task")


def test_list_names_every_task_and_the_file_of_ones_own(run, home):
    assert run("init", "haiku").code == 0
    lines = run("list").out.splitlines()
    assert [line.split()[0] for line in lines] == [*NAMES, "haiku"]
    assert str(home / "config" / "tasks" / "haiku.toml") in lines[-1]
    assert "toml" not in lines[0]
    found = json.loads(run("list", "--json").out)
    assert [task["name"] for task in found] == [*NAMES, "haiku"]
    assert [task["builtin"] for task in found] == [True] * 6 + [False]


def test_show_prints_the_file_and_where_it_is(run):
    result = run("show", "title")
    assert tomllib.loads(result.out)["name"] == "title"
    assert result.out.startswith("# ")
    assert "task init title" in result.err
    values = json.loads(run("show", "title", "--json").out)
    assert values["request"] == "Write a title for: {text}"


def test_which_says_where_a_request_goes(run):
    assert run("which", "a title for my post on rye").out == "title: Write a title for: my post on rye\n"
    assert json.loads(run("which", "--json", "some lines on rye").out) == {
        "task": "write",
        "text": "some lines on rye",
        "asked": "Write: some lines on rye",
    }


def test_init_makes_a_task_that_works_at_once(run, home):
    result = run("init", "haiku", "--from", "write")
    path = home / "config" / "tasks" / "haiku.toml"
    assert result.out.strip() == str(path)
    assert "generate --task haiku" in result.err
    assert run("which", "a haiku for my cat").out == "haiku: Write: my cat\n"
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_init_of_a_built_in_copies_that_one_and_replaces_it(run, home):
    assert run("init", "commit").code == 0
    assert json.loads(run("show", "commit", "--json").out)["kinds"] == ["commit"]
    assert json.loads(run("show", "commit", "--json").out)["builtin"] is False


def test_init_never_overwrites(run, home):
    run("init", "haiku")
    path = home / "config" / "tasks" / "haiku.toml"
    path.write_text(path.read_text("utf-8") + "# mine\n", "utf-8")
    done = run("init", "haiku")
    assert done.code == 2 and "is there already" in done.err
    assert path.read_text("utf-8").endswith("# mine\n")


def test_tasks_dir_is_made_by_init_and_read_by_the_rest(run, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    assert run("list", "--tasks-dir", folder).code == 2
    assert run("init", "haiku", "--tasks-dir", str(folder)).code == 0
    assert "haiku" in run("list", "--tasks-dir", str(folder)).out
    assert "haiku" not in run("list").out
    monkeypatch.setenv("PRLM_TASKS_DIR", str(folder))
    assert "haiku" in run("list").out


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["init", "Mein Text"], "can't be a task's name", "lower-case letters"),
        (["init", "../evil"], "can't be a task's name", "lower-case letters"),
        (["init", "x", "--from", "titel"], "no task 'titel'", "did you mean title?"),
        (["show", "titel"], "no task 'titel'", "did you mean title?"),
    ],
)
def test_wrong_names_say_what_to_do(run, home, args, message, hint):
    code, _, err = run(*args)
    first, second = err.splitlines()
    assert code == 2 and message in first and hint in second
    assert not (home / "config").exists()


def test_a_broken_file_is_one_line_and_exit_code_2(run, home):
    folder = home / "config" / "tasks"
    folder.mkdir(parents=True)
    (folder / "haiku.toml").write_text('name = "haiku"\nnown = "x"\n', "utf-8")
    result = run("list")
    assert result.code == 2
    assert result.out == ""
    first, second = result.err.splitlines()
    assert "haiku.toml: unknown key 'nown'" in first
    assert "did you mean noun?" in second
