"""Errors as lines with exit codes; pipes, closed and full descriptors, signals, odd locales, terminals, progress."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest
import typer
from helpers import PRLM, on_terminal, running, stopped_at

from prlm_edge.cli import main
from prlm_edge.cli.profile.common import item_line
from prlm_edge.cli.shared import console, table
from prlm_edge.cli.shared.progress import progress
from prlm_edge.errors import MissingError, PrlmError
from prlm_edge.types import Item

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and descriptors")


@pytest.fixture
def verb(monkeypatch):
    """Put a verb named `probe` with the given body into the table."""

    def install(body):
        app = typer.Typer(add_completion=False)
        app.command()(body)
        monkeypatch.setitem(sys.modules, "prlm_edge.cli.probe", SimpleNamespace(app=app))
        monkeypatch.setitem(table.VERBS, "probe", "A probe.")

    return install


# -- errors


def raiser(error):
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (MissingError("no model", "prlm-edge model pull"), 4, "prlm-edge: no model\n  prlm-edge model pull\n"),
        (PrlmError("it failed"), 1, "prlm-edge: it failed\n"),
        (
            PermissionError(13, "Permission denied", "/x/y"),
            1,
            "prlm-edge: /x/y: Permission denied\n  check the path, its permissions and the free space\n",
        ),
        (
            ValueError("two\nlines"),
            70,
            "prlm-edge: ValueError: two\n  this is a bug; run again with PRLM_DEBUG=1 for the traceback\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (typer.Abort(), 130, ""),
        (typer.Exit(3), 3, ""),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_every_error_has_its_code_and_its_line(verb, capsys, monkeypatch, error, code, text):
    monkeypatch.delenv("PRLM_DEBUG", raising=False)
    monkeypatch.setattr(console, "discard_stdout", lambda: None)  # pytest's own stdout must live on
    verb(raiser(error))
    assert main(["probe"]) == code
    assert capsys.readouterr().err == text


def test_debug_shows_the_traceback(verb, capsys, monkeypatch):
    monkeypatch.setenv("PRLM_DEBUG", "1")
    verb(raiser(ValueError("odd")))
    assert main(["probe"]) == 70
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.rstrip().endswith("ValueError: odd")
    verb(raiser(MissingError("gone", "pull it")))
    assert main(["probe"]) == 4
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("prlm-edge: gone\n  pull it\n")


def test_a_typer_usage_error_inside_a_verb_is_a_usage_error(verb, capsys):
    verb(raiser(typer.BadParameter("too big")))
    assert main(["probe"]) == 2
    assert "too big" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["--select", "concensus"], ["--select: select can't be 'concensus'", "did you mean consensus?"]),
        (["--best-of", "65"], ["--best-of: 65 is out of range", "at least 1 and at most 64"]),
        (["--item-order", "dates"], ["--item-order: item_order can't be 'dates'", "did you mean date?"]),
        (["--prefix-cache", "disc"], ["--prefix-cache: prefix_cache can't be 'disc'", "did you mean disk?"]),
    ],
)
def test_wrong_values_of_generate_are_answered_with_the_right_ones(home, capsys, argv, lines):
    assert main(["generate", "title for x", *argv]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert lines[0] in first
    assert lines[1] in second


# -- streams


@posix
def test_a_reader_that_goes_away_is_no_error():
    with running([*PRLM, "config", "show"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_stdout_is_said():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*PRLM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("prlm-edge: standard output: No space left on device\n")
    assert "Exception ignored" not in done.stderr


@posix
def test_a_closed_stdout_is_said_and_its_descriptor_is_not_reused():
    code = (
        "import os, sys; os.close(1); sys.stdout = None\nfrom prlm_edge.cli import main\n"
        "rc = main(['--help'])\nfd = os.open(os.devnull, os.O_RDONLY)\nsys.exit(rc if fd > 2 else 99)"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "prlm-edge: standard output is closed\n")


@posix
def test_ctrl_c_ends_with_130_and_no_traceback():
    code = (
        "import sys, time, typer\nfrom prlm_edge.cli import main\n"
        "from prlm_edge.cli.shared import table\napp = typer.Typer(add_completion=False)\n"
        "@app.command()\ndef probe() -> None:\n    print('ready', flush=True); time.sleep(30)\n"
        "sys.modules['prlm_edge.cli.probe'] = sys.modules['__main__']\n"
        "table.VERBS['probe'] = ''\nsys.exit(main(['probe']))"
    )
    done = stopped_at([sys.executable, "-c", code], lambda line: True, signal.SIGINT)
    assert done == (130, ["ready\n"], "")


def test_an_odd_locale_never_raises(verb):
    code = (
        "from prlm_edge.cli.shared import console as c; c.prepare_streams(); c.out('caf\\u00e9 \\u2026 \\ud800')\n"
        "c.note('\\u2026'); c.emit_json({'a': '\\u2026 \\ud800'}, indent=None)"
    )
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.decode("ascii").splitlines()
    assert first == r"caf\xe9 \u2026 \ud800"
    assert json.loads(second) == {"a": "… \ud800"}


def test_json_keeps_letters_and_knows_our_types(capsys):
    np = pytest.importorskip("numpy")

    @dataclasses.dataclass
    class Point:
        x: object
        inner: object = None

    inner = {"path": PurePosixPath("a/b"), "set": {2, 1}, "more": (Point("é…"),), "bad": "\ud800"}
    value = Point(np.float32(0.5), inner)
    console.emit_json(value)
    out = capsys.readouterr().out
    assert "é…" in out
    assert json.loads(out) == {
        "x": 0.5,
        "inner": {"path": "a/b", "set": [1, 2], "more": [{"x": "é…", "inner": None}], "bad": "\ud800"},
    }


class Terminal:
    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_text_cannot_drive_the_terminal(monkeypatch, capsys):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    console.out("a\x1b[2Jb\tc\nd\x9b\u00a0e")
    assert screen.text == "a\\x1b[2Jb\tc\nd\\x9b\u00a0e\n"


def test_a_pipe_gets_the_bytes_as_they_are(capsys):
    console.out("a\x1b[2Jb")
    assert capsys.readouterr().out == "a\x1b[2Jb\n"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"TERM": "xterm"}, "\x1b[2mthinking\x1b[0m\n"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "thinking\n"),
        ({"TERM": "dumb"}, "thinking\n"),
    ],
)
def test_dim_only_where_it_can_be_seen(monkeypatch, env, expected):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    console.dim("thinking")
    assert screen.text == expected


def test_dim_is_plain_in_a_file(capsys):
    console.dim("thinking", end="")
    assert capsys.readouterr().err == "thinking"


# -- progress


def test_progress_is_silent_in_a_file(capsys):
    with progress("reading") as update:
        update(1, 2, "half")
        update(2)
    assert capsys.readouterr() == ("", "")


def test_progress_waits_unless_told_to_draw_at_once(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for at_once in (False, True):
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        with progress("writing", "answers", at_once=at_once) as update:
            update(0, 8, "reward 0.5")
        assert ("0/8" in screen.text) == ("reward 0.5" in screen.text) == at_once


def test_progress_draws_on_a_terminal_and_clears_it():
    code = (
        "from prlm_edge.cli.shared import console as c, progress as p; import time; p.DELAY_S = 0\n"
        "with p.progress('reading [x]', 'bytes') as u:\n"
        "    for i in range(4): u(i * 1000000, 4000000); time.sleep(0.12)\n"
        "c.out('done')"
    )
    done, shown = on_terminal([sys.executable, "-c", code])
    bar, _, rest = shown.rpartition(b"\x1b[2K")  # the bar's line is erased
    assert (done, rest.splitlines()[-1]) == (0, b"done")
    assert b"reading [x]" in bar
    assert b"MB" in bar


@pytest.mark.parametrize("code", [0x7F, 0x9B, 0x202E, 0x2066, 0x200B, 0xFEFF, 0x2028, 0x2029])
def test_what_drives_a_terminal_or_deceives_its_reader_is_shown(code, monkeypatch, capsys):
    char, screen = chr(code), Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    console.out(f"a{char}b")
    console.note(f"c{char}d")
    console.emit_json({"text": f"e{char}f"})
    assert char not in screen.text + capsys.readouterr().err
    assert json.loads(screen.text.partition("\n")[2]) == {"text": f"e{char}f"}


def test_joiners_of_words_and_emoji_stay(capsys):
    console.note("👩\u200d🍳 می\u200cخواهم")
    assert capsys.readouterr().err == "👩\u200d🍳 می\u200cخواهم\n"


def test_an_id_with_line_breaks_forges_no_row(home, capsys):
    item = Item("one\ntwo  2024-01-01  post\u2028three", "text", "a\ntitle", kind="po\rst")
    line = item_line(item)
    assert len(line.splitlines()) == 1
    console.table([["id"], [item.id]])
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("args", [["generate", "-"], ["generate"], ["search", "-"], ["profile", "add", "-"]])
def test_a_closed_standard_input_is_an_empty_one(args, home, tmp_path):
    command = (
        "import os, sys; os.close(0); sys.stdin = None\nfrom prlm_edge.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    (tmp_path / "me.jsonl").write_text('{"title": "a", "text": "b"}\n')
    done = subprocess.run(
        [sys.executable, "-c", command, *args, "-u", str(tmp_path / "me.jsonl")], capture_output=True, text=True
    )
    assert done.returncode in (0, 2, 4), done.stderr  # 70 would be a bug
