"""`prlm-edge generate` as users type it: real processes, the real model, the example profile, pipes and bad input."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "me.jsonl"
pytestmark = pytest.mark.model


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm2_path: Path) -> None:
    """A folder and settings of its own; the real model is named by its path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRLM_MODEL", str(smollm2_path))


def prlm(*args: str, stdin: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "prlm_edge", *args]
    return subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=240, **options)  # type: ignore[call-overload]


def git(*args: str) -> bytes:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *args], capture_output=True, check=True).stdout


def test_the_answer_alone_is_on_stdout_and_the_reasoning_on_stderr() -> None:
    words = ["generate", "--user", str(EXAMPLE), "title for my post on winter sourdough"]
    done = prlm(*words, "--reasoning", "show")
    assert done.returncode == 0
    [answer] = done.stdout.decode().splitlines()
    assert answer.strip() == answer
    assert "sourdough" in answer.lower()
    assert done.stderr.strip()
    assert b"<think>" not in done.stderr + done.stdout
    again = prlm(*words, "--reasoning", "hide")
    assert again.stdout == done.stdout  # greedy, and hidden reasoning is still done
    assert again.stderr == b""
    assert prlm(*words).stderr == b""  # the default model was not trained to reason


def test_on_a_terminal_the_progress_bar_is_gone_before_the_answer_comes() -> None:
    screen, terminal = pty.openpty()
    argv = [sys.executable, "-m", "prlm_edge", "generate", "-u", str(EXAMPLE), "title for winter sourdough", "-k", "9"]
    argv += ["--reasoning", "show"]
    env = os.environ | {"TERM": "xterm", "NO_COLOR": ""}
    with subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, env=env) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other side has closed
            while part := os.read(screen, 65536):
                shown += part
    os.close(screen)
    assert process.returncode == 0
    bar, _, after = shown.rpartition(b"reading the prompt")
    assert bar  # the prompt is long enough for a bar
    first = after.index(b"\x1b[2m")  # the dimmed reasoning
    assert b"\x1b[2K" in after[:first]  # the bar's line was erased before it
    plain = [line for line in after[first:].split(b"\r\n") if line.strip() and b"\x1b" not in line]
    assert len(plain) == 1  # the answer, and nothing drawn into it


def test_json_says_everything() -> None:
    done = prlm(
        "generate", "-u", str(EXAMPLE), "title for winter sourdough", "--json", "-k", "3", "--reasoning", "show"
    )
    record = json.loads(done.stdout)
    assert record["answer"]
    assert record["reasoning"]
    assert record["task"] == "title"
    assert len(record["used"]) == 3
    assert all(used["score"] >= 0 for used in record["used"])
    assert len(record["model"]["sha256"]) == 64
    assert record["usage"]["prompt_tokens"] > 100
    assert record["usage"]["decode_s"] > 0
    assert done.stderr == b""


def test_jsonl_events_add_up_to_the_answer() -> None:
    done = prlm("generate", "-u", str(EXAMPLE), "title for winter sourdough", "--jsonl")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [events[0]["type"], events[-1]["type"]] == ["loading", "done"]
    streamed = "".join(event["text"] for event in events if event["type"] == "answer")
    assert streamed.strip() == events[-1]["answer"]


def test_dry_run_prints_prompt_and_items_and_generates_nothing() -> None:
    done = prlm("generate", "-u", str(EXAMPLE), "title for winter sourdough", "--dry-run")
    text = done.stdout.decode()
    assert "--- assistant\n<answer>" in text
    assert text.rstrip().endswith("task title")
    record = json.loads(
        prlm("generate", "-u", str(EXAMPLE), "title for winter sourdough", "--dry-run", "--json").stdout
    )
    assert record["turns"][-1]["role"] == "user"
    assert record["retrieved"]


