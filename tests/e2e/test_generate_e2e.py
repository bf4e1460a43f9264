"""`prlm-edge generate` as users type it: real processes, the real model, the example profile, pipes and bad input."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import EXAMPLE, PRLM, answer_alone, on_terminal, prlm, stopped_at

from prlm_edge.cli import main

pytestmark = pytest.mark.model


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm2_path: Path) -> None:
    """A folder and settings of its own; the real model is named by its path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRLM_MODEL", str(smollm2_path))


def git(*args: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *args], capture_output=True, text=True, check=True).stdout


def test_the_answer_alone_is_on_stdout_and_the_reasoning_on_stderr() -> None:
    draft = "title for my post:\n\nSourdough takes its time in winter.\n\nMine stands by the stove for two days."
    words = ["generate", "--user", EXAMPLE, draft]
    done = prlm(*words, "--reasoning", "show")
    assert done.returncode == 0
    [answer] = done.stdout.splitlines()
    assert answer.strip() == answer
    assert "sourdough" in answer.lower()
    assert done.stderr.strip()
    assert "<think>" not in done.stderr + done.stdout
    again = prlm(*words, "--reasoning", "hide")
    assert again.stdout == done.stdout  # greedy, and hidden reasoning is still done
    assert again.stderr == ""
    assert prlm(*words).stderr == ""  # the default model was not trained to reason


def test_on_a_terminal_the_progress_bar_is_gone_before_the_answer_comes() -> None:
    words = ["-u", EXAMPLE, "title for winter sourdough", "-k", "9", "--reasoning", "show"]
    code, shown = on_terminal([*PRLM, "generate", *words])
    assert code == 0
    answer_alone(shown, b"reading the prompt")


def test_json_says_everything() -> None:
    done = prlm("generate", "-u", EXAMPLE, "title for winter sourdough", "--json", "-k", "3", "--reasoning", "show")
    record = json.loads(done.stdout)
    assert record["answer"]
    assert record["reasoning"]
    assert record["task"] == "title"
    assert len(record["used"]) == 3
    assert all(used["score"] >= 0 for used in record["used"])
    assert len(record["model"]["sha256"]) == 64
    assert record["usage"]["prompt_tokens"] > 100
    assert record["usage"]["decode_s"] > 0
    assert done.stderr == ""


def test_jsonl_events_add_up_to_the_answer() -> None:
    done = prlm("generate", "-u", EXAMPLE, "title for winter sourdough", "--jsonl")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [events[0]["type"], events[-1]["type"]] == ["loading", "done"]
    streamed = "".join(event["text"] for event in events if event["type"] == "answer")
    assert streamed.strip() == events[-1]["answer"]


def test_dry_run_prints_prompt_and_items_and_generates_nothing() -> None:
    done = prlm("generate", "-u", EXAMPLE, "title for winter sourdough", "--dry-run")
    text = done.stdout
    assert "--- assistant\n<answer>" in text
    assert text.rstrip().endswith("task title")
    record = json.loads(prlm("generate", "-u", EXAMPLE, "title for winter sourdough", "--dry-run", "--json").stdout)
    assert record["turns"][-1]["role"] == "user"
    assert record["retrieved"]


def test_a_request_from_a_pipe() -> None:
    piped = prlm("generate", "-u", EXAMPLE, "--task", "title", "-", input="a cold kitchen and slow bread\n")
    direct = prlm("generate", "-u", EXAMPLE, "--task", "title", "a cold kitchen and slow bread")
    assert piped.returncode == 0
    assert piped.stdout == direct.stdout


