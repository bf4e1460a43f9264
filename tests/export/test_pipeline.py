"""From a run to a published folder on tiny models: what comes out, that a killed export goes on, and what is caught."""

import json
import shutil
from dataclasses import replace

import pytest
from tiny_lm import CORPUS, edit, make_adapter, make_lm

torch = pytest.importorskip("torch")
pytest.importorskip("llama_cpp")

from prlm_edge.backends.llama.backend import LlamaCpp  # noqa: E402
from prlm_edge.errors import UsageError  # noqa: E402
from prlm_edge.export import merge, pipeline, to_gguf  # noqa: E402
from prlm_edge.export.check import dev_rouge  # noqa: E402
from prlm_edge.export.gguf import model as gguf  # noqa: E402
from prlm_edge.export.gguf import quantize  # noqa: E402
from prlm_edge.export.source import Wanted, open_source  # noqa: E402
from prlm_edge.export.to_adapter import export_adapter  # noqa: E402
from prlm_edge.export.to_gguf import export_gguf  # noqa: E402
from prlm_edge.export.to_onnx import export_onnx  # noqa: E402
from prlm_edge.gguf import lora  # noqa: E402
from prlm_edge.models.install import read_export  # noqa: E402
from prlm_edge.train import config  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has ended: its adapter, recipe, header and data; the model is a tiny untrained one."""
    work = tmp_path_factory.mktemp("run")
    base = make_lm(work / "base", "llama", tie_word_embeddings=True, std=0.1, max_position_embeddings=1024)
    rows = work / "rows.jsonl"
    with rows.open("w") as stream:
        for user in range(6):
            profile = [{"id": f"{user}-{i}", "title": f"fix: part {i}", "text": CORPUS[i]} for i in range(3)]
            query = {"id": f"{user}-q", "text": CORPUS[user % 3]}
            row = {"user_id": f"u{user}", "task": "acl_title", "query": query, "target": "The rye", "profile": profile}
            stream.write(json.dumps(row) + "\n")
    recipe = config.load("edge-cpu", ["base.precision=fp32", "data.k=1", "data.item_words=8", "data.reasoning=mixed"])
    recipe = recipe.model_copy(
        update={
            "base": recipe.base.model_copy(update={"model": str(base)}),
            "data": recipe.data.model_copy(update={"files": (config.DataFile(path=str(rows)),)}),
        }
    )
    folder = work / "run"
    make_adapter(base, folder / "adapter")
    (folder / "recipe.yaml").write_text(config.dump(recipe))
    header = {"stage": "warmstart", "recipe": recipe.of_stage("warmstart"), "data": {"rows.jsonl": "0" * 64}}
    header["tasks"] = ["commit", "title"]
    (folder / "run.json").write_text(json.dumps(header))
    return folder


@pytest.mark.parametrize(("reasoning", "reasons"), [(True, True), ("mixed", False), (False, False)])
def test_only_what_always_reasons_is_marked_as_reasoning(run, reasoning, reasons):
    source = open_source(run)
    data = source.recipe.data.model_copy(update={"reasoning": reasoning})
    assert replace(source, recipe=source.recipe.model_copy(update={"data": data})).reasons is reasons


class Bars:
    """Notes the stages, and can be told to fail at one."""

    def __init__(self, kill=""):
        self.seen, self.kill = [], kill

    def __call__(self, label):
        self.seen.append(label)
        return self

    def __enter__(self):
        if self.seen[-1] == self.kill:
            raise KeyboardInterrupt

    def __exit__(self, *_):
        return None


def wanted(run, out, quant="q8_0", **more):
    files = tuple(open_source(run).recipe.data.files)
    return Wanted(out, out.name, quant, files, min_stopped=0.0, **more)


def export(run, out, quant="q8_0", bars=None, **more):
    return export_gguf(open_source(run), wanted(run, out, quant, **more), bars or Bars())


@pytest.fixture(scope="module")
def published(run, tmp_path_factory):
    return export(run, tmp_path_factory.mktemp("out") / "voice", attribution="Texts of *nobody*.")


def test_what_is_published_is_verified_and_says_where_it_comes_from(run, published):
    assert published.report.ok
    assert sorted(path.name for path in published.folder.iterdir()) == [
        "README.md",
        "export.json",
        "verification.json",
        "voice-q8_0.gguf",
    ]
    names = [check.name for check in published.report.checks]
    assert names == [
        f"{quant}: {name}"
        for quant in ("f16", "q8_0")
        for name in ("tokens", "prompts", "distributions", "endings", "greedy")
    ]
    manifest = read_export(published.folder)
    assert manifest["merge"]["base"] == "original" and manifest["merge"]["kl_original"] < 1e-4
    assert (manifest["reasons"], manifest["recipe"]["stages"]) == (False, ["warmstart"])  # mixed: at once, unless asked
    assert manifest["data"] == {"rows.jsonl": "0" * 64}
    assert LlamaCpp(published.folder / "voice-q8_0.gguf").info.tasks == ("commit", "title")
    card = (published.folder / "README.md").read_text()
    assert "Trained for: commit, title." in card
    assert "Texts of *nobody*." in card and "| f16: distributions | yes |" in card


def test_a_killed_export_goes_on_behind_the_last_stage(run, published, tmp_path):
    stages = ["choosing what to merge into", "merging", "converting", "quantizing to q8_0", "measuring", "verifying"]
    times = {}
    for stage in stages[1:]:
        with pytest.raises(KeyboardInterrupt):
            export(run, tmp_path / "voice", bars=Bars(kill=stage))
        assert not (tmp_path / "voice").exists()
        now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "voice.partial").iterdir()}
        assert all(now[name] == time for name, time in times.items() if name != "stages.json")
        times = now
    done = export(run, tmp_path / "voice")
    file = "voice-q8_0.gguf"
    assert (done.folder / file).read_bytes() == (published.folder / file).read_bytes()


def test_auto_measures_formats_and_chooses_one(run, tmp_path, monkeypatch):
    lenient = pipeline.BOUNDS["f16"].__class__(10.0, 0.0, 100.0)  # untrained weights lose much in four bits
    monkeypatch.setattr(pipeline, "BOUNDS", {**dict.fromkeys(to_gguf.AUTO, lenient), "f16": pipeline.BOUNDS["f16"]})
    monkeypatch.setattr(quantize.FormatRow, "writes_worse", False)  # an untrained model's answers may be anything
    with pytest.raises(KeyboardInterrupt):
        export(run, tmp_path / "auto", "auto", Bars(kill="answering users with q4_k_m"), max_kl=10.0, rouge_users=4)
    answers = [path.read_text() for path in (tmp_path / "auto.partial" / "answers").rglob("answers.jsonl")]
    assert [text.count("\n") for text in answers] == [4, 4, 4]  # of f16, q8_0, q5_k_m
    answered, score = [], dev_rouge.score
    monkeypatch.setattr(dev_rouge, "score", lambda file, *rest: answered.append(file.stem) or score(file, *rest))
    done = export(run, tmp_path / "auto", "auto", max_kl=10.0, rouge_users=4)
    assert answered == ["q4_k_m", "q4_0"]
    assert [row["quant"] for row in done.table] == [*to_gguf.AUTO, "f16"]
    assert done.quant in to_gguf.AUTO
    for row in done.table:
        assert 0 <= row["rougeL"] <= row["rouge1"] <= 1 and row["rougeL_low"] <= row["rougeL_high"]
    assert (done.table[-1]["rougeL_low"], done.table[-1]["rougeL_high"]) == (0, 0)
    card = (done.folder / "README.md").read_text()
    assert "## Formats" in card and "| rouge1 | rougeL |" in card and "\n| f16 | " in card
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "README.md",
        f"auto-{done.quant}.gguf",
        "export.json",
        "verification.json",
    ]


def spoilt(monkeypatch, run, tmp_path, module, name, spoil):
    """An export in which `module.name` is followed by `spoil`; the checks that failed."""
    right = getattr(module, name)

    def wrong(*args, **kwargs):
        found = right(*args, **kwargs)
        spoil(*args)
        return found

    monkeypatch.setattr(module, name, wrong)
    done = export(run, tmp_path / "spoilt", "f16")
    assert not done.report.ok and done.folder.name == "spoilt.failed"
    assert not (tmp_path / "spoilt").exists()
    with pytest.raises(UsageError, match="no export"):
        read_export(done.folder)
    assert json.loads((done.folder / "verification.json").read_text())["ok"] is False
    return [check.name for check in done.report.checks if not check.ok]


def test_a_changed_template_is_caught(monkeypatch, run, tmp_path):
    def spoil(base, adapter, target, of):
        path = target / "chat_template.jinja"
        path.write_text(path.read_text().replace("<|im_end|>", "<|im_end|> "))

    assert spoilt(monkeypatch, run, tmp_path, merge, "merge", spoil) == ["f16: prompts"]


def test_a_wrong_tokenizer_is_caught(monkeypatch, run, tmp_path):
    def spoil(base, adapter, target, of):
        table = json.loads((target / "tokenizer.json").read_text())
        table["model"]["merges"] = table["model"]["merges"][:-20]
        (target / "tokenizer.json").write_text(json.dumps(table))

    assert "f16: tokens" in spoilt(monkeypatch, run, tmp_path, merge, "merge", spoil)


def rewrite(target, change):
    """Change every matrix of a merged folder."""
    from safetensors.torch import load_file, save_file

    file = target / "model.safetensors"
    save_file({name: change(name, one) for name, one in load_file(file).items()}, file, metadata={"format": "pt"})


def test_a_merge_that_was_rounded_to_bfloat16_is_caught(monkeypatch, run, tmp_path):
    strict = pipeline.BOUNDS["f16"].__class__(1e-6, 0.99, 1.005)  # tiny models are less moved by it than real ones
    monkeypatch.setitem(pipeline.BOUNDS, "f16", strict)

    def spoil(base, adapter, target, of):
        rewrite(target, lambda name, one: one.bfloat16().half())

    assert spoilt(monkeypatch, run, tmp_path, merge, "merge", spoil) == ["f16: distributions"]


def test_a_merge_of_garbage_is_caught(monkeypatch, run, tmp_path):
    def spoil(base, adapter, target, of):
        rewrite(target, lambda name, one: one.flip(0).contiguous() if "q_proj" in name else one)

    assert "f16: distributions" in spoilt(monkeypatch, run, tmp_path, merge, "merge", spoil)


def test_the_exact_merge_passes_the_same_strict_bound(monkeypatch, run, tmp_path):
    monkeypatch.setitem(pipeline.BOUNDS, "f16", pipeline.BOUNDS["f16"].__class__(1e-6, 0.99, 1.005))
    assert export(run, tmp_path / "exact", "f16").report.ok


def test_a_torn_file_is_made_anew(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        export(run, tmp_path / "voice", "f16", bars=Bars(kill="measuring"))
    file = tmp_path / "voice.partial" / to_gguf.F16
    file.write_bytes(file.read_bytes()[:-1000])
    assert export(run, tmp_path / "voice", "f16").report.ok


def test_an_adapter_alone_says_over_its_base_what_was_trained(run, tmp_path):
    done = export_adapter(open_source(run), wanted(run, tmp_path / "lora"), Bars())
    assert done.report.ok, done.report
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "README.md",
        "export.json",
        "lora-lora.gguf",
        "verification.json",
    ]
    assert read_export(done.folder)["kind"] == "adapter"


def test_an_adapters_file_is_exported_as_its_folder_is(run, tmp_path, home):
    source, file = open_source(run), tmp_path / "voice.gguf"
    of = json.loads((source.base / "config.json").read_text())
    lora.write_lora_gguf(source.adapter, of, file, tasks=source.tasks)
    again = open_source(file, model=str(source.base))
    assert (again.tasks, again.run, again.base) == (source.tasks, None, source.base)
    lora.write_lora_gguf(again.adapter, of, tmp_path / "again.gguf", tasks=source.tasks)
    assert (tmp_path / "again.gguf").read_bytes() == file.read_bytes()
    with pytest.raises(UsageError, match="nothing says what it was trained on"):
        open_source(file)


def test_a_run_without_its_data_or_its_base_is_told_so(run, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(run / "adapter", alone)
    edit(alone / "adapter_config.json", base_model_name_or_path="gone")
    with pytest.raises(UsageError, match="nothing says what it was trained on"):
        open_source(alone)
    with pytest.raises(UsageError, match="no trained adapter"):
        open_source(tmp_path)
    source = open_source(run)
    missing = Wanted(tmp_path / "out", "out", "f16", (config.DataFile(path=str(tmp_path / "gone.jsonl")),))
    with pytest.raises(UsageError, match="data is not there"):
        export_gguf(source, missing, Bars())
    assert gguf.read_config(source.base)["model_type"] == "llama"


def test_an_onnx_model_is_published_by_its_own_backends_answers(run, tmp_path):
    pytest.importorskip("onnxruntime_genai")
    done = export_onnx(open_source(run), wanted(run, tmp_path / "small", "f32"), Bars())
    assert done.report.ok, done.report
    manifest = read_export(done.folder)
    assert manifest["kind"] == "onnx-llm"
    assert {"model.onnx", "tokenizer.json", "genai_config.json"} <= {entry["name"] for entry in manifest["files"]}
