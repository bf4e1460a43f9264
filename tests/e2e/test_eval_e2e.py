"""`prlm-edge eval` with the real model: run, stop, go on, compare, report; and real users' profiles do help."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from evaluation import row, shared, write_rows
from helpers import PRLM, prlm, running

from prlm_edge.cli import main

pytestmark = [pytest.mark.model, pytest.mark.slow]


def run(*args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = prlm("eval", *args)
    assert done.returncode == code, done.stderr
    return done


def answers(path: Path) -> dict[tuple[str, str], str]:
    lines = map(json.loads, (path / "answers.jsonl").read_text().splitlines())
    return {(line["condition"], line["row"]): line["reasoning"] + line["answer"] for line in lines}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "dev.jsonl", [row(user) for user in range(6)])


@pytest.mark.usefixtures("smollm2_path")
def test_killed_and_asked_again_it_ends_as_it_would_have(data: Path, tmp_path: Path) -> None:
    # no adapter: with one, a request that is left over alone rounds otherwise than in a batch
    flags = ["-k", "1,2", "--baselines", "--set", "answer_tokens=12", "--set", "adapter=none", "--reasoning", "hide"]
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    table = run("run", data, "--out", straight, *flags).stdout
    assert table.splitlines()[0].startswith("users: 6")
    assert table.splitlines()[2].split()[:2] == ["CONDITION", "ROUGE1"]
    assert len(table.splitlines()) == 11
    command = [*PRLM, "eval", "run", str(data), "--out", str(stopped), *flags]
    for kill in (signal.SIGKILL, signal.SIGINT):
        before = len(answers(stopped)) if kill is signal.SIGINT else 36
        with running(command, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                if (stopped / "answers.jsonl").exists() and len(answers(stopped)) > before:
                    process.send_signal(kill)
                    break
                time.sleep(0.02)
            errors = process.communicate()[1]
        if kill is signal.SIGINT and process.returncode:  # it may have ended just then
            assert process.returncode == 130
            assert "the same command goes on" in errors
    run("run", data, "--out", stopped, *flags)
    assert answers(stopped) == answers(straight)
    assert len(answers(straight)) == 48


@pytest.mark.usefixtures("smollm2_path")
def test_run_show_compare_and_report(data: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "settings: {reasoning: off, answer_tokens: 12}\nconditions:\n  zero-shot: {profile: none}\n  own: {k: 2}\n"
        "  best: {k: 2, best_of: 3, select: style}\n"
    )
    out = tmp_path / "run"
    run("run", data, "--out", out, "--plan", plan, "--limit", 4)
    summary = json.loads(run("show", out, "--json").stdout)
    assert summary["conditions"]["own"]["rouge1"]["mean"] > summary["conditions"]["zero-shot"]["rouge1"]["mean"]
    assert len(json.loads((out / "answers.jsonl").read_text().splitlines()[-1])["candidates"]) == 3
    compared = run("compare", f"{out}:zero-shot", ":own", "--metric", "rouge1").stdout
    assert "better" in compared
    assert "4/0/0" in compared
    run("report", out, "--out", tmp_path / "r.html", "--markdown", tmp_path / "r.md")
    assert "zero-shot" in (tmp_path / "r.html").read_text()
    assert "| own |" in (tmp_path / "r.md").read_text()
    (out / "scores.jsonl").unlink()
    assert "not scored yet" in run("compare", f"{out}:zero-shot", ":own", code=2).stderr
    run("score", out)
    assert run("show", out, "--full").stdout.splitlines()[2].split()[-1] == "USERS/MIN"


@pytest.mark.usefixtures("smollm2_path")
def test_on_real_commits_another_users_profile_is_worse(tmp_path: Path) -> None:
    data = shared("commit_subject", "dev.jsonl.gz")
    run("run", data, "--out", tmp_path / "run", "--limit", 16, "--profile", "own,other", "-k", 2, "--reasoning", "off")
    found = json.loads(
        run("compare", f"{tmp_path / 'run'}:profile=other", ":profile=own", "--metric", "style_match", "--json").stdout
    )
    (one,) = found["metrics"]
    assert one["difference"]["mean"] > 0.1
    assert one["difference"]["low"] > 0


def test_what_is_wrong_with_a_command_is_a_line(
    data: Path, tmp_path: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    for args, message in (
        (("run", tmp_path / "none.jsonl", "--out", out), "no such file"),
        (("run", data, "--out", out, "--set", "k"), "not of the form KEY=VALUES"),
        (("run", data, "--out", out, "--set", "kk=1"), "can't set 'kk'"),
        (("run", data, "--out", out, "-k", "many"), "not a whole number"),
        (("run", data, "--out", out, "--plan", tmp_path / "none.yaml"), "No such file"),
        (("show", out), "no such file"),
        (("compare", f"{out}:a", ":b"), "no such file"),
        (("report", out), "no such file"),
    ):
        assert main(["eval", *map(str, args)]) == 2
        errors = capfd.readouterr().err.splitlines()
        assert len(errors) == 2, errors
        assert message in errors[0]
        assert not out.exists()
    assert main(["eval", "run", str(data), "--out", str(out)]) == 4  # no model in this home
    assert not out.exists()