def test_a_commit_subject_from_the_git_log_of_a_repository(tmp_path: Path) -> None:
    """git log -> profile -> git diff --staged | prlm-edge generate --task commit -."""
    repo = tmp_path / "kettle"
    repo.mkdir()
    os.chdir(repo)
    git("init", "-q")
    for i, part in enumerate(("boiler", "lid", "spout", "handle", "whistle", "base")):
        (repo / f"{part}.py").write_text(f"def {part}():\n    return {i}\n")
        git("add", ".")
        git("commit", "-q", "-m", f"{part}: add the {part}\n\nIt was missing.\n\nSigned-off-by: Ada <ada@example.org>")
    git("config", "user.email", "ada@example.org")
    done = prlm("profile", "import", "git", str(repo), "--user", "me.jsonl")
    assert done.returncode == 0, done.stderr
    profile = (repo / "me.jsonl").read_text()
    assert len(profile.splitlines()) == 6
    assert "ada@example.org" not in profile
    assert prlm("profile", "import", "git", str(repo), "--user", "me.jsonl").returncode == 0
    assert (repo / "me.jsonl").read_text() == profile  # importing twice adds nothing
    (repo / "boiler.py").write_text("def boiler():\n    return 'hotter'\n")
    git("add", "boiler.py")
    done = prlm("generate", "--user", "me.jsonl", "--task", "commit", "-", input=git("diff", "--staged"))
    assert done.returncode == 0, done.stderr
    [subject] = done.stdout.splitlines()
    assert "boiler" in subject


def test_ctrl_c_ends_in_good_order() -> None:
    words = ["generate", "tell me a very long story", "--jsonl", "--answer-tokens", "4000", "--reasoning", "off"]
    words += ["--temperature", "9", "--min-p", "0", "--top-p", "1", "--top-k", "0"]  # never ends of itself
    code, lines, _ = stopped_at([*PRLM, *words], lambda line: json.loads(line)["type"] == "answer", signal.SIGINT)
    assert code == 130
    last = json.loads(lines[-1])
    assert (last["type"], last["finish_reason"]) == ("done", "cancelled")
    assert last["usage"]["answer_tokens"] < 1000


def test_a_server_that_is_not_there_is_one_line() -> None:
    done = prlm("generate", "-u", EXAMPLE, "title for x", "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2


@pytest.fixture
def bad_files(tmp_path: Path, smollm2_path: Path) -> None:
    """The files that the table below names."""
    Path("binary.jsonl").write_bytes(bytes(range(256)) * 50)
    Path("folder").mkdir()
    Path("wrong.gguf").write_bytes(b"hello")
    with smollm2_path.open("rb") as stream:
        Path("half.gguf").write_bytes(stream.read(10_000_000))


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ("title --user missing.jsonl", 2, "missing.jsonl"),
        ("title --user folder", 2, "folder"),
        ("title --user binary.jsonl", 2, "binary"),
        ("title --task titel", 2, "titel"),
        ("title -k 0", 2, "-k"),
        ("title --retriever bm52", 2, "bm52"),
        ("-", 2, "request"),
        ("title --json --jsonl", 2, "--jsonl"),
        ("title --model no-such.gguf", 2, "no-such.gguf"),
        ("title --model wrong.gguf", 3, "not a GGUF"),
        ("title --model half.gguf", 3, "ends before"),
        ("title --model smollm3", 2, "smollm3"),
        ("title --n-ctx 100", 2, "context"),
    ],
)
def test_bad_input_is_two_lines_and_an_exit_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: str, code: int, text: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert main(["generate", "--user", str(EXAMPLE), *args.split()]) == code
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("prlm-edge: ")
    assert text in err
    assert "Traceback" not in err


def test_damaged_profiles_still_serve_and_are_named(tmp_path: Path) -> None:
    good = EXAMPLE.read_bytes()
    cases = {
        "invalid UTF-8": b'{"title": "caf\xe9", "text": "x"}\n',
        "a torn last line": b'{"title": "cut of',
        "a 64 MB line": b'{"title": "' + b"x" * (64 << 20) + b'"}\n',
        "not JSON": b"hello\n",
    }
    for name, line in cases.items():
        path = tmp_path / "damaged.jsonl"
        path.write_bytes(good + line)
        done = prlm("generate", "-u", str(path), "title for winter sourdough", "--reasoning", "hide")
        assert done.returncode == 0, (name, done.stderr)
        assert done.stdout.strip(), name
        if name != "a 64 MB line" or done.stderr:
            assert "prlm-edge profile verify" in done.stderr, name
        assert path.read_bytes() == good + line, name


def test_an_empty_profile_works_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    done = prlm("generate", "-u", "empty.jsonl", "title for winter sourdough")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert "no item" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and limits")
def test_a_cache_that_can_not_be_written_does_not_stop_an_answer(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(stat.S_IRUSR | stat.S_IXUSR)

    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = prlm("generate", "-u", EXAMPLE, "title for winter sourdough", preexec_fn=full_disk)
    home.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
