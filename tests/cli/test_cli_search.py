"""`prlm-edge search`: on a bare install, from files, pipes and settings."""

import json
import subprocess
import sys
from functools import partial

import pytest

from prlm_edge.storage import cache_dir

ROWS = [
    {"id": "bread", "title": "rye wins", "text": "three flours for my sourdough", "date": "2024-01", "meta": {"x": 1}},
    {"id": "drain", "title": "the drain we should have dug", "text": "the allotment flooded", "date": "2025-03"},
    {"id": "untitled", "text": "a bicycle wheel\n\ncame back " + "and back " * 50},
]


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "me.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


@pytest.fixture
def run(cli):
    return partial(cli, "search")


def test_lines(run, profile):
    code, out, err = run("Sourdough", "rye", "--user", profile, "-k", "2")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first.split()[0] == "1"
    assert float(first.split()[1]) > 0
    assert first.endswith("bread  rye wins")
    assert "0.0000  2025-03" in second
    _, out, _ = run("bicycle", "-u", profile, "-k", "1")
    assert "untitled  a bicycle wheel came back and back" in out
    assert len(out.splitlines()) == 1


def test_json(run, profile):
    code, out, _ = run("sourdough", "--user", profile, "-k", "9", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["query"], found["retriever"], found["k"], found["items"]) == ("sourdough", "bm25", 9, 3)
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert {key: found["hits"][0][key] for key in ROWS[0]} == ROWS[0]
    assert found["hits"][0]["score"] == found["hits"][0]["parts"]["bm25"] > 0
    assert found["hits"][1]["parts"] == {"recency_rank": 1}


def test_a_query_from_a_pipe(run, profile):
    found = json.loads(run("-", "--user", profile, "--json", stdin=b"a flooded\nallotment \xff").out)
    assert found["hits"][0]["id"] == "drain"


def test_other_retrievers(run, profile):
    order = [h["id"] for h in json.loads(run("x", "-u", profile, "-r", "recency", "--json")[1])["hits"]]
    assert order == ["drain", "bread", "untitled"]
    one = run("x", "-u", profile, "-r", "random", "--seed", "3", "--json")[1]
    assert one == run("x", "-u", profile, "-r", "random", "--seed", "3", "--json")[1]
    code, out, err = run("x", "-u", profile, "-r", "none")
    assert (code, out, err) == (0, "", "nothing found\n")


def test_the_settings_are_used(run, profile, monkeypatch):
    monkeypatch.setenv("PRLM_USER", profile)
    monkeypatch.setenv("PRLM_K", "1")
    monkeypatch.setenv("PRLM_RETRIEVER", "recency")
    found = json.loads(run("x", "--json")[1])
    assert [hit["id"] for hit in found["hits"]] == ["drain"]


def test_an_empty_profile(run, tmp_path):
    path = tmp_path / "empty.jsonl"
    path.touch()
    code, out, err = run("x", "-u", str(path))
    assert (code, out) == (0, "")
    assert "has no items yet" in err


def test_bad_lines_are_mentioned(run, profile):
    with open(profile, "a") as stream:
        stream.write("{broken\n")
    code, out, err = run("sourdough", "-u", profile, "-k", "1")
    assert code == 0
    assert "bread" in out
    assert "1 unreadable" in err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "query"),
        (["x"], 2, "no profile to search"),
        (["x", "-u", "missing.jsonl"], 2, "missing.jsonl"),
        (["x", "-u", "PROFILE", "-k", "0"], 2, "k"),
        (["x", "-u", "PROFILE", "-k", "-3"], 2, "k"),
        (["x", "-u", "PROFILE", "-r", "bm52"], 2, "bm25"),
        (["x", "-u", "PROFILE", "-r", "dense"], 4, "model pull minilm"),
        (["x", "-u", "."], 2, "folder"),
    ],
)
def test_wrong_requests(run, profile, args, code, words):
    got, out, err = run(*[profile if a == "PROFILE" else a for a in args])
    assert (got, out) == (code, "")
    assert words in err.lower()
    assert len(err.splitlines()) == 2


def test_no_cache(run, tmp_path):
    path = tmp_path / "large.jsonl"
    path.write_text("".join(json.dumps({"id": str(i), "title": f"item nr{i}"}) + "\n" for i in range(2500)))
    with_cache = run("nr1234", "-u", str(path), "-k", "1", "--no-cache")
    assert not (cache_dir() / "bm25").exists()
    assert run("nr1234", "-u", str(path), "-k", "1") == with_cache
    assert "  1234  item nr1234" in with_cache[1]


BARE = """
import sys
for name in ("onnxruntime", "tokenizers", "llama_cpp", "huggingface_hub", "torch", "transformers"):
    sys.modules[name] = None  # importing it fails
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if sys.modules.get(name, 0) is None else real(name, *rest)
from prlm_edge.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.usefixtures("home")
def test_a_bare_install_retrieves(profile):
    def search(*args):
        command = [sys.executable, "-c", BARE, "search", *args, "-u", profile, "--json"]
        return subprocess.run(command, text=True, capture_output=True, check=False)

    ran = search("sourdough")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["hits"][0]["id"] == "bread"
    ran = search("x", "-r", "dense")
    assert ran.returncode == 4
    assert 'pip install "prlm-edge[onnx]"' in ran.stderr
