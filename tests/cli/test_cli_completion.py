"""Shell completion of verbs that are imported only when needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prlm_edge import cli
from prlm_edge.cli import main
from prlm_edge.cli.shared import table as _table

COMMAND = [sys.executable, "-m", "prlm_edge"]


def run(*args, **kwargs):
    env = {**os.environ, "COLUMNS": "100", **kwargs.pop("env", {})}
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=60, env=env, **kwargs)


def complete(line, shell="bash"):
    words = line.split(" ")
    env = {
        "_PRLM_EDGE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = run(env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_verbs_complete():
    assert complete("prlm-edge pro") == ["profile"]
    assert complete("prlm-edge ") == list(_table.VERBS)
    assert complete("prlm-edge --v") == ["--version"]


def test_subcommands_options_and_values_of_a_lazy_verb_complete():
    assert complete("prlm-edge config s") == ["show", "set"]
    assert complete("prlm-edge config show --j") == ["--json"]
    assert complete("prlm-edge config set retr") == ["retriever"]
    assert complete("prlm-edge config set retriever b") == ["bm25"]
    assert complete("prlm-edge completion z") == ["zsh"]


def test_fish_and_zsh_get_help_too():
    assert complete("prlm-edge pro", "fish") == [f"profile\t{_table.VERBS['profile'].help}"]
    assert "profile" in "".join(complete("prlm-edge pro", "zsh"))


def test_completing_a_verb_imports_no_verb():
    code = (
        "import sys\n"
        "from prlm_edge.cli import main; main([])\n"
        "sys.stderr.write(' '.join(m for m in sys.modules if m.startswith('prlm_edge.cli.')))"
    )
    env = {**os.environ, "_PRLM_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": "prlm-edge ", "COMP_CWORD": "1"}
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env).stderr.split()
    assert {name.rpartition(".")[2] for name in loaded} == {"shared", "console", "group", "table"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_prints_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert cli.COMPLETE_VAR in script
    assert "prlm-edge" in script


def test_the_bash_script_completes_in_a_real_bash(tmp_path):
    script = Path(sys.executable).with_name("prlm-edge")
    if os.name != "posix" or not Path("/bin/bash").exists() or not script.exists():
        pytest.skip("needs bash and the installed command")
    file = tmp_path / "completion.bash"
    file.write_text(run("completion", "bash").stdout)
    lines = (
        f"source {file}; COMP_WORDS=(prlm-edge config s); COMP_CWORD=2; "
        "_prlm_edge_completion prlm-edge; echo ${COMPREPLY[@]}"
    )
    env = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/bash", "--norc", "-c", lines], capture_output=True, text=True, env=env)
    assert (done.stdout, done.stderr) == ("show set\n", "")
