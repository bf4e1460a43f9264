"""Serves the judging page on loopback.

A request without the token of the address gets no answer, and pages of other sites can't send one: Host and
Content-Type are checked.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from prlm_edge.errors import BAD_DATA, PrlmError, UsageError
from prlm_edge.evaluate.ab.votes import Votes

_HOST = "127.0.0.1"
_MAX_BODY = 64 * 1024
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server(ThreadingHTTPServer):
    """The page for `votes`; `url` is where it is."""

    daemon_threads = True

    def __init__(self, votes: Votes, port: int) -> None:
        self.votes = votes
        self.token = secrets.token_urlsafe(16)
        super().__init__((_HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The address, token included."""
        return f"http://{_HOST}:{self.server_port}/{self.token}/"


def make_server(votes: Votes, port: int = 0) -> Server:
    """A server that isn't running yet.

    Raises:
        UsageError: The port is taken.
    """
    try:
        return Server(votes, port)
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}", "choose another with --port, or leave it out") from None


def serve(votes: Votes, *, port: int = 0, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve until Ctrl-C; `on_ready` is called with the address."""
    with make_server(votes, port) as server:
        on_ready(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _file(name: str) -> str:
    return resources.files("prlm_edge.evaluate").joinpath(name).read_text("utf-8")


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "prlm-edge", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        what = self._asked()
        if what == "":
            nonce = secrets.token_urlsafe(12)
            page = _file("ab/page.html").replace("BASE_CSS", _file("report/base.css"))
            policy = f"default-src 'none'; connect-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
            self._send(HTTPStatus.OK, page.replace("NONCE", nonce).encode(), "text/html; charset=utf-8", policy)
        elif what == "state":
            self._state()
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        what, body = self._asked(), self._body()
        if what not in ("vote", "undo"):
            return self._refuse(HTTPStatus.NOT_FOUND)
        if body is None:
            return self._refuse(HTTPStatus.BAD_REQUEST)
        try:
            if what == "vote":
                self.server.votes.vote(str(body.get("row")), str(body.get("choice")), str(body.get("reason") or ""))
            else:
                self.server.votes.undo()
        except PrlmError as error:  # a wrong vote, or a full disk: the page says so and shows the pair again
            return self._send(HTTPStatus.CONFLICT, json.dumps({"error": error.message}).encode(), "application/json")
        return self._state()

    def _state(self) -> None:
        votes = self.server.votes
        pair = votes.next()
        state: dict[str, Any] = {"done": votes.done, "total": len(votes.pairs), "pair": pair.shown() if pair else None}
        if pair is None:  # the judge learns it at the end only
            state["result"] = asdict(votes.result())
        self._send(HTTPStatus.OK, json.dumps(state).encode(), "application/json")

    def _asked(self) -> str | None:
        """What the path names after the token; None for a request of a wrong host or token."""
        hosts = {f"{name}:{self.server.server_port}" for name in (_HOST, "localhost")}
        start = f"/{self.server.token}/"
        if self.headers.get("Host", "") not in hosts or not self.path.startswith(start):
            return None
        return self.path[len(start) :]

    def _body(self) -> dict[str, Any] | None:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json" or not length.isdecimal() or int(length) > _MAX_BODY:
            self.close_connection = True  # the body stays unread
            return None
        try:
            value = json.loads(self.rfile.read(int(length)))
        except BAD_DATA:
            return None
        return value if isinstance(value, dict) else None

    def _refuse(self, status: HTTPStatus) -> None:
        self._send(status, b"", "text/plain")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        headers = {
            **_HEADERS,
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": policy,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests hold the token."""
