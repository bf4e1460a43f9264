"""A user's past writing: one JSONL file, opened without parsing it all, appended to and rewritten safely."""

from prlm_edge.profile.habits import cross_out, crossed_out, crossed_out_for, habits_path, restore
from prlm_edge.profile.learned_style import all_habits, learn
from prlm_edge.profile.lines import (
    MAX_LINE_BYTES,
    LineError,
    clean,
    fields_of,
    finite,
    item_from,
    parse_object,
    raw_lines,
)
from prlm_edge.profile.store import Profile, as_stored

__all__ = [
    "MAX_LINE_BYTES",
    "LineError",
    "Profile",
    "all_habits",
    "as_stored",
    "clean",
    "cross_out",
    "crossed_out",
    "crossed_out_for",
    "fields_of",
    "finite",
    "habits_path",
    "item_from",
    "learn",
    "parse_object",
    "raw_lines",
    "restore",
]
