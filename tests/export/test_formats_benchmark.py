"""benchmarks/formats.py on tiny models: every format measured, equal models answer equally, bad input is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation import row, write_rows
from tiny_lm import make_adapter, make_lm

for package in ("torch", "llama_cpp", "onnxruntime_genai", "rouge_score"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("home")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "formats.py"
N_USERS = 12


def run(*args):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, args)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same weights as a GGUF file and as an ONNX folder, and an adapter over them."""
    from prlm_edge.export.gguf.model import About, write_gguf
    from prlm_edge.export.onnx.model import export_onnx
    from prlm_edge.gguf.lora import write_lora_gguf

    work = tmp_path_factory.mktemp("formats")
    source = make_lm(work / "base", "llama", max_position_embeddings=4096, tie_word_embeddings=True)
    write_gguf(source, work / "tiny.gguf", About("Tiny", False), dtype="f32")
    export_onnx(source, work / "onnx", quant="f32", reasons=False)
    config = json.loads((source / "config.json").read_text())
    write_lora_gguf(make_adapter(source, work / "adapter"), config, work / "lora.gguf", reasons=False)
    return work


@pytest.mark.slow
def test_every_format_beside_the_first(made, tmp_path):
    data, out = write_rows(tmp_path / "dev.jsonl", [row(user) for user in range(N_USERS + 2)]), tmp_path / "out.json"
    gguf, lora, onnx = made / "tiny.gguf", made / "lora.gguf", made / "onnx"
    formats = (f"gguf={gguf}", f"lora={gguf},{lora}", f"onnx={onnx}")
    done = run(*formats, "--rounds", 1, "--data", data, "--limit", N_USERS, "--json", out)
    assert done.returncode == 0, done.stderr
    rows = {one["what"]: one for one in json.loads(out.read_text())["rows"]}
    assert list(rows) == ["gguf", "lora", "onnx"]
    assert all(f"| {name} |" in done.stdout for name in rows)
    mb = {"gguf": gguf.stat().st_size / 2**20, "lora": (gguf.stat().st_size + lora.stat().st_size) / 2**20}
    mb["onnx"] = sum(path.stat().st_size for path in onnx.iterdir()) / 2**20
    for name, one in rows.items():
        assert one["size_mb"] == pytest.approx(mb[name])
        assert one["size_ratio"] == pytest.approx(mb[name] / mb["gguf"])
        assert 0 < one["decode_tps_p10"] == one["decode_tps_median"] == one["decode_tps_p90"]  # of a single round
        assert all(one[key] > 0 for key in ("load_s_median", "prompt_tps_median", "users_per_min", "peak_ratio"))
        assert 20 < one["peak_mb_median"] < 4000
        assert 0 <= one["rougeL"] <= one["rouge1"] <= 1
    assert [rows["gguf"][f"{what}_ratio"] for what in ("size", "load", "prompt", "decode", "peak")] == [1.0] * 5
    equal = {name: int(one["equal"].removesuffix(f" of {N_USERS}")) for name, one in rows.items()}
    assert equal["gguf"] == N_USERS
    assert equal["onnx"] >= 1  # llama.cpp's cache has 16 bits, and a random model's next tokens are often near ties
    assert equal["lora"] < N_USERS


def test_what_is_not_there_is_said_in_a_line(tmp_path):
    gone = tmp_path / "none.gguf"
    for formats, message in (
        ((gone,), "does not read NAME=MODEL"),
        ((f"a={gone}",), "no such model file"),
        ((f"a={gone}", f"a={tmp_path}"), "two formats of one name"),
    ):
        done = run(*formats)
        assert done.returncode and message in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert not done.stdout


def test_an_adapter_over_onnx_is_refused_by_name(made):
    done = run(f"mine={made / 'onnx'},{made / 'lora.gguf'}", "--rounds", 1)
    assert done.returncode and "an adapter can't be applied to an ONNX model" in done.stderr
    assert "mine: speed failed" in done.stderr and "Traceback" not in done.stderr
