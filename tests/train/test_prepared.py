"""Prepared data: read where nothing changed, wherever they lie; made anew where anything did, or they are damaged."""

import shutil

import pytest

pytest.importorskip("torch")

from prlm_edge.cli.train import stages
from prlm_edge.train import base, config
from prlm_edge.train.data import examples, prompts
from prlm_edge.train.data.prepared import Prepared

pytestmark = pytest.mark.model
SETS = ["data.reasoning=false", "data.k=2", "data.more_per_user=1"]


@pytest.fixture
def here(tmp_path, rows_file, tiny_folder):
    """A folder of data and base."""
    folder = tmp_path / "here"
    shutil.copytree(tiny_folder, folder / "tiny")
    shutil.copyfile(rows_file, folder / "rows.jsonl")
    return folder


def read(folder, monkeypatch, *overrides):
    """Examples and prompts by way of what is kept in `folder`, and how many of both were made."""
    given = {"data.files": [str(folder / "rows.jsonl")], "base.model": str(folder / "tiny")}
    recipe = config.load("edge-cpu", [*SETS, *overrides], given)
    tokens = base.load_tokens(folder / "tiny", recipe.data.max_tokens)
    kept, made = Prepared(folder / "run", recipe, folder / "tiny"), []
    with monkeypatch.context() as patch:
        for module in (examples, prompts):
            patch.setattr(
                module, "read", lambda *args, of=module.read, **options: made.append(1) or of(*args, **options)
            )
        found = stages._read(kept, recipe, tokens, dev=False), stages._prompts(kept, recipe, tokens, dev=False)
    return *found, len(made)


def counted(function, calls):
    return lambda *args, **options: calls.append(1) or function(*args, **options)


def test_they_are_made_once_and_read_wherever_they_lie(here, tmp_path, monkeypatch):
    *made, n = read(here, monkeypatch)
    assert n == 2 and made[0].examples and made[1][0]
    shutil.move(here, tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere", monkeypatch) == (*made, 0)
    assert read(tmp_path / "elsewhere", monkeypatch, "warmstart.lr=0.1") == (*made, 0)  # which makes no other prompts


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def add(path):
    path.write_text(path.read_text().replace("true", "false", 1) + "\n")


def less(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("run/prepared/*.gz", cut),
        ("run/prepared/*.gz", flip),
        ("rows.jsonl", less),
        ("tiny/chat_template.jinja", add),
        ("", None),
    ],
)
def test_damaged_or_stale_ones_are_made_anew(here, monkeypatch, what, spoil):
    read(here, monkeypatch)
    for path in here.glob(what) if what else ():
        spoil(path)
    overrides = [] if what else ["data.k=1"]
    *anew, n = read(here, monkeypatch, *overrides)
    assert n == 2
    shutil.rmtree(here / "run")
    assert read(here, monkeypatch, *overrides) == (*anew, 2)
