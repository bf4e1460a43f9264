"""A small HTTP client for one need: POST JSON, read server-sent events, stop at once when asked to.

urllib can't be interrupted inside a read. Here a thread connects and reads, and the caller, waiting for it, looks at
the cancel flag and the clock; a stream that ends early shuts its socket down, which is also how llama-server and vLLM
learn that they may stop. What a server sends is bounded in size and time. No proxies, redirects or retries.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from prlm_edge.errors import BackendError, UsageError
from prlm_edge.types import Cancel

POLL_S = 0.05
MAX_LINE = 1 << 20  # bytes of one line, of one event, and of a list of models
MAX_REPLY = 64 << 20  # bytes of a whole stream
_END, _NONE = object(), object()
_HINTS = {
    401: "set the server's key: PRLM_API_KEY=...",
    403: "set the server's key: PRLM_API_KEY=...",
    404: "base_url should end in /v1, and --model name a model of that server",
}


class RefusedError(BackendError):
    """The server answered with an error status.

    Attributes:
        status: The HTTP status.
        detail: What the server said.
    """

    def __init__(self, host: str, status: int, detail: str) -> None:
        super().__init__(f"{host} answered {status}: {detail}", _HINTS.get(status, "see the server's own log"))
        self.status, self.detail = status, detail


class Client:
    """Requests to one server.

    Args:
        base_url: Up to and including the version, such as "http://127.0.0.1:8080/v1".
        api_key: Sent as a bearer token when not empty; never shown.

    Attributes:
        connect_s: Seconds to connect.
        quiet_s: Seconds without anything of use; keep-alive comments are of none.
        list_s: Seconds for the whole list of models.
        total_s: Seconds of waiting in one stream.

    Raises:
        UsageError: `base_url` is not an http(s) address, or the key can't be sent.
    """

    connect_s, quiet_s, list_s, total_s = 10.0, 300.0, 30.0, 3600.0

    def __init__(self, base_url: str, api_key: str = "") -> None:
        hint = "write it like http://127.0.0.1:8080/v1"
        try:
            parts = urlsplit(base_url.strip().rstrip("/"))
            host, self._port = parts.hostname, parts.port
            (host or "").encode("idna")  # a name that no server can have
            if not parts.path.isascii() or any(one.isspace() or not one.isprintable() for one in base_url.strip()):
                raise ValueError("odd characters")
        except ValueError:
            parts, host = None, None
        if parts is None or parts.scheme not in ("http", "https") or not host:
            raise UsageError("base_url is not an http(s) address", hint)
        if parts.username is not None or parts.query or parts.fragment:
            raise UsageError("base_url holds more than an address", f"{hint}, and a key into PRLM_API_KEY")
        self._key = api_key.strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UsageError(
                "the server's key holds characters that can't be sent", "set PRLM_API_KEY to the key alone"
            )
        self.host, self._path, self._secure = host, parts.path, parts.scheme == "https"

    def get(self, path: str) -> Any:
        """GET `path`; returns the parsed JSON.

        Raises:
            BackendError: The server can't be reached, refuses, takes too long, or sends no JSON or too much of it.
        """

        def read(connection: http.client.HTTPConnection) -> Iterator[Any]:
            connection.request("GET", self._path + path, headers=self._headers())
            yield _parsed(_bounded(self._checked(connection.getresponse()), MAX_LINE))

        return next(self._received(read, Cancel(), self.list_s, self.list_s))

    def stream(self, path: str, body: dict[str, Any], cancel: Cancel) -> Iterator[dict[str, Any]]:
        """POST `body` to `path`; yields each event's JSON until "[DONE]". Ends early, without error, when cancelled.

        A server that ignores `"stream": true` and sends one JSON document yields that document.

        Raises:
            RefusedError: The server answered with an error status.
            BackendError: The server can't be reached, breaks off, takes too long, or sends what is no event.
        """

        def read(connection: http.client.HTTPConnection) -> Iterator[dict[str, Any]]:
            headers = {**self._headers(), "Content-Type": "application/json", "Accept": "text/event-stream"}
            connection.request("POST", self._path + path, json.dumps(body).encode(), headers)
            finished = False  # some servers end without [DONE]
            for event in _events(self._checked(connection.getresponse())):
                if event is None:
                    return
                if not isinstance(event, dict):
                    raise ValueError("an event is not a JSON object")
                if event.get("error"):
                    raise BackendError(f"{self.host}: {self._said(event)}", "see the server's own log")
                finished = finished or _finishes(event)
                yield event
            if not finished:
                raise ConnectionError("the server broke off in mid-reply")

        return self._received(read, cancel, self.quiet_s, self.total_s)

    def _received(
        self,
        read: Callable[[http.client.HTTPConnection], Iterator[Any]],
        cancel: Cancel,
        quiet_s: float,
        total_s: float,
    ) -> Iterator[Any]:
        """What `read` yields in a thread of its own; ends early when cancelled, fails when it takes too long."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self.host, self._port, timeout=self.connect_s)
        items: queue.Queue[Any] = queue.Queue(maxsize=256)
        ended = threading.Event()

        def work() -> None:
            try:
                connection.connect()
                connection.sock.settimeout(quiet_s)
                if all(_put(items, item, ended) for item in read(connection)):
                    _put(items, _END, ended)
            except BackendError as error:
                _put(items, error, ended)
            except Exception as error:  # noqa: BLE001 - whatever it is, the request must end
                _put(items, self._failure(error), ended)

        threading.Thread(target=work, daemon=True).start()
        left, item = total_s, _NONE
        try:
            while not cancel.cancelled and left > 0:
                item, waited = _next(items, cancel, min(quiet_s, left))
                left -= waited
                if item is _END or item is _NONE:
                    break
                if isinstance(item, BackendError):
                    raise item
                yield item
            if not cancel.cancelled and item is not _END:
                raise self._failure(TimeoutError("no answer in time"))
        finally:
            ended.set()
            with contextlib.suppress(OSError, AttributeError):  # not connected yet
                connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _checked(self, response: http.client.HTTPResponse) -> http.client.HTTPResponse:
        if response.status < 300:
            return response
        try:
            detail = self._said(_parsed(response.read(1 << 16)))
        except ValueError:
            detail = response.reason
        raise RefusedError(self.host, response.status, detail)

    def _said(self, body: Any) -> str:
        """The server's own words; some quote the key."""
        error = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
        text = " ".join(str(error.get("message", error) if isinstance(error, dict) else error).split())
        return (text.replace(self._key, "...") if self._key else text)[:300]

    def _failure(self, error: Exception) -> BackendError:
        port = f":{self._port}" if self._port else ""
        return BackendError(
            f"{self.host}{port}: {error or type(error).__name__}", "is the server running, and base_url right?"
        )


