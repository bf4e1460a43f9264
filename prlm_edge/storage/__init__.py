"""Where files live and how they are written: folders, safe writing (`files.py`), JSON, kept files (`kept.py`)."""

from prlm_edge.storage.files import (
    append_bytes,
    atomic_write,
    clear_leftovers,
    locked,
    new_folder,
    own_dir,
    temporaries,
    write_error,
    writing,
)
from prlm_edge.storage.folders import cache_dir, config_dir, data_dir, expanded, private_dir, state_dir
from prlm_edge.storage.json_files import (
    NUMBER,
    append_json,
    cut_torn_line,
    fits,
    json_lines,
    read_small,
    read_yaml,
    write_json,
)

__all__ = [
    "NUMBER",
    "append_bytes",
    "append_json",
    "atomic_write",
    "cache_dir",
    "clear_leftovers",
    "config_dir",
    "cut_torn_line",
    "data_dir",
    "expanded",
    "fits",
    "json_lines",
    "locked",
    "new_folder",
    "own_dir",
    "private_dir",
    "read_small",
    "read_yaml",
    "state_dir",
    "temporaries",
    "write_error",
    "write_json",
    "writing",
]
