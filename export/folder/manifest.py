"""What an export is and where it comes from, by hashes: `export.json` in its folder.

    {"name", "kind", "format", "files": [{"name", "size", "sha256"}], "base", "adapter", "data", "recipe", "template",
     "versions", "merge", "table", "verification", "licence", "attribution", "created"}

Written last, from the files in the folder.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prlm_edge.evaluate.provenance import versions
from prlm_edge.export.check.verify import Verification
from prlm_edge.export.source import Trained, Wanted
from prlm_edge.models.install import FILE, VERSION
from prlm_edge.models.store import hash_file
from prlm_edge.storage import atomic_write

_PACKAGES = ("prlm-edge", "torch", "transformers", "peft", "gguf", "onnx", "onnxruntime", "llama-cpp-python")


def make(
    source: Trained,
    wanted: Wanted,
    files: Iterable[Path],
    kind: str,
    format_: str,
    report: Verification,
    merge: Mapping[str, Any],
    table: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The contents of `export.json`.

    Args:
        source: What was exported.
        wanted: Under which name and licence.
        files: Those of the export.
        kind: One of `models.install.KINDS`.
        format_: Such as "q4_0", "lora-f16", "int8".
        report: Its verification.
        merge: Which base the adapter was merged into, and the figures of the choice.
        table: The formats that were measured, where one was chosen.
    """
    template = source.base / "chat_template.jinja"
    return {
        "version": VERSION,
        "name": wanted.name,
        "kind": kind,
        "format": format_,
        "reasons": source.reasons,
        "tasks": list(source.tasks),
        "files": _entries(files),
        "base": {"name": source.base_name, "sha256": source.base_sha256()},
        "adapter": {"sha256": source.sha256},
        "data": dict(source.data),
        "recipe": {
            "fingerprint": source.recipe.fingerprint(),
            "stages": list(source.stages),
            "seed": source.recipe.seed,
        },
        "template": hashlib.sha256(template.read_bytes()).hexdigest() if template.is_file() else "",
        "versions": versions(_PACKAGES),
        "merge": dict(merge),
        "table": list(table),
        "verification": report.as_dict(),
        "licence": wanted.licence,
        "attribution": wanted.attribution,
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write it into its folder, whole or not at all."""
    with atomic_write(folder / FILE) as stream:
        stream.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def _entries(files: Iterable[Path]) -> list[dict[str, Any]]:
    found = sorted(path for path in files if path.is_file() and path.name not in (FILE, "README.md"))
    return [{"name": path.name, "size": path.stat().st_size, "sha256": hash_file(path)} for path in found]