def _put(items: queue.Queue[Any], item: Any, ended: threading.Event) -> bool:
    """Whether the item was taken; False where nobody waits for it any more."""
    while not ended.is_set():
        with contextlib.suppress(queue.Full):
            items.put(item, timeout=POLL_S)
            return True
    return False


def _next(items: queue.Queue[Any], cancel: Cancel, seconds: float) -> tuple[Any, float]:
    """The next item, `_NONE` where none comes in time or `cancel` is set, and the seconds waited for it."""
    waited = 0.0
    while not cancel.cancelled and waited < seconds:
        with contextlib.suppress(queue.Empty):
            return items.get(timeout=POLL_S), waited
        waited += POLL_S
    return _NONE, waited


def _events(response: http.client.HTTPResponse) -> Iterator[Any]:
    """The parsed data of each server-sent event, None for "[DONE]".

    The standard puts an empty line behind each event. A line that is JSON by itself is an event at once, since some
    servers leave that line out; data of several lines are one event; empty data is a sign of life and no event. A reply
    that begins with "{" is the one JSON document of a server that doesn't stream.
    """
    held: list[str] = []
    n_held = n_bytes = 0
    while line := response.readline(MAX_LINE + 1):
        n_bytes += len(line)
        if len(line) > MAX_LINE or n_held > MAX_LINE or n_bytes > MAX_REPLY:
            raise ValueError("more than an answer can hold")
        text = line.decode("utf-8", "replace").lstrip("\ufeff").rstrip("\r\n")
        if n_bytes == len(line) and text.lstrip().startswith("{"):
            yield _parsed(text + _bounded(response, MAX_LINE).decode("utf-8", "replace"))
            return
        data = text[5:].strip() if text.startswith("data:") else ""
        if data == "[DONE]" and not held:
            yield None
        elif data:
            try:
                whole = None if held else _parsed(data)
            except ValueError:
                whole = None  # the first of several lines
            if whole is not None:
                yield whole
            else:
                held.append(data)
                n_held += len(data) + 1
        elif not text and held:
            yield _parsed("\n".join(held))
            held, n_held = [], 0
    if held:
        yield _parsed("\n".join(held))


def _finishes(event: dict[str, Any]) -> bool:
    """Whether a chat reply ends with this event: it says so, or it is a whole message."""
    choices = event.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and (choice.get("finish_reason") or "message" in choice) for choice in choices
    )


def _bounded(response: http.client.HTTPResponse, limit: int) -> bytes:
    body = response.read(limit + 1)
    if len(body) > limit:
        raise ValueError("more than an answer can hold")
    return body


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
