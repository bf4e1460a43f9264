"""Shell completion of verbs that are imported only when needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prlm_edge.cli import main
from prlm_edge.cli.shared.table import COMPLETE_VAR, VERBS


@pytest.fixture
def complete(monkeypatch, capsys):
    def run(line, shell="bash"):
        words = line.split(" ")
        env = {
            COMPLETE_VAR: f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        assert main([]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out.split() if shell == "bash" else out.splitlines()

    return run


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("prlm-edge pro", ["profile"]),
        ("prlm-edge ", list(VERBS)),
        ("prlm-edge --v", ["--version"]),
        ("prlm-edge --inst", []),
        ("prlm-edge config s", ["show", "set"]),
        ("prlm-edge config show --j", ["--json"]),
        ("prlm-edge config set retr", ["retriever"]),
        ("prlm-edge config set retriever b", ["bm25"]),
        ("prlm-edge generate --prefix-cache d", ["disk"]),
        ("prlm-edge profile import j", ["jsonl"]),
        ("prlm-edge completion z", ["zsh"]),
    ],
)
def test_verbs_options_and_values_complete(complete, line, found):
    assert complete(line) == found


def test_fish_and_zsh_get_help_too(complete):
    assert complete("prlm-edge pro", "fish") == [f"profile\t{VERBS['profile']}"]
    assert VERBS["profile"].partition(":")[0] in "".join(complete("prlm-edge pro", "zsh"))


def test_completing_a_verb_imports_no_verb():
    code = (
        "import sys\n"
        "from prlm_edge.cli import main; main([])\n"
        "sys.stderr.write(' '.join(m for m in sys.modules if m.startswith('prlm_edge.cli.')))"
    )
    env = {**os.environ, COMPLETE_VAR: "complete_bash", "COMP_WORDS": "prlm-edge ", "COMP_CWORD": "1"}
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env).stderr.split()
    assert {name.rpartition(".")[2] for name in loaded} == {"shared", "console", "dispatch", "table"}


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_completion_prints_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert COMPLETE_VAR in script and "prlm-edge" in script
    assert COMPLETE_VAR not in os.environ


def test_the_bash_script_completes_in_a_real_bash(tmp_path, capsys):
    script = Path(sys.executable).with_name("prlm-edge")
    if os.name != "posix" or not Path("/bin/bash").exists() or not script.exists():
        pytest.skip("needs bash and the installed command")
    assert main(["completion", "bash"]) == 0
    file = tmp_path / "completion.bash"
    file.write_text(capsys.readouterr().out)
    lines = (
        f"source {file}; COMP_WORDS=(prlm-edge config s); COMP_CWORD=2; "
        "_prlm_edge_completion prlm-edge; echo ${COMPREPLY[@]}"
    )
    env = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/bash", "--norc", "-c", lines], capture_output=True, text=True, env=env)
    assert (done.stdout, done.stderr) == ("show set\n", "")
