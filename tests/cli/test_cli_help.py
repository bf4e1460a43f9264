"""The frame of the command line: help, version, wrong command lines, docs/cli.md, and how little is imported."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PRLM

from prlm_edge import cli
from prlm_edge.cli import main
from prlm_edge.cli.shared import dispatch, docs, table
from prlm_edge.settings import KEYS

CLI_MD = Path(__file__).parents[2] / "docs" / "cli.md"


# -- help and version


@pytest.mark.parametrize("name", table.VERBS)
def test_a_verb_says_what_the_table_says(name, capsys):
    command = dispatch.load(name)
    first, _, listed = table.VERBS[name].partition(": ")
    commands = getattr(command, "commands", None)
    if commands is not None:  # a group's line names exactly its commands
        assert sorted(listed.rstrip(".").split(", ")) == sorted(commands)
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: prlm-edge {name}") and err == ""
    assert first.split(",")[0] in " ".join(out.split()) or name == "train"
    assert "╭" not in out  # Rich would draw boxes
    assert "\\b" not in out and "\b" not in out


def test_every_module_and_folder_is_a_verb_of_the_table():
    folder = Path(cli.__file__).parent
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in folder.glob("*/__init__.py")}
    names |= {path.stem for path in folder.glob("[!_]*.py")}
    assert names - {"shared"} == set(table.VERBS)


def test_help_fits_a_terminal_of_100_columns():
    assert max(map(len, table.help_text().splitlines())) <= 100


@pytest.mark.parametrize(
    ("args", "code", "out", "err"),
    [
        (["--help"], 0, table.help_text() + "\n", ""),
        (["-h"], 0, table.help_text() + "\n", ""),
        (["--version"], 0, f"prlm-edge {importlib.metadata.version('prlm-edge')}\n", ""),
        ([], 2, "", table.help_text() + "\n"),
    ],
)
def test_help_and_version(args, code, out, err, capsys):
    assert main(args) == code
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize("args", [["config"], ["profile", "import"]])
def test_a_group_without_a_command_is_its_help_as_an_error(args, capsys):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"Usage: prlm-edge {' '.join(args)} ")


def test_the_console_script_and_the_module_are_the_same():
    script = Path(sys.executable).with_name("prlm-edge" + (".exe" if os.name == "nt" else ""))
    if not script.exists():
        pytest.skip("prlm-edge is not installed beside this interpreter")
    said = [subprocess.run([*start, "--help"], capture_output=True).stdout for start in ([script], PRLM)]
    assert said[0] == said[1] == (table.help_text() + os.linesep).encode()


def test_every_setting_but_secrets_is_an_option_of_generate():
    options = {param.name: param for param in dispatch.load("generate").params}
    assert {key for key, spec in KEYS.items() if spec.secret} == {"api_key"} == KEYS.keys() - options.keys()
    assert all(KEYS[key].about[1:] in options[key].help for key in KEYS.keys() & options.keys())


def test_docs_are_up_to_date_whatever_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    text = docs.pages()
    assert CLI_MD.read_text("utf-8") == text, "run `make docs`"
    assert all(f"\n## prlm-edge {verb}\n" in text and f"Usage: prlm-edge {verb} " in text for verb in table.VERBS)
    assert all(f"\n| `{key}` |" in text for key in KEYS)


# -- wrong command lines


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["prof"], "no command 'prof'", "did you mean profile? 'prlm-edge --help' lists the commands"),
        (["gen"], "no command 'gen'", "did you mean generate?"),
        (["zork"], "no command 'zork'", "'prlm-edge --help' lists the commands"),
        (["--zork"], "no such option: --zork", "'prlm-edge --help' shows the options"),
        (["config", "shw"], "no such command 'shw'. Did you mean 'show'?", "'prlm-edge config --help'"),
        (["config", "show", "--jsn"], "no such option: --jsn", "'prlm-edge config show --help'"),
        (["config", "set", "k"], "missing argument 'VALUE'", "'prlm-edge config set --help'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish', 'powershell'", "completion --help"),
        (["doctor", "--config"], "option '--config' requires an argument", "'prlm-edge doctor --help'"),
        (["generate", "-k", "four", "x"], "not a whole number", "'prlm-edge generate --help'"),
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

HEAVY = {
    "huggingface_hub", "llama_cpp", "numpy", "onnxruntime", "rich", "tokenizers", "torch"
}  # fmt: skip
NOT_FOR_HELP = HEAVY | {"asyncio", "difflib", "filelock", "platformdirs", "pydantic", "typer"}


def loaded_modules(code, *argv):
    code = f"import sys\n{code}\nsys.stderr.write(chr(10) + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.rpartition("\n")[2].split()}


def test_the_help_loads_nothing_but_itself():
    code = "import prlm_edge; from prlm_edge.cli import main; main(['--help']); main([])"
    assert not loaded_modules(code) & NOT_FOR_HELP


def test_the_help_of_no_verb_loads_what_is_heavy():
    code = "from prlm_edge.cli import main\nfor verb in sys.argv[1:]: main([verb, '--help'])"
    assert not loaded_modules(code, *table.VERBS) & HEAVY


def test_wrong_requests_of_training_and_export_do_not_load_pytorch(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "rows.jsonl").touch()
    wrong = ["warmstart --set x", "grpo --data gone", "reward --recipe gone", "blend --adapter gone", "rejection"]
    wrong = [*(f"train {one} --data rows.jsonl --out run" for one in wrong), "train --out run", "train warmstart"]
    wrong += [
        "export gguf gone -o x",
        "export gguf . -o x --quant q3",
        "export onnx . -o x --quant q8",
        "export adapter . -o x",
    ]
    code = (
        "import os; from prlm_edge.cli import main\nos.chdir(sys.argv[1])\n"
        "codes = {line: main(line.split()) for line in sys.argv[2:]}\nassert set(codes.values()) == {2}, codes"
    )
    assert not loaded_modules(code, tmp_path, *wrong) & {"torch", "transformers", "peft", "trl"}
