"""What a user's files and variables may hold instead of what is expected: an error names the place, never exit 70.

`make fuzz` looks for more of these; what it finds belongs here.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from evaluation import scored_run

from prlm_edge import settings
from prlm_edge.cli.shared.interrupt import end_in_order
from prlm_edge.cpu import threads_for, usable_cores
from prlm_edge.models import store
from prlm_edge.storage import NUMBER, fits, write_json

DEEP = "[" * 100_000


def refused(ran, *said):
    assert ran.code in (1, 2, 3, 4), ran
    assert "Traceback" not in ran.err and "bug" not in ran.err
    for one in said:
        assert one in ran.err, ran.err


@pytest.mark.parametrize(
    "text", [f"k = {DEEP}", f"k = 1{'0' * 400}", f"k = -0x{'f' * 5000}", 'user = "a\\u0000b"', "\0"]
)
@pytest.mark.parametrize("verb", ["config show", "config set k 3", "search x", "task list", "profile list"])
def test_config(cli, text, verb):
    settings.config_path().parent.mkdir(parents=True)
    settings.config_path().write_text(text)
    refused(cli(*verb.split()), "config.toml")


@pytest.mark.parametrize("text", [f"name = {DEEP}", "name = 1979-99-99", "a." * 50_000, '"\\ud800" = 1', "[[name]]"])
def test_tasks(cli, text):
    folder = settings.config_path().parent / "tasks"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(text)
    refused(cli("task", "list"), "mine.toml")


@pytest.mark.parametrize(
    ("variable", "value", "verb"),
    [
        ("PRLM_HOME", "~nobody-of-that-name", "config path"),
        ("PRLM_USER", "~nobody-of-that-name/me.jsonl", "profile list"),
        ("PRLM_MODEL", "~nobody-of-that-name/x.gguf", "model path ~nobody-of-that-name/x.gguf"),
        ("PRLM_K", "9" * 5000, "config show"),
        ("PRLM_TEMPERATURE", "1e999", "config show"),
        *(("PRLM_BASE_URL", url, "generate x") for url in ("http://[::1", "http://", "http://a:b", "http://a b", "x")),
    ],
)
def test_variables(cli, monkeypatch, variable, value, verb):
    monkeypatch.setenv(variable, value)
    refused(cli(*verb.split()))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="POSIX")
@pytest.mark.parametrize(
    "command",
    [
        *("generate -m /dev/zero x", "config show --config /dev/zero", "profile list -u /dev/zero"),
        *("profile import csv /dev/zero -u u.jsonl", "profile import jsonl /dev/zero -u u.jsonl"),
        *("profile import lamp /dev/zero -u u.jsonl", "eval run /dev/zero --out r", "train recipes /dev/zero"),
        *("eval run x --plan /dev/zero --out r", "train --data /dev/zero --out r"),
    ],
)
def test_a_device_is_not_read_for_ever(cli, command):
    refused(cli(*command.split()), "/dev/zero")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRLM_ADAPTER", "none")
        path = scored_run(tmp_path_factory.mktemp("scored") / "run").path
    source = {"path": "run.jsonl", "limit": None, "per_user": None, "task": None}
    write_json(path / "run.json", {**json.loads((path / "run.json").read_text()), "source": source})
    return path


@pytest.mark.parametrize(
    ("name", "place", "value", "verb"),
    [
        ("run.json", "asked", None, "show"),
        ("run.json", "asked.conditions", [5], "report"),
        ("run.json", "asked.conditions", [{"name": "a"}], "score"),
        ("run.json", "asked.data", [], "report"),
        ("run.json", "source", {"path": 5}, "score"),
        ("run.json", "seed", 10**400, "score"),
        ("summary.json", "conditions", [], "show"),
        ("summary.json", "conditions", {"a": {"rouge1": {"mean": None}}}, "show"),
        ("summary.json", "users_per_minute", None, "report"),
        ("summary.json", "signatures", [{}], "show"),
        ("answers.jsonl", "", {"row": 5}, "score"),
        ("answers.jsonl", "", {"used": [{"id": "a", "title": None, "score": 1}]}, "report"),
        ("scores.jsonl", "", {"rouge1": []}, "compare"),
        ("timings.jsonl", "", {"conditions": "x", "rows": 1, "seconds": 1}, "score"),
        ("votes.jsonl", "", DEEP, "ab"),
    ],
)
def test_run_folders(cli, scored, tmp_path, name, place, value, verb):
    run = tmp_path / "run"
    shutil.copytree(scored, run)
    shutil.copy(scored.with_suffix(".jsonl"), tmp_path / "run.jsonl")
    path = run / name
    if place:
        *outer, last = place.split(".")
        whole = inner = json.loads(path.read_text())
        for key in outer:
            inner = inner[key]
        inner[last] = value
        path.write_text(json.dumps(whole))
    else:
        first = json.loads(path.read_text().splitlines()[0]) if path.exists() else {}
        path.write_text((value if isinstance(value, str) else json.dumps({**first, **value})) + "\n")
    more = {"compare": ["run:k=4", ":k=1"], "score": ["run", "--data", "run.jsonl"], "report": ["run"], "show": ["run"]}
    refused(cli("eval", verb, *more.get(verb, ["run:k=4", ":k=1", "--out", "run/votes.jsonl", "--show"])), name)


@pytest.mark.parametrize(
    "change", [{"name": 5}, {"licence": 1.5}, {"files": []}, {"files": [{}]}, {"source": True}, 5, DEEP]
)
@pytest.mark.parametrize("verb", ["path mine", "verify mine", "list"])
def test_installed_models(cli, change, verb):
    folder = store.models_dir() / "mine"
    folder.mkdir(parents=True)
    store.write_manifest(folder, store.Manifest("mine", "llm", "MIT", store.SOURCE, (store.InstalledFile("a", 1, ""),)))
    path = folder / "manifest.json"
    sound = json.loads(path.read_text())
    path.write_text(change if change == DEEP else json.dumps({**sound, **change} if change != 5 else 5))
    if verb == "list":
        assert cli("model", "list").code == 0
    else:
        refused(cli("model", *verb.split()), "manifest.json: damaged")


@pytest.mark.parametrize(
    "card", [DEEP, "[]", "{}", '{"encoding": 1, "max_length": 1e999, "sha256": {}}', f'{{"encoding": 1{"0" * 400}}}']
)
def test_what_chooses(cli, tmp_path, card):
    for name, option in (("reward", "--reward-model"), ("blend", "--blend-weights")):
        (tmp_path / f"{name}.json").write_text(card)
        given = "." if name == "reward" else "blend.json"
        refused(cli("generate", "-r", "none", "--best-of", "2", "--select", name, option, given, "x"), f"{name}.json")


@pytest.mark.parametrize(
    ("value", "form", "does"),
    [
        (1, int, True), (True, int, False), (True, bool, True), (1.0, NUMBER, True), (float("nan"), NUMBER, False),
        (10**400, int, False), ([], [int], True), ([1, "a"], [int], False), ({"a": 1, "b": 2}, {"a": int}, True),
        ({}, {"a": int}, False), ({"a": 1, "b": 2}, {"a": int, str: str}, False),
        ({"a": 1, "b": ""}, {"a": int, str: str}, True),
        (5, {"a": int}, False), (True, object, True), (None, object, True),
    ],
)  # fmt: skip
def test_forms(value, form, does):
    assert fits(value, form) is does


def test_threads_beyond_the_cores_are_not_started():
    assert threads_for(4096) == usable_cores() and threads_for(1) == 1 and threads_for(0) >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_sigterm_ends_what_was_started():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(SystemExit) as stopped, end_in_order():
        try:
            time.sleep(60)
        finally:
            child.terminate()
    assert stopped.value.code == 143 and child.wait() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_ctrl_c_while_it_is_loaded_says_nothing():
    code = "import sys, prlm_edge.cli; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stderr == b"" and done.returncode != 0
    other = subprocess.run([sys.executable, "-c", "import prlm_edge.cli; 1 / 0"], capture_output=True, check=False)
    assert b"ZeroDivisionError" in other.stderr
