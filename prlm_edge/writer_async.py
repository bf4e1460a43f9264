"""A stream for an event loop: it runs in a thread of its own. Not here: what the stream does (`writer.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator

from prlm_edge.types import Event


async def in_thread(stream: Callable[[], Iterator[Event]]) -> AsyncIterator[Event]:
    """The events of `stream()`, and the error that ends it, whatever it is. Leaving early does not stop the thread."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event | BaseException | None]()

    def run() -> None:
        last: BaseException | None = None
        try:
            for event in stream():
                loop.call_soon_threadsafe(queue.put_nowait, event)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
            last = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens any more
            loop.call_soon_threadsafe(queue.put_nowait, last)

    # Not the loop's thread pool: streams that wait for their turn would fill it and starve the one that runs.
    threading.Thread(target=run, name="prlm-edge", daemon=True).start()
    while (event := await queue.get()) is not None:
        if isinstance(event, BaseException):
            raise event
        yield event
