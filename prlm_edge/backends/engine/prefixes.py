"""Keeps evaluated prompt prefixes (system prompt and profile turns) and brings them back into a context.

What is kept ends where the last user turn begins: the request itself is never kept.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from prlm_edge.backends.engine.context import Context
from prlm_edge.backends.engine.prefix_store import PrefixStore
from prlm_edge.storage import cache_dir
from prlm_edge.types import TokenizedPrompt

MIN_TOKENS = 64  # a shorter prefix is evaluated sooner than it is found


class Prefixes:
    """The kept prefixes of one model.

    Args:
        store: Where they are kept.
        lasting: Whether they outlive the process, so that each is kept at once, not only when another displaces it.
    """

    def __init__(self, store: PrefixStore, *, lasting: bool) -> None:
        self.store, self._lasting = store, lasting

    def fetch(self, context: Context, prompt: TokenizedPrompt) -> None:
        """Make `context` hold what is kept of `prompt`, where that beats what it holds; keep what this displaces."""
        shared = context.shares(prompt)
        if context.prompt is not None and shared < context.prompt.n_stable:
            self.keep(context)
        have = prompt.cuts[shared - 1] if shared else 0
        found = self.store.find(prompt.digests[:-1], at_least=have + MIN_TOKENS)
        if found is not None:
            context.resume(prompt, found.n_cuts, found.state)

    def keep(self, context: Context) -> None:
        """Keep the prefix of the context's prompt; the context is rolled back to it unless it was kept already."""
        prompt = context.prompt
        if prompt is None or not 0 < prompt.n_stable <= context.n_cuts:
            return
        digests, n_tokens = prompt.digests[: prompt.n_stable], prompt.cuts[: prompt.n_stable]
        if n_tokens[-1] >= MIN_TOKENS and not self.store.has(digests) and context.roll_back(n_tokens[-1]):
            self.store.keep(digests, n_tokens, context.slots.save())

    def finished(self, context: Context) -> None:
        """A request has been answered."""
        if self._lasting:
            self.keep(context)


def file_key(path: Path) -> str:
    """Tells a file from all others, and from what it was before it changed; reads its size and time only."""
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def open_prefixes(where: str, disk_mb: int, *identity: str) -> Prefixes | None:
    """The kept prefixes of one model, adapter and build, which `identity` separates from all others.

    Args:
        where: "off" (None is returned), "memory" or "disk".
        disk_mb: MiB they may take on disk.
        identity: What a state depends on besides the tokens.
    """
    if where == "off":
        return None
    key = blake2b("\n".join(identity).encode(), digest_size=16).hexdigest()  # the digests say the rest
    folder = cache_dir() / "prefix" if where == "disk" else None
    return Prefixes(PrefixStore(key, folder=folder, disk_bytes=disk_mb << 20), lasting=folder is not None)
