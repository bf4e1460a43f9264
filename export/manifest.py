"""What an export is and where it comes from, by hashes: `export.json` in its folder.

    {"name", "kind", "format", "files": [{"name", "size", "sha256"}], "base", "adapter", "data", "recipe", "template",
     "versions", "merge", "table", "verification", "licence", "attribution", "created"}

Written last, from what lies in the folder; `read` holds the folder to it again. Not here: the model card (`card.py`).
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prlm_edge.errors import ModelError, UsageError
from prlm_edge.export.source import Source
from prlm_edge.export.verify import Report
from prlm_edge.model_store import hash_file
from prlm_edge.storage import atomic_write

FILE, VERSION = "export.json", 1
KINDS = ("llm", "adapter", "onnx-llm")
_PACKAGES = ("prlm-edge", "torch", "transformers", "peft", "gguf", "onnx", "onnxruntime", "llama-cpp-python")


def make(
    source: Source,
    folder: Path,
    *,
    name: str,
    kind: str,
    format_: str,
    report: Report,
    licence: str,
    attribution: str = "",
    merge: Mapping[str, Any] | None = None,
    table: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """What `export.json` is to say.

    Args:
        source: What was exported.
        folder: With the files; all of them are listed.
        name: The model's.
        kind: One of `KINDS`.
        format_: Such as "q4_0", "lora-f16", "int8".
        report: Its verification.
        licence: SPDX identifier of the result.
        attribution: Markdown: whose texts it learned from.
        merge: Which base the adapter was merged into, and the figures of the choice.
        table: The formats that were measured, where one was chosen.
    """
    template = source.base / "chat_template.jinja"
    return {
        "version": VERSION,
        "name": name,
        "kind": kind,
        "format": format_,
        "reasons": source.reasons,
        "files": _files(folder),
        "base": {
            "name": source.base_file.name if source.base_file else source.base.name,
            "sha256": source.base_sha256(),
        },
        "adapter": {"sha256": source.sha256},
        "data": dict(source.data),
        "recipe": {
            "fingerprint": source.recipe.fingerprint(),
            "stages": list(source.stages),
            "seed": source.recipe.seed,
        },
        "template": hashlib.sha256(template.read_bytes()).hexdigest() if template.is_file() else "",
        "versions": _versions(),
        "merge": dict(merge or {}),
        "table": table or [],
        "verification": report.as_dict(),
        "licence": licence,
        "attribution": attribution,
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write it into its folder, whole or not at all."""
    with atomic_write(folder / FILE) as stream:
        stream.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def read(folder: Path) -> dict[str, Any]:
    """An export's manifest, the files held to it.

    Raises:
        UsageError: No export there, or one that was never verified.
        ModelError: A file is missing or not the one that was verified.
    """
    try:
        manifest = dict(json.loads((folder / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        raise UsageError(f"{folder}: no export in it", "name the folder that `prlm-edge export` wrote") from None
    if manifest.get("version") != VERSION or manifest.get("kind") not in KINDS:
        raise UsageError(f"{folder}: an export of another version of prlm-edge", "export it anew")
    if not manifest["verification"]["ok"]:
        raise UsageError(
            f"{folder}: it does not say what the trained model says", "read its report, and export it anew"
        )
    for entry in manifest["files"]:
        path = folder / entry["name"]
        if not path.is_file():
            raise ModelError(f"{path}: missing", "export it anew")
        if path.stat().st_size != entry["size"] or hash_file(path) != entry["sha256"]:
            raise ModelError(f"{path}: not the file that was verified", "export it anew")
    return manifest


def _files(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (FILE, "README.md"))
    return [
        {"name": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": hash_file(path)}
        for path in paths
    ]


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
