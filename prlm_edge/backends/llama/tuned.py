"""A model's tuned copy: the same weights in a format that llama.cpp reads prompts faster from.

llama.cpp has no matrix kernel for Q4_1; the same weights as Q8_0 evaluate a prompt 2.2 times faster and decode 1.2
times faster, for half as much memory again and a KL divergence of 0.005 (SmolLM2-135M, AVX-512). Requantizing takes
seconds, once. Which models gain from it is data (`tune` in models.toml). The pulled file stays: it is what training
starts from, and `--model FILE` runs any file as it is.

Not here: where models lie and which is run (`models.py`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from prlm_edge.errors import ModelError, PrlmError
from prlm_edge.models import store
from prlm_edge.storage import atomic_write, locked, write_error

RECORD = "tuned.json"
_GROWTH = 2.2  # no copy is larger than this many times its source


@dataclass(frozen=True)
class Tuned:
    """What a copy was made of, and what it was when it was made."""

    file: str
    size: int
    sha256: str
    format: str
    source_sha256: str


def find(folder: Path, format: str) -> Path | None:
    """The copy in an installed model's folder; None where there is none, or none of the file that is there now."""
    record = _read(folder)
    manifest = store.read_manifest(folder)
    if record is None or manifest is None:
        return None
    path = folder / record.file
    same = record.format == format and record.source_sha256 == manifest.files[0].sha256
    return path if same and path.is_file() and path.stat().st_size == record.size else None


def make(folder: Path, format: str) -> Path | None:
    """The copy, made now if need be; None where llama-cpp-python is not installed.

    Raises:
        PrlmError: There is no room, or it can't be written; the model is then run as it was pulled.
        ModelError: llama.cpp can't convert it.
    """
    if (path := find(folder, format)) is not None:
        return path
    if find_spec("llama_cpp") is None:
        return None
    with locked(folder):  # another process may just have made it
        return find(folder, format) or _make(folder, format)


def verify(folder: Path) -> list[str]:
    """What is wrong with the copy, one line; an empty list where it is sound or there is none."""
    record = _read(folder)
    if record is None:
        return []
    path = folder / record.file
    if not path.is_file() or path.stat().st_size != record.size or store.hash_file(path) != record.sha256:
        return [f"{record.file} (the copy that is run) is damaged: delete {folder / RECORD}, it is then made again"]
    return []


def _make(folder: Path, format: str) -> Path:
    from prlm_edge.backends.llama.quantize import convert

    source = store.check(folder, folder.name).files[0]
    name = f"{Path(source.name).stem.removesuffix('.Q4_1')}.{format.upper()}.gguf"
    try:
        store.require_space(folder, int(source.size * _GROWTH))
        work = Path(tempfile.mkdtemp(prefix=".tune-", dir=folder))
        try:
            made = work / name
            if why := convert(folder / source.name, made, format, requantize=True):
                raise ModelError(f"{source.name}: llama.cpp can't make a {format} copy: {why}", "free some space")
            record = Tuned(name, made.stat().st_size, store.hash_file(made), format, source.sha256)
            made.chmod(0o600)
            made.replace(folder / name)
            with atomic_write(folder / RECORD, follow=False) as stream:
                stream.write(json.dumps(asdict(record), indent=2).encode())
        finally:
            shutil.rmtree(work, ignore_errors=True)
            for left in folder.glob(".tune-*"):  # of a process that was killed; the lock is ours
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder / name


def _read(folder: Path) -> Tuned | None:
    try:
        record = Tuned(**json.loads((folder / RECORD).read_bytes()))
        return record if isinstance(record.size, int) and Path(record.file).name == record.file else None
    except (OSError, ValueError, TypeError):
        return None


def ready(folder: Path, format: str) -> Path | None:
    """As `make`, for use: what can't be made is no error."""
    try:
        return make(folder, format)
    except PrlmError:
        return None
