"""Downloading one file of a Hugging Face repository, resumable across runs.

huggingface_hub's own `hf_hub_download` starts again from 0 after an interruption. Its lower half, `http_get`, resumes:
it writes into a partial file of ours, named after the content's hash. Without an announced hash nothing is resumed: two
halves of different contents would pass for one file.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from prlm_edge.errors import MissingError, ModelError, PrlmError, first_line
from prlm_edge.models.catalog import FileSource, Progress
from prlm_edge.models.store import hash_file, require_space


def download_file(source: FileSource, target: Path, progress: Progress | None) -> str:
    """Download `source` to `target`, resuming a partial file where there is one.

    Returns:
        The commit of the repository that the file is from.

    Raises:
        MissingError: huggingface_hub isn't installed, or HF_HUB_OFFLINE is set.
        ModelError: The bytes are not those that the hub announced; they were removed.
        PrlmError: No network, no such repository or file, no access.
    """
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import OfflineModeIsEnabled
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers
    except ImportError:
        raise MissingError(
            "fetching from a Hugging Face repository needs huggingface_hub", 'pip install "prlm-edge[hub]"'
        ) from None
    url = hf_hub_url(source.hf, source.path, revision=source.revision)
    headers: dict[str, str] = build_hf_headers()
    try:
        remote = get_hf_file_metadata(url, headers=headers)
        if urlsplit(remote.location).netloc != urlsplit(url).netloc:
            headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}  # a signed CDN address
        etag, size = remote.etag or "", remote.size
        if size is None:
            raise PrlmError(f"{source}: the server announces no length", "download it yourself, then add --from FILE")
        hashed = re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", etag) is not None
        partial = _partial(target, etag if hashed else "whole")
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(partial, flags, 0o600), "r+b") as stream:
            have = stream.seek(0, os.SEEK_END)
            if have > size or not hashed:
                have = stream.truncate(0)
                stream.seek(0)
            require_space(target.parent, size - have)
            http_get(
                remote.location,
                _Counted(stream, progress, size),
                resume_size=have,
                headers=headers,
                expected_size=size,
                tqdm_class=_Silent,
            )
            stream.flush()
            os.fsync(stream.fileno())
    except OfflineModeIsEnabled:
        raise MissingError(
            "HF_HUB_OFFLINE is set, so nothing can be fetched", "unset HF_HUB_OFFLINE, then pull again"
        ) from None
    except PrlmError:
        raise
    except Exception as error:  # the hub's own errors, its HTTP client's, and OSError share no base
        raise _explained(error, source) from error
    if partial.stat().st_size != size or (hashed and _hash_like(partial, etag) != etag):
        partial.unlink()
        raise ModelError(f"{source}: the bytes that came are not those the hub announced", "pull again")
    partial.replace(target)
    return remote.commit_hash or ""


def _partial(target: Path, key: str) -> Path:
    """The file to download into; those of other contents are removed."""
    partial = target.with_name(f".{target.name}.{key}.part")
    for stale in target.parent.glob(f".{target.name}.*.part"):
        if stale != partial:
            stale.unlink()
    return partial


def _hash_like(path: Path, etag: str) -> str:
    """The file's hash of the kind that `etag` is: SHA-256 of a large file, git's SHA-1 of a small one."""
    if len(etag) == 64:
        return hash_file(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _explained(error: Exception, source: FileSource) -> PrlmError:
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return PrlmError(
            f"{error.filename}: {error.strerror}", "free some space or mend the permissions, then pull again"
        )
    hints = {
        "RepositoryNotFoundError": "check the name; for a private repository log in with `hf auth login`",
        "RevisionNotFoundError": "no such branch, tag or commit",
        "RemoteEntryNotFoundError": "the repository has no such file",
        "EntryNotFoundError": "the repository has no such file",
        "GatedRepoError": "accept the model's terms on its page, then log in with `hf auth login`",
    }
    return PrlmError(
        f"{source}: {first_line(error)}",
        hints.get(kind, "check the network, then pull again: it goes on where it stopped"),
    )


class _Counted:
    """A file that reports how far it has been written, and takes no more than `total` bytes."""

    def __init__(self, stream: IO[bytes], progress: Progress | None, total: int) -> None:
        self._stream, self._progress, self._total = stream, progress, total

    def write(self, data: bytes) -> int:
        if self._stream.tell() + len(data) > self._total:
            raise ModelError("more came than the hub announced", "pull again")
        written = self._stream.write(data)
        if self._progress is not None:
            self._progress(self._stream.tell(), self._total)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Silent:
    """Takes the place of tqdm, since prlm-edge shows a bar of its own."""

    def __init__(self, **options: Any) -> None:
        self.n = options.get("initial", 0)

    def update(self, n: int = 1) -> None:
        self.n += n

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exc: object) -> None:
        return None
