"""What several test files say alike."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from prlm_edge import models
from prlm_edge.models import store
from prlm_edge.storage import private_dir
from prlm_edge.types import Backend, Cancel, Completion, Request, Span, Turn

PRLM = (sys.executable, "-m", "prlm_edge")
EXAMPLE = Path(__file__).parents[1] / "examples" / "me.jsonl"
SYSTEM = Turn("system", (Span("You write titles in the user's own voice."),))


def shot(text: str, line: str, title: str) -> list[Turn]:
    """A past item as the `turns` layout shows it."""
    tags = [Span(tag, trusted=True) for tag in ("<think>", "</think>\n<answer>", "</answer>")]
    reply = (tags[0], Span(line), tags[1], Span(title), tags[2])
    return [Turn("user", (Span(f"Write a title for: {text}"),)), Turn("assistant", reply)]


def fold(backend: Backend, request: Request, cancel: Cancel | None = None) -> tuple[str, str, Completion]:
    """Reasoning, answer and completion of one request."""
    texts = {"reasoning": "", "answer": ""}
    for event in backend.stream(request, cancel):
        if event.type in texts:
            texts[event.type] += event.text
        if event.completion:
            return texts["reasoning"], texts["answer"], event.completion
    raise AssertionError("no done event")


class CancelAfter(Cancel):
    """Is set from the `n`-th look at it on."""

    def __init__(self, n: int) -> None:
        self.n, self.looks = n, 0

    @property
    def cancelled(self) -> bool:  # type: ignore[override]
        self.looks += 1
        return self.looks >= self.n


def check_self_contained(page: str) -> int:
    """Whether an HTML report runs nothing and loads nothing from elsewhere; returns how many plots it holds."""
    tags: list[tuple[str, str, str]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.extend((tag, name, value or "") for name, value in attrs)  # type: ignore[method-assign]
    parser.feed(page)
    assert len(tags) > 500
    assert not {tag for tag, _, _ in tags} & {"script", "link", "iframe", "img", "object", "base", "a"}
    assert not [name for _, name, _ in tags if name.startswith("on") or name == "src"]
    assert all(value.startswith("#") for _, name, value in tags if name.endswith("href"))
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    for svg in drawn:
        ET.fromstring(svg)
    return len(drawn)


@contextlib.contextmanager
def running(argv: Sequence[str], **options: object) -> Iterator[subprocess.Popen]:  # type: ignore[type-arg]
    """A program that runs; a test that fails or runs out of time kills it, where Popen alone would wait for its end."""
    with subprocess.Popen(argv, **options) as process:  # type: ignore[call-overload]
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def prlm(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `prlm-edge` in a process of its own, with nothing on stdin; `options` are those of subprocess.run."""
    given = {"capture_output": True, "text": True, "check": False, "input": "", **options}
    return subprocess.run([*PRLM, *map(str, args)], **given)  # type: ignore[call-overload]


def on_terminal(argv: Sequence[str], keys: bytes = b"", env: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Run a program on a terminal of its own and type `keys`; returns its exit code and all that it showed."""
    pty = pytest.importorskip("pty")
    screen, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "NO_COLOR": "", "COLUMNS": "100", **(env or {})}
    with running(argv, stdin=terminal, stdout=terminal, stderr=terminal, env=env) as process:
        os.close(terminal)
        os.write(screen, keys)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other side is closed
            while part := os.read(screen, 65536):
                shown += part
    os.close(screen)
    return process.returncode, shown


CTRL_C = b"\x03"
CTRL_C_AGAIN_S = 20  # Python loses a signal that comes just before it waits for a line: one types it again


def asked_on_terminal(argv: Sequence[str], keys: Sequence[tuple[bytes, bytes]], piped: str) -> tuple[int, str, bytes]:
    """Run a program whose terminal is neither its standard input, which is `piped`, nor its standard output.

    Args:
        argv: The program.
        keys: What the terminal must show, and what is typed then.
        piped: Its standard input.

    Returns:
        Its exit code, its standard output, all that the terminal showed. Checks that the terminal is left as it was.
    """
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    screen, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)

    def take_terminal() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(terminal), os.O_RDWR))  # the first that a session opens becomes its own

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": terminal}
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with running(argv, env=env, preexec_fn=take_terminal, **pipes) as process:
        process.stdin.write(piped.encode())
        process.stdin.close()
        shown, n_read, last = b"", 0, b""
        for awaited, typed in keys:
            while awaited not in shown[n_read:]:
                if select.select([screen], [], [], CTRL_C_AGAIN_S)[0]:
                    shown += os.read(screen, 65536)
                elif last == CTRL_C:
                    os.write(screen, CTRL_C)
            n_read, last = len(shown), typed
            os.write(screen, typed)
        while last == CTRL_C and not _ends(process, CTRL_C_AGAIN_S):
            os.write(screen, CTRL_C)
        out = process.stdout.read().decode()
    assert termios.tcgetattr(terminal) == before
    os.close(terminal)
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while part := os.read(screen, 65536):
            shown += part
    os.close(screen)
    return process.returncode, out, shown


def _ends(process: subprocess.Popen[bytes], within_s: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.returncode is not None


def answer_alone(shown: bytes, label: bytes) -> bytes:
    """Check that a terminal shows one plain line, the answer, and the bar `label` only before it; returns that."""
    before, _, after = shown.rpartition(label)
    assert before, "no bar was drawn"
    first = after.index(b"\x1b[2m")  # the dimmed reasoning
    assert b"\x1b[2K" in after[:first]  # the bar's line was erased before it
    plain = [line for line in after[first:].split(b"\r\n") if line.strip() and b"\x1b" not in line]
    assert len(plain) == 1
    return before + after[:first]


def stopped_at(
    argv: Sequence[str], reached: Callable[[str], bool], by: int = signal.SIGKILL, delay: float = 0.0, **options: object
) -> tuple[int, list[str], str]:
    """Run a program and send it a signal `delay` seconds after the first line that `reached` accepts.

    Returns:
        Its exit code, the lines of its stdout, its stderr.
    """
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with running(argv, **given) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if reached(line):
                time.sleep(delay)
                process.send_signal(by)
                break
        rest, errors = process.communicate()
    return process.returncode, lines + rest.splitlines(keepends=True), errors


def sha256(data: bytes) -> str:
    """Its hash as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def install_model(name: str, data: bytes = b"GGUF bytes") -> Path:
    """Install a model of made-up contents with the manifest that fits them; returns its first file."""
    model = models.find(name)
    private_dir(model.folder)
    entries = []
    for file in model.files:
        (model.folder / file.name).write_bytes(data)
        entries.append(store.InstalledFile(file.name, len(data), sha256(data)))
    source = str(model.files[0].source)
    store.write_manifest(model.folder, store.Manifest(model.name, model.kind, "MIT", source, tuple(entries)))
    return model.folder / model.files[0].name


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small tmpfs at `folder`; skips where one may not be mounted."""
    folder.mkdir(exist_ok=True)
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no mount here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@contextlib.contextmanager
def filled(folder: Path, spare: int = 0) -> Iterator[None]:
    """No byte free on the file system of `folder` within the block, but for `spare` ones."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"0" * 4096)
    os.truncate(filler, max(0, filler.stat().st_size - spare))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of nobody's, and nobody's rights where we are root."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    try:
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)
