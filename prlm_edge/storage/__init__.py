"""Where files live and how they are written: the folders, safe writing (`files.py`), and kept files (`kept.py`)."""

from prlm_edge.storage.files import append_bytes, atomic_write, locked, write_error, writing
from prlm_edge.storage.folders import cache_dir, config_dir, data_dir, private_dir

__all__ = [
    "append_bytes",
    "atomic_write",
    "cache_dir",
    "config_dir",
    "data_dir",
    "locked",
    "private_dir",
    "write_error",
    "writing",
]
