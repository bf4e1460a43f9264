"""A small HTTP client for one need: POST JSON, read server-sent events, stop at once when asked to.

urllib can't be interrupted inside a read; here a thread reads and a cancelled stream shuts its socket down, which is
also how llama-server and vLLM learn that they may stop. Not done: proxies, redirects, retries.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from prlm_edge.errors import BackendError, UsageError
from prlm_edge.types import Cancel

CONNECT_TIMEOUT_S, IDLE_TIMEOUT_S, POLL_S = 10.0, 300.0, 0.05
_END = object()


class Client:
    """Requests to one server.

    Args:
        base_url: Up to and including the version, such as "http://127.0.0.1:8080/v1".
        api_key: Sent as a bearer token when not empty; never shown.

    Raises:
        UsageError: `base_url` is not an http(s) address.
    """

    def __init__(self, base_url: str, api_key: str = "") -> None:
        parts = urlsplit(base_url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"base_url {base_url!r} is not an http(s) address", "write it like http://127.0.0.1:8080/v1"
            )
        self.host = parts.hostname
        self._parts, self._key = parts, api_key

    def get(self, path: str) -> Any:
        """GET `path`; returns the parsed JSON."""
        connection, _ = self._connect()
        try:
            connection.request("GET", self._parts.path + path, headers=self._headers())
            return json.loads(self._checked(connection.getresponse()).read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failure(error) from error
        finally:
            connection.close()

    def stream(self, path: str, body: dict[str, Any], cancel: Cancel) -> Iterator[dict[str, Any]]:
        """POST `body` to `path`; yields each event's JSON until "[DONE]". Ends early, without error, when cancelled.

        Raises:
            BackendError: The server can't be reached, refuses, or breaks off.
        """
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        connection, sock = self._connect()
        threading.Thread(target=self._read, args=(connection, path, body, events), daemon=True).start()
        try:
            while not cancel.cancelled:
                try:
                    event = events.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                if event is _END:
                    return
                if isinstance(event, BackendError):
                    raise event
                yield event
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _read(self, connection: Any, path: str, body: dict[str, Any], events: queue.SimpleQueue[Any]) -> None:
        try:
            headers = {**self._headers(), "Content-Type": "application/json", "Accept": "text/event-stream"}
            connection.request("POST", self._parts.path + path, json.dumps(body).encode(), headers)
            finished = False  # some servers end without [DONE]
            for line in self._checked(connection.getresponse()):
                text = line.decode("utf-8", "replace").strip()
                if text == "data: [DONE]":
                    finished = True
                    break
                if text.startswith("data:"):
                    event = self._event(json.loads(text[5:]))
                    finished = finished or any(choice.get("finish_reason") for choice in event.get("choices") or ())
                    events.put(event)
            events.put(_END if finished else self._failure(ConnectionError("the server broke off in mid-reply")))
        except BackendError as error:
            events.put(error)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            events.put(self._failure(error))  # AttributeError: the socket was closed under the reader by a cancel

    def _event(self, event: Any) -> dict[str, Any]:
        if not isinstance(event, dict):
            raise ValueError("an event is not a JSON object")
        if event.get("error"):
            raise BackendError(f"{self.host}: {_detail(event)}", "see the server's own log")
        return event

    def _connect(self) -> tuple[http.client.HTTPConnection, socket.socket]:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.host, self._parts.port, timeout=CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except OSError as error:
            raise self._failure(error) from error
        connection.sock.settimeout(IDLE_TIMEOUT_S)
        return connection, connection.sock

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _checked(self, response: http.client.HTTPResponse) -> http.client.HTTPResponse:
        if response.status < 300:
            return response
        try:
            detail = _detail(json.loads(response.read(65536)))
        except ValueError:
            detail = response.reason
        hints = {
            401: "set the server's key: PRLM_API_KEY=...",
            403: "set the server's key: PRLM_API_KEY=...",
            404: "base_url should end in /v1, and --model name a model of that server",
        }
        raise BackendError(
            f"{self.host} answered {response.status}: {detail}", hints.get(response.status, "see the server's own log")
        )

    def _failure(self, error: Exception) -> BackendError:
        port = f":{self._parts.port}" if self._parts.port else ""
        return BackendError(
            f"{self.host}{port}: {error or type(error).__name__}", "is the server running, and base_url right?"
        )


def _detail(body: Any) -> str:
    error = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
    text = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(text).split())[:300]
