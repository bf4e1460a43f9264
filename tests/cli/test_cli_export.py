"""`prlm-edge export`: what is refused before any work, and what a verdict looks like on the terminal."""

import json
from types import SimpleNamespace

import pytest

from prlm_edge.cli import main

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main(["export", *map(str, args)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("verb", ["gguf", "adapter", "onnx"])
def test_what_is_no_run_is_refused(run, tmp_path, verb):
    code, out, err = run(verb, tmp_path / "gone", "-o", tmp_path / "out")
    assert (code, out) == (2, "") and "no such folder" in err and "Traceback" not in err
    code, _, err = run(verb, tmp_path, "-o", tmp_path / "out")
    assert code == 2 and "no trained adapter" in err
    assert not (tmp_path / "out").exists()


def test_what_is_no_encoder_is_refused(run, tmp_path):
    code, _, err = run("embedder", tmp_path, "-o", tmp_path / "out")
    assert code == 2 and "no encoder" in err


def test_formats_are_checked_first(run, tmp_path):
    code, _, err = run("gguf", tmp_path, "-o", tmp_path / "out", "--quant", "q3")
    assert code == 2 and "auto, f16" in err
    code, _, err = run("onnx", tmp_path, "-o", tmp_path / "out", "--quant", "q8_0")
    assert code == 2 and "int8" in err
    for option in ("--max-kl", "--rouge-users"):
        code, _, err = run("gguf", tmp_path, "-o", tmp_path / "out", "--quant", "f16", option, "0")
        assert code == 2 and option in err and "auto alone" in err


@pytest.mark.parametrize("ok", [True, False])
def test_a_verdict_is_a_table_or_json_and_an_exit_code(run, tmp_path, monkeypatch, ok):
    from prlm_edge.cli import export
    from prlm_edge.export import to_adapter
    from prlm_edge.export.check.verify import Finding, Verification
    from prlm_edge.export.pipeline import Exported

    folder = tmp_path / ("voice" if ok else "voice.failed")
    checks = (Finding("tokens", True, "9 texts tokenize alike"), Finding("prompts", ok, "2 of 9 prompts differ"))
    table = [{"quant": "q8_0", "size": 9, "kl": 0.0025, "rougeL": 0.31}, {"quant": "f16", "size": 17, "rougeL": 0.3125}]
    done = Exported(folder, "lora-f16", Verification("voice", checks), table)
    monkeypatch.setattr(to_adapter, "export_adapter", lambda source, wanted, bars: done)
    monkeypatch.setattr(export._Asked, "open", lambda *_: (None, SimpleNamespace(name="voice")))
    code, out, err = run("adapter", tmp_path, "-o", tmp_path / "voice")
    assert code == (0 if ok else 3)
    assert ("FAILED" in out) is not ok
    rows = [line.split() for line in out.splitlines()[:3]]
    assert rows == [["QUANT", "SIZE", "KL", "ROUGEL"], ["q8_0", "9", "0.0025", "0.31"], ["f16", "17", "0.3125"]]
    assert ("model install" in err) if ok else ("it was not published" in err and "voice.failed" in err)
    code, out, _ = run("adapter", tmp_path, "-o", tmp_path / "voice", "--json")
    assert json.loads(out)["ok"] is ok and code == (0 if ok else 3)
