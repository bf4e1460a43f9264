"""Installed models: one folder each, with a manifest that is written last so that half a download is never a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from prlm_edge.errors import BAD_DATA, MissingError, ModelError, PrlmError
from prlm_edge.storage import atomic_write, data_dir, fits, locked, write_error

MANIFEST = "manifest.json"
SOURCE = "export"  # how an installed export's manifest says where it came from
ONNX_MARKER, ONNX_CARD = "genai_config.json", "prlm.json"  # the files that mark an ONNX language model's folder


_FORM = {
    "files": [{"name": str, "size": int, "sha256": str}],
    "name": str,
    "kind": str,
    "licence": str,
    "source": str,
    str: (str, bool),  # revision, pinned
}


@dataclass(frozen=True)
class InstalledFile:
    """One file as it was when it was installed and checked."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an installed model's folder holds.

    Attributes:
        name: The model's name.
        kind: "llm" or "embedder".
        licence: As the registry said.
        source: Where it came from.
        files: Its files.
        pinned: Whether the hashes were known before the download; False: recorded from the first download.
        revision: Commit of the repository it came from; "" where that has no meaning.
    """

    name: str
    kind: str
    licence: str
    source: str
    files: tuple[InstalledFile, ...]
    pinned: bool = True
    revision: str = ""


def models_dir() -> Path:
    """The folder of all installed models (not created)."""
    return data_dir() / "models"


def folder_name(name: str) -> str:
    """A folder name for a model name; `hf://` names get a digest so that no two share one."""
    if re.fullmatch(r"[\w.-]+", name):
        return name
    slug = re.sub(r"[^\w.-]+", "-", name.removeprefix("hf://"))[:80]
    return f"hf-{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an installed model; None where there is none (not installed, or only half).

    Raises:
        ModelError: There is one, but it can't be read.
    """
    path = folder / MANIFEST
    try:
        table = json.loads(path.read_bytes())
        if not fits(table, _FORM):
            raise ValueError("odd values")
        table["files"] = tuple(InstalledFile(**entry) for entry in table["files"])
        manifest = Manifest(**table)
        if not manifest.files or not all(re.fullmatch(r"[\w.-]+", f.name) for f in manifest.files):
            raise ValueError("odd entries")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "mend its permissions") from error
    except BAD_DATA:
        raise ModelError(f"{path}: damaged", "remove the folder it is in, then pull the model again") from None
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest: from now on the folder is an installed model."""
    with atomic_write(folder / MANIFEST, follow=False) as stream:
        stream.write(json.dumps(asdict(manifest), indent=2).encode())


def check(folder: Path, name: str) -> Manifest:
    """The manifest, after a look at every file's size, which is quick; `verify` looks at the contents.

    Raises:
        MissingError: Not installed.
        ModelError: A file is missing or has another size.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise MissingError(f"model {name} is not installed", f"prlm-edge model pull {name}")
    for entry in manifest.files:
        if problem := _problem(folder, entry):
            raise ModelError(f"{folder}/{problem}", f"prlm-edge model pull {name}")
    return manifest


def _problem(folder: Path, entry: InstalledFile) -> str:
    """What a look at a file's size says against it; "" if nothing."""
    path = folder / entry.name
    if not path.is_file():
        return f"{entry.name} is missing"
    size = path.stat().st_size
    return "" if size == entry.size else f"{entry.name} has {size:,} bytes instead of {entry.size:,}"


def verify(folder: Path, name: str) -> list[str]:
    """Hash every file again and name what is wrong, one line a file; an empty list is a sound model.

    Raises:
        MissingError: Not installed.
        ModelError: The manifest or a file can't be read.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise MissingError(f"model {name} is not installed", f"prlm-edge model pull {name}")
    problems = []
    for entry in manifest.files:
        problem = _problem(folder, entry)
        if not problem:
            try:
                digest = hash_file(folder / entry.name)
            except OSError as error:
                raise ModelError(f"{folder / entry.name}: {error.strerror}", "mend its permissions") from error
            problem = "" if digest == entry.sha256 else f"{entry.name} has sha256 {digest} instead of {entry.sha256}"
        problems += [problem] if problem else []
    return problems


def require_space(folder: Path, need: int) -> None:
    """See that `need` more bytes fit on the disk of `folder`.

    Raises:
        PrlmError: They don't.
    """
    free = shutil.disk_usage(folder).free
    if free < need:
        raise PrlmError(
            f"{folder}: {need / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free",
            "free some space, or set PRLM_HOME to a folder on another disk",
        )


def hash_file(path: Path) -> str:
    """SHA-256 of the file's bytes as they are now, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def installed() -> list[tuple[Path, Manifest]]:
    """Every installed model's folder and manifest, by folder name; damaged manifests are left out."""
    found = []
    root = models_dir()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.name.startswith("."):
            continue
        try:
            manifest = read_manifest(folder)
        except ModelError:
            continue
        if manifest is not None:
            found.append((folder, manifest))
    return found


def remove(folder: Path) -> int:
    """Delete an installed or half-fetched model; returns the bytes freed. The manifest goes first.

    Raises:
        PrlmError: It can't be deleted.
    """
    freed = 0
    with locked(folder):
        try:
            for path in (folder, staging(folder)):
                freed += sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
                (path / MANIFEST).unlink(missing_ok=True)
                if path.exists():
                    shutil.rmtree(path)
        except OSError as error:
            raise write_error(folder, error) from error
    return freed


def staging(folder: Path) -> Path:
    """Where a model's files are gathered before the folder itself exists; kept for resuming."""
    return folder.with_name(f".{folder.name}.partial")


@contextlib.contextmanager
def making_copy(folder: Path) -> Iterator[Path]:
    """An empty folder inside an installed model's, to make a copy of it in; gone behind the block.

    What killed processes left of such folders goes too: the caller holds the model's lock.

    Raises:
        PrlmError: The block can't write there.
    """
    try:
        try:
            yield Path(tempfile.mkdtemp(prefix=".tune-", dir=folder))
        finally:
            for left in folder.glob(".tune-*"):
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        raise write_error(folder, error) from error


def installed_export(name: str) -> Manifest | None:
    """The manifest of an installed export; None where no such one is installed.

    Raises:
        ModelError: It is damaged.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        return None
    manifest = read_manifest(models_dir() / name)
    return manifest if manifest is not None and manifest.source == SOURCE else None


def is_onnx(path: Path) -> bool:
    """Whether `path` is a folder with an ONNX language model."""
    return (path / ONNX_MARKER).is_file()
