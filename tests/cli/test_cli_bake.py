"""`prlm-edge model bake`: what is refused before any work, and the extra that brings what it needs."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from prlm_edge.cli import main

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
pytestmark = pytest.mark.usefixtures("home")


def bake(capsys, *args):
    code = main(["model", "bake", *map(str, args)])
    return code, capsys.readouterr().err


def test_without_gguf_it_names_its_extra(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gguf", None)
    base = tmp_path / "base.gguf"
    base.touch()
    code, err = bake(capsys, base, tmp_path / "voice.gguf", "-o", tmp_path / "out.gguf")
    assert code == 4 and 'pip install "prlm-edge[bake]"' in err and "Traceback" not in err


def test_the_extra_brings_the_gguf_that_export_has():
    extras = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    [pinned] = extras["bake"]
    assert re.fullmatch(r"gguf==[\d.]+", pinned)
    assert all(pinned in extras[name] for name in ("train", "export", "dev"))
    assert "bake" in re.split(r"[\[\],]", extras["all"][0])


def test_a_file_that_is_there_is_not_written_over(capsys, tmp_path):
    out = tmp_path / "out.gguf"
    out.write_bytes(b"mine")
    code, err = bake(capsys, "default", tmp_path / "voice.gguf", "-o", out)
    assert code == 2 and "--force" in err
    assert out.read_bytes() == b"mine"


def test_a_model_that_was_not_pulled_says_how(capsys, tmp_path):
    code, err = bake(capsys, "default", tmp_path / "voice.gguf", "-o", tmp_path / "out.gguf")
    assert code == 4 and "prlm-edge model pull" in err
