"""`prlm-edge task`, in process and once as a user runs it."""

import json
import os
import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from prlm_edge.cli.task import app
from prlm_edge.errors import ConfigError, UsageError

NAMES = ["commit", "headline", "note", "paraphrase", "title", "write"]


def run(*args):
    return CliRunner().invoke(app, list(args), catch_exceptions=True)


@pytest.fixture(autouse=True)
def own_home(home):
    return home


def test_list_names_every_task_and_the_file_of_ones_own(home):
    assert run("init", "haiku").exit_code == 0
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*NAMES, "haiku"]
    assert str(home / "config" / "tasks" / "haiku.toml") in lines[-1]
    assert "toml" not in lines[0]
    found = json.loads(run("list", "--json").stdout)
    assert [task["name"] for task in found] == [*NAMES, "haiku"]
    assert [task["builtin"] for task in found] == [True] * 6 + [False]


def test_show_prints_the_file_and_where_it_is():
    result = run("show", "title")
    assert tomllib.loads(result.stdout)["name"] == "title"
    assert result.stdout.startswith("# ")
    assert "task init title" in result.stderr
    values = json.loads(run("show", "title", "--json").stdout)
    assert values["request"] == "Write a title for: {text}"


def test_which_says_where_a_request_goes():
    assert run("which", "a title for my post on rye").stdout == "title: Write a title for: my post on rye\n"
    assert json.loads(run("which", "--json", "some lines on rye").stdout) == {
        "task": "write",
        "text": "some lines on rye",
        "asked": "Write: some lines on rye",
    }


def test_init_makes_a_task_that_works_at_once(home):
    result = run("init", "haiku", "--from", "write")
    path = home / "config" / "tasks" / "haiku.toml"
    assert result.stdout.strip() == str(path)
    assert "generate --task haiku" in result.stderr
    assert run("which", "a haiku for my cat").stdout == "haiku: Write: my cat\n"
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_init_of_a_built_in_copies_that_one_and_replaces_it(home):
    assert run("init", "commit").exit_code == 0
    assert json.loads(run("show", "commit", "--json").stdout)["kinds"] == ["commit"]
    assert json.loads(run("show", "commit", "--json").stdout)["builtin"] is False


def test_init_never_overwrites(home):
    run("init", "haiku")
    path = home / "config" / "tasks" / "haiku.toml"
    path.write_text(path.read_text("utf-8") + "# mine\n", "utf-8")
    error = run("init", "haiku").exception
    assert isinstance(error, UsageError) and "is there already" in error.message
    assert path.read_text("utf-8").endswith("# mine\n")


def test_tasks_dir_is_made_by_init_and_read_by_the_rest(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    assert isinstance(run("list", "--tasks-dir", str(folder)).exception, ConfigError)
    assert run("init", "haiku", "--tasks-dir", str(folder)).exit_code == 0
    assert "haiku" in run("list", "--tasks-dir", str(folder)).stdout
    assert "haiku" not in run("list").stdout
    monkeypatch.setenv("PRLM_TASKS_DIR", str(folder))
    assert "haiku" in run("list").stdout


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["init", "Mein Text"], "can't be a task's name", "lower-case letters"),
        (["init", "../evil"], "can't be a task's name", "lower-case letters"),
        (["init", "x", "--from", "titel"], "no task 'titel'", "did you mean title?"),
        (["show", "titel"], "no task 'titel'", "did you mean title?"),
    ],
)
def test_wrong_names_say_what_to_do(home, args, message, hint):
    error = run(*args).exception
    assert isinstance(error, UsageError)
    assert message in error.message and hint in error.hint
    assert not (home / "config").exists()


def test_a_broken_file_is_one_line_and_exit_code_2(home):
    folder = home / "config" / "tasks"
    folder.mkdir(parents=True)
    (folder / "haiku.toml").write_text('name = "haiku"\nnown = "x"\n', "utf-8")
    result = subprocess.run([sys.executable, "-m", "prlm_edge", "task", "list"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert "haiku.toml: unknown key 'nown'" in first
    assert "did you mean noun?" in second
