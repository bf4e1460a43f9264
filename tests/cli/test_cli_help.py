"""The frame of the command line: help, version, wrong command lines, and how little is imported for them."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from prlm_edge import cli
from prlm_edge.cli import main
from prlm_edge.cli.shared import group as _group
from prlm_edge.cli.shared import table as _table

COMMAND = [sys.executable, "-m", "prlm_edge"]


def run(*args, **kwargs):
    env = {**os.environ, "COLUMNS": "100", **kwargs.pop("env", {})}
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=60, env=env, **kwargs)


# -- help and version


@pytest.mark.parametrize("name", _table.VERBS)
def test_each_line_of_the_static_help_is_the_verb_s_own(name):
    command = _group.load(name)
    assert command.help, f"{name} has no help"
    assert command.help.strip().splitlines()[0] == _table.VERBS[name].help
    assert f"  {name} " in _table.help_text()
    assert _table.VERBS[name].help in _table.help_text()


@pytest.mark.parametrize("name", _table.VERBS)
def test_a_verb_s_help_is_plain_and_named_after_the_verb(name, capsys):
    assert main([name, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"Usage: prlm-edge {name}")
    assert captured.err == ""
    assert "╭" not in captured.out  # Rich would draw boxes


def test_every_module_of_the_folder_that_is_a_verb_is_in_the_table():
    names = {path.stem for path in Path(cli.__file__).parent.glob("[!_]*")} - {"shared"}
    assert names == set(_table.VERBS)


def test_a_group_s_line_names_exactly_its_commands():
    for name, verb in _table.VERBS.items():
        commands = getattr(_group.load(name), "commands", None)
        if commands is not None:
            listed = verb.help.partition(": ")[2].rstrip(".").split(", ")
            assert sorted(listed) == sorted(commands), name


def test_help_fits_a_terminal_of_100_columns():
    assert max(map(len, _table.help_text().splitlines())) <= 100


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(flag):
    done = run(flag)
    assert (done.returncode, done.stdout, done.stderr) == (0, _table.help_text() + "\n", "")


def test_no_arguments_print_help_on_stderr_and_fail():
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (2, "", _table.help_text() + "\n")


def test_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert run("--version").stdout == f"prlm-edge {version('prlm-edge')}\n"


def test_the_console_script_and_the_module_are_the_same():
    script = Path(sys.executable).with_name("prlm-edge" + (".exe" if os.name == "nt" else ""))
    if not script.exists():
        pytest.skip("prlm-edge is not installed beside this interpreter")
    assert subprocess.run([script, "--help"], capture_output=True, text=True).stdout == run("--help").stdout


# -- wrong command lines


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["prof"], "no command 'prof'", "did you mean 'prlm-edge profile'?"),
        (["gen"], "no command 'gen'", "did you mean 'prlm-edge generate'?"),
        (["zork"], "no command 'zork'", "'prlm-edge --help' lists the commands"),
        (["--zork"], "no such option: --zork", "'prlm-edge --help' shows the options"),
        (["config", "shw"], "no such command 'shw'. Did you mean 'show'?", "'prlm-edge config --help'"),
        (["config", "show", "--jsn"], "no such option: --jsn", "'prlm-edge config show --help'"),
        (["config", "set", "k"], "missing argument 'VALUE'", "'prlm-edge config set --help'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish', 'powershell'", "completion --help"),
        (["doctor", "--config"], "option '--config' requires an argument", "'prlm-edge doctor --help'"),
        (["generate", "-k", "four", "x"], "invalid value for '-k': not a whole number", "'prlm-edge generate --help'"),
        (["zork\x1b[31m"], r"no command 'zork\x1b[31m'", "lists the commands"),
    ],
)
def test_a_wrong_command_line_is_two_lines_and_exit_2(args, message, hint, capsys):
    assert main(args) == 2
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()
    assert captured.out == ""
    assert first.startswith("prlm-edge: ")
    assert message in first
    assert second.startswith("  ")
    assert hint in second
    assert "\x1b" not in captured.err


# -- weight


def loaded_modules(code):
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys\nsys.stderr.write(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.split()}


HEAVY = {
    "numpy",
    "rich",
    "pydantic",
    "typer",
    "torch",
    "onnxruntime",
    "llama_cpp",
    "tokenizers",
    "huggingface_hub",
    "rank_bm25",
    "numkong",
    "platformdirs",
    "filelock",
    "asyncio",
}


@pytest.mark.parametrize(
    "code",
    [
        "import prlm_edge",
        "from prlm_edge.cli import main; main(['--help'])",
        "from prlm_edge.cli import main; main([])",
    ],
)
def test_nothing_heavy_is_loaded(code):
    assert not loaded_modules(code) & HEAVY


@pytest.mark.parametrize("name", _table.VERBS)
def test_a_verb_s_help_loads_no_model_runtime(name):
    loaded = loaded_modules(f"from prlm_edge.cli import main; main([{name!r}, '--help'])")
    assert not loaded & (HEAVY - {"typer", "pydantic", "platformdirs", "filelock", "asyncio"})


def test_verbs_of_the_table_can_be_imported():
    for verb in _table.VERBS.values():
        assert isinstance(importlib.import_module(verb.module).app, typer.Typer)
