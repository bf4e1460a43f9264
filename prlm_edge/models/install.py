"""Installing an export: the folder that `prlm-edge export` wrote becomes a model of its own name.

Every file must have the hash that `export.json` records, so what was verified is what gets installed. This needs
neither PyTorch nor a network.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA, ModelError, UsageError
from prlm_edge.models import store
from prlm_edge.models.catalog import registry
from prlm_edge.models.choice import AUTO
from prlm_edge.models.store import SOURCE, InstalledFile, Manifest
from prlm_edge.storage import locked, private_dir, write_error

FILE, VERSION = "export.json", 1
KINDS = ("llm", "onnx-llm", "adapter")
_KEPT = ("README.md", FILE)  # the model card and the export's own manifest come along


def read_export(folder: Path) -> dict[str, Any]:
    """The manifest of the export in `folder`, once its files are found to be those it records.

    Raises:
        UsageError: No export there, or one that was not verified.
        ModelError: A file is missing, or not the one that was verified.
    """
    try:
        manifest = dict(json.loads((folder / FILE).read_bytes()))
        known = manifest["version"] == VERSION and manifest["kind"] in KINDS
        entries, verified = list(manifest["files"]), bool(manifest["verification"]["ok"])
        named = all(isinstance(manifest[key], str) for key in ("name", "licence"))
        if not (named and entries and all(_is_entry(entry) for entry in entries)):
            raise ValueError("odd entries")
    except (OSError, *BAD_DATA):
        raise UsageError(f"{folder}: no export in it", "name the folder that `prlm-edge export` wrote") from None
    if not known:
        raise UsageError(f"{folder}: an export of another version of prlm-edge", "export it again")
    if not verified:
        raise UsageError(f"{folder}: its verification failed", "read its report, and export it again")
    for entry in entries:
        path = folder / entry["name"]
        if path.is_symlink() or not path.is_file():
            raise ModelError(f"{path}: missing", "export it again")
        if path.stat().st_size != entry["size"] or store.hash_file(path) != entry["sha256"]:
            raise ModelError(f"{path}: not the file that was verified", "export it again")
    return manifest


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry["name"], str)
        and re.fullmatch(r"\w[\w.-]*", entry["name"]) is not None
        and entry["name"] not in _KEPT
        and type(entry["size"]) is int
        and isinstance(entry["sha256"], str)
    )


def install(folder: Path, name: str = "") -> Manifest:
    """Install the export in `folder` as the model `name` (by default its own), in place of an earlier one of that name.

    Raises:
        UsageError: No export there, or a name that is taken or can't be one.
        ModelError: A file is not the one that was verified.
        PrlmError: No space, no permission.
    """
    export = read_export(folder)
    name = name or str(export["name"])
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise UsageError(f"{name!r} can't be a model's name", "letters, digits, - _ and . alone: --name NAME")
    taken = {AUTO, *(known for model in registry().values() for known in (model.name, *model.aliases))}
    if name in taken:
        raise UsageError(f"{name} is a name that prlm-edge uses", "choose another: --name NAME")
    target = store.models_dir() / name
    try:
        private_dir(store.models_dir())
        with locked(target):
            previous = store.read_manifest(target) if target.exists() else None
            if previous is not None and previous.source != SOURCE:
                raise UsageError(f"{name} is installed already, from {previous.source}", "choose another: --name NAME")
            return _copy(folder, export, name, target)
    except OSError as error:
        raise write_error(target, error) from error


def _copy(folder: Path, export: dict[str, Any], name: str, target: Path) -> Manifest:
    store.require_space(store.models_dir(), sum(entry["size"] for entry in export["files"]))
    work = store.staging(target)
    shutil.rmtree(work, ignore_errors=True)
    private_dir(work)
    for part in (*(entry["name"] for entry in export["files"]), *_KEPT):
        if (folder / part).is_file() and not (folder / part).is_symlink():
            shutil.copyfile(folder / part, work / part)
    ordered = sorted(export["files"], key=lambda entry: -entry["size"])  # the one that is run stands first
    files = tuple(InstalledFile(entry["name"], entry["size"], entry["sha256"]) for entry in ordered)
    if any(store.hash_file(work / f.name) != f.sha256 for f in files):
        raise ModelError(f"{folder}: it changed meanwhile", "install it again")
    manifest = Manifest(name, str(export["kind"]), str(export["licence"]), SOURCE, files)
    store.write_manifest(work, manifest)
    if target.exists():
        shutil.rmtree(target)
    work.replace(target)
    return manifest
