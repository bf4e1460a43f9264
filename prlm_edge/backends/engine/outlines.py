"""Keeps what chat templates make of turns of certain roles: the next process need not load Jinja, which takes 28 ms."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from hashlib import blake2b

from prlm_edge.errors import PrlmError
from prlm_edge.storage import cache_dir
from prlm_edge.storage.kept import Shelf

_MOST = 64  # outlines of a template

#: A template's own text, and the place of each turn that stands there; whether the system turn is folded into the next.
Outline = tuple[list[str | int], bool]


class Outlines:
    """The kept outlines of one template, by the turns' roles.

    Args:
        identity: The template, and all else that an outline depends on.
    """

    def __init__(self, *identity: str) -> None:
        joined = "\0".join(identity).encode("utf-8", "surrogatepass")
        self._name = blake2b(joined, digest_size=16).hexdigest()
        self._shelf = Shelf(cache_dir() / "templates", "outlines 1", max_files=16)
        kept = self._shelf.open(self._name, self._name)
        self._known: dict[str, Outline] = dict(kept.about) if kept else {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def get(self, roles: Sequence[str]) -> Outline | None:
        """What the template makes of turns of these roles; None where that isn't known."""
        return self._known.get(" ".join(roles))

    def keep(self, roles: Sequence[str], outline: Outline) -> None:
        """Keep it for the next process, where that can be done."""
        if len(self._known) < _MOST:
            self._known[" ".join(roles)] = outline
            with contextlib.suppress(PrlmError):
                self._shelf.write(self._name, self._name, self._known, {})
