"""What several test files say alike."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from prlm_edge.types import Backend, Cancel, Completion, Request, Span, Turn

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
