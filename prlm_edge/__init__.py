"""prlm-edge: write in your own voice, on your own laptop.

Public names load on first use (PEP 562), so that `import prlm_edge` stays light. Importing it turns off, for this
process and its children, what some dependencies send to their makers: nothing leaves the machine.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prlm_edge.errors import PrlmError
    from prlm_edge.profile import Profile
    from prlm_edge.types import Cancel, Event, Item, Result
    from prlm_edge.writer import Writer

_HOME = {
    "Cancel": "types",
    "Event": "types",
    "Item": "types",
    "PrlmError": "errors",
    "Profile": "profile",
    "Result": "types",
    "Writer": "writer",
}
# ONNX Runtime 1.29 and later writes a device id and queues events for its maker from the moment it is imported.
os.environ.update(ORT_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_TELEMETRY="1")

__all__ = ["Cancel", "Event", "Item", "PrlmError", "Profile", "Result", "Writer"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
