"""Pulling models from a Hugging Face hub on the loopback."""

import contextlib
import hashlib
import http.server
import sys
import threading

import pytest
from helpers import sha256

from prlm_edge import models
from prlm_edge.errors import MissingError, ModelError, PrlmError
from prlm_edge.models import store
from prlm_edge.models.fetch import fetch

pytestmark = pytest.mark.usefixtures("home")
DATA = b"GGUF" + bytes(range(256)) * 4000
REPO = "hf://owner/repo/m.gguf"


class Hub(http.server.BaseHTTPRequestHandler):
    """What the resolve addresses of a Hugging Face hub answer, with ranges."""

    protocol_version = "HTTP/1.1"
    blob, etag, cdn, requests, tokens = DATA, sha256(DATA), "", [], []
    length = "whole"  # what a HEAD announces: the blob's own, another number, or None

    def do_HEAD(self):
        self.reply(body=False)

    def do_GET(self):
        self.reply(body=True)

    def reply(self, body):
        self.requests.append((self.command, self.headers.get("Range")))
        self.tokens.append((self.command, self.headers.get("Authorization")))
        if self.command == "HEAD" and self.cdn:
            linked = {"X-Linked-Etag": f'"{self.etag}"', "X-Linked-Size": len(self.blob)}
            self.head(302, {"Location": self.cdn, "Content-Length": 0, **linked})
        elif not self.path.startswith("/owner/repo/resolve/"):
            self.head(404, {"X-Error-Code": "RepoNotFound", "Content-Length": 0})
        else:
            wanted, size = self.headers.get("Range"), len(self.blob)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            part = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if wanted else {}
            length = {"Content-Length": size - start if body or self.length == "whole" else self.length}
            length = {"Transfer-Encoding": "chunked"} if None in length.values() else length
            self.head(206 if wanted else 200, {"ETag": f'"{self.etag}"', **length, **part})
            if body:
                with contextlib.suppress(OSError):  # the client went away
                    self.wfile.write(self.blob[start:])

    def head(self, status, headers):
        self.send_response(status)
        for name, value in {"X-Repo-Commit": "c0ffee" + "0" * 34, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *_):
        pass


def point_at(monkeypatch, endpoint):
    """What HF_ENDPOINT does when huggingface_hub is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")

    class Fresh(Hub):
        requests, tokens = [], []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    Fresh.port = server.server_port
    yield Fresh
    server.shutdown()
    server.server_close()
    thread.join()


def half_a_download():
    """Half of the file is there: its download was interrupted."""

    def interrupt(done, total):
        if done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(models.find(REPO), interrupt)
    with pytest.raises(MissingError):
        models.resolve(REPO)


@pytest.fixture
def half(hub):
    half_a_download()
    hub.requests.clear()


def test_a_model_from_the_hub(hub, capfd):
    seen = []
    result = fetch(models.find(REPO), lambda done, total: seen.append((done, total)))
    assert models.resolve(REPO).read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert len(seen) > 5
    assert result.manifest.revision.startswith("c0ffee")
    assert result.manifest.pinned is False
    assert capfd.readouterr() == ("", "")  # no bar but ours
    hub.requests.clear()
    assert fetch(models.find(REPO)).fresh is False
    assert hub.requests == []


def test_the_token_goes_to_the_hub_only(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.cdn = f"http://localhost:{hub.port}/owner/repo/resolve/main/m.gguf"
    fetch(models.find(REPO))
    assert hub.tokens == [("HEAD", "Bearer hf_secret"), ("GET", None)]
    hub.cdn = ""
    hub.tokens.clear()
    store.remove(models.find(REPO).folder)
    fetch(models.find(REPO))
    assert hub.tokens == [("HEAD", "Bearer hf_secret"), ("GET", "Bearer hf_secret")]


def test_an_interrupted_download_goes_on_where_it_stopped(hub, half):
    fetch(models.find(REPO))
    start = int(hub.requests[-1][1].removeprefix("bytes=").rstrip("-"))
    assert start >= 500_000
    assert models.resolve(REPO).read_bytes() == DATA
    assert sorted(path.name for path in models.find(REPO).folder.iterdir()) == ["m.gguf", "manifest.json"]


def test_a_file_that_changed_meanwhile_is_not_mixed(hub, half):
    hub.blob = b"GGUF" + DATA[:3:-1] + b"new"
    hub.etag = sha256(hub.blob)
    fetch(models.find(REPO))
    assert models.resolve(REPO).read_bytes() == hub.blob


def test_without_a_hash_a_download_starts_from_0(hub):
    """Two halves of different contents would pass for one file."""
    hub.etag = "W-5f3c"
    half_a_download()
    hub.blob = b"GGUF" + DATA[:3:-1]
    hub.requests.clear()
    fetch(models.find(REPO))
    assert hub.requests[-1] == ("GET", None)
    assert models.resolve(REPO).read_bytes() == hub.blob


def test_a_small_file_has_gits_own_hash(hub):
    hub.etag = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    fetch(models.find(REPO))
    store.remove(models.find(REPO).folder)
    hub.etag = "0" * 40
    with pytest.raises(ModelError, match="announced"):
        fetch(models.find(REPO))


def test_lengths_are_announced_and_kept(hub):
    hub.length = len(DATA) - 5  # more comes than that
    with pytest.raises(PrlmError):
        fetch(models.find(REPO))
    assert not list(store.models_dir().rglob("m.gguf"))
    hub.length = None
    with pytest.raises(PrlmError, match="no length") as caught:
        fetch(models.find(REPO))
    assert "--from" in caught.value.hint


def test_a_download_that_is_not_what_the_hub_announced(hub):
    hub.etag = "0" * 64
    with pytest.raises(ModelError, match="announced"):
        fetch(models.find(REPO))
    with pytest.raises(MissingError):
        models.resolve(REPO)
    assert not list(store.models_dir().rglob("*.part"))


def test_trust_on_first_use(hub):
    fetch(models.find(REPO))
    path = models.resolve(REPO)
    path.write_bytes(b"damaged")
    fetch(models.find(REPO))  # mended: the hub still has the recorded bytes
    assert path.read_bytes() == DATA
    path.write_bytes(b"damaged")
    hub.blob = b"GGUF" + b"another model"
    hub.etag = sha256(hub.blob)
    with pytest.raises(ModelError) as error:
        fetch(models.find(REPO))
    assert sha256(hub.blob) in error.value.message
    assert "model rm" in error.value.hint
    store.remove(models.find(REPO).folder)
    assert fetch(models.find(REPO)).manifest.files[0].sha256 == sha256(hub.blob)


def test_an_error_page_is_not_a_model(hub):
    hub.blob, hub.etag = b"<html>please log in</html>", "not-a-sha"
    with pytest.raises(ModelError, match="not a GGUF file"):
        fetch(models.find(REPO))
    with pytest.raises(MissingError):
        models.resolve(REPO)


def test_a_repository_that_is_not_there(hub):
    with pytest.raises(PrlmError) as error:
        fetch(models.find("hf://owner/other/m.gguf"))
    assert "\n" not in error.value.message
    assert "check the name" in error.value.hint


def test_a_hub_that_cannot_be_reached(hub, monkeypatch):
    point_at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(PrlmError) as error:
        fetch(models.find(REPO))
    assert "pull again" in error.value.hint


def test_offline_mode(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE"):
        fetch(models.find(REPO))


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingError) as error:
        fetch(models.find(REPO))
    assert error.value.hint == 'pip install "prlm-edge[hub]"'


def test_pull_returns_what_resolve_returns(hub):
    assert models.pull(REPO) == models.resolve(REPO)
