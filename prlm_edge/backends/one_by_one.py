"""`Backend.stream_many` for backends that answer one request at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prlm_edge.types import Backend, Cancel, Event, Request


def one_by_one(
    backend: Backend, requests: Sequence[Request], cancel: Cancel | None = None
) -> Iterator[tuple[int, Event]]:
    """`Backend.stream_many` for backends that answer one request at a time."""
    for place, request in enumerate(requests):
        for event in backend.stream(request, cancel):
            yield place, event