def test_a_request_from_a_pipe() -> None:
    piped = prlm("generate", "-u", str(EXAMPLE), "--task", "title", "-", stdin=b"a cold kitchen and slow bread\n")
    direct = prlm("generate", "-u", str(EXAMPLE), "--task", "title", "a cold kitchen and slow bread")
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
    done = prlm("generate", "--user", "me.jsonl", "--task", "commit", "-", stdin=git("diff", "--staged"))
    assert done.returncode == 0, done.stderr
    [subject] = done.stdout.decode().splitlines()
    assert "boiler" in subject


def test_ctrl_c_ends_in_good_order() -> None:
    argv = [
        sys.executable,
        "-m",
        "prlm_edge",
        "generate",
        "tell me a very long story",
        "--jsonl",
        "--answer-tokens",
        "4000",
        *("--reasoning", "off", "--temperature", "9", "--min-p", "0", "--top-p", "1", "--top-k", "0"),  # never ends
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            event = json.loads(line)
            seen += event["type"] in ("reasoning", "answer")
            if seen == 5:
                process.send_signal(signal.SIGINT)
                break
        started = time.monotonic()
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(10) == 130
        assert time.monotonic() - started < 3
    assert rest[-1]["type"] == "done"
    assert rest[-1]["finish_reason"] == "cancelled"


def test_a_server_that_is_not_there_is_one_line() -> None:
    done = prlm("generate", "-u", str(EXAMPLE), "title for x", "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert done.stdout == b""
    assert len(done.stderr.splitlines()) == 2


def _write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("case", "code", "text"),
    [
        ("missing profile", 2, "me.jsonl"),
        ("a folder", 2, "folder"),
        ("a binary profile", 2, "binary"),
        ("unknown task", 2, "titel"),
        ("k=0", 2, "-k"),
        ("an unknown retriever", 2, "bm52"),
        ("no request", 2, "request"),
        ("json and jsonl", 2, "--jsonl"),
        ("missing model", 2, "no-such.gguf"),
        ("wrong model", 3, "not a GGUF"),
        ("truncated model", 3, "can't load"),
        ("an unknown model name", 2, "smollm3"),
        ("a tiny context", 2, "context"),
    ],
)
def test_bad_input_is_two_lines_and_an_exit_code(
    tmp_path: Path, smollm2_path: Path, case: str, code: int, text: str
) -> None:
    good = ["-u", str(EXAMPLE), "title for x"]
    half = smollm2_path.read_bytes()[:10_000_000] if case == "truncated model" else b""
    args = {
        "missing profile": ["-u", str(tmp_path / "me.jsonl"), "title for x"],
        "a folder": ["-u", str(tmp_path), "title for x"],
        "a binary profile": ["-u", _write(tmp_path / "b.jsonl", bytes(range(256)) * 50), "title for x"],
        "unknown task": [*good, "--task", "titel"],
        "k=0": [*good, "-k", "0"],
        "an unknown retriever": [*good, "--retriever", "bm52"],
        "no request": ["-u", str(EXAMPLE), "-"],
        "json and jsonl": [*good, "--json", "--jsonl"],
        "missing model": [*good, "--model", "no-such.gguf"],
        "wrong model": [*good, "--model", _write(tmp_path / "wrong.gguf", b"hello")],
        "truncated model": [*good, "--model", _write(tmp_path / "half.gguf", half)],
        "an unknown model name": [*good, "--model", "smollm3"],
        "a tiny context": [*good, "--n-ctx", "100"],
    }[case]
    done = prlm("generate", *args)
    assert done.returncode == code, done.stderr
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("prlm-edge: ")
    assert text in "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)


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
            assert b"prlm-edge profile verify" in done.stderr, name
        assert path.read_bytes() == good + line, name


def test_an_empty_profile_works_and_says_so(tmp_path: Path) -> None:
    done = prlm("generate", "-u", _write(tmp_path / "empty.jsonl", b""), "title for winter sourdough")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert b"no item" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and limits")
def test_a_cache_that_can_not_be_written_does_not_stop_an_answer(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(stat.S_IRUSR | stat.S_IXUSR)

    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = prlm("generate", "-u", str(EXAMPLE), "title for winter sourdough", preexec_fn=full_disk)
    home.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
