"""The four folders that hold everything prlm-edge keeps: data, settings, state and cache."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from prlm_edge.errors import UsageError


def expanded(path: str | Path) -> Path:
    """`path` with a leading `~` or `~name` replaced by that user's home folder.

    Raises:
        UsageError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: no home folder is known for it", "write the whole path") from None


def _folder(kind: str) -> Path:
    home = os.environ.get("PRLM_HOME")
    if home:
        return expanded(home) / kind
    paths = {
        "data": platformdirs.user_data_path,
        "config": platformdirs.user_config_path,
        "state": platformdirs.user_state_path,
        "cache": platformdirs.user_cache_path,
    }
    return paths[kind]("prlm-edge", appauthor=False)


def data_dir() -> Path:
    """Folder of models and other things worth keeping (not created). `PRLM_HOME` moves all four folders."""
    return _folder("data")


def config_dir() -> Path:
    """Folder of the user's config.toml and own tasks (not created)."""
    return _folder("config")


def state_dir() -> Path:
    """Folder of what was done last on this machine (not created)."""
    return _folder("state")


def cache_dir() -> Path:
    """Folder of what can be made again, such as search indexes (not created)."""
    return _folder("cache")


def private_dir(path: Path) -> Path:
    """Create `path` and its missing parents, readable by the owner alone (0700); returns it."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    return path
