"""Supervised fine-tuning on a tiny model: it learns, resumes exactly, and refuses what it should."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from prlm_edge.errors import PrlmError, UsageError  # noqa: E402
from prlm_edge.gguf import lora  # noqa: E402
from prlm_edge.train import base, config, warmstart  # noqa: E402
from prlm_edge.train.data import examples as data  # noqa: E402
from prlm_edge.train.data.batches import IGNORED, ExampleSet, Pad, answer_loss  # noqa: E402
from prlm_edge.train.run import folder as run_folder  # noqa: E402
from prlm_edge.train.run.log import read_records  # noqa: E402
from prlm_edge.types import Cancel  # noqa: E402

pytestmark = pytest.mark.model
OVERRIDES = ["data.k=2", "base.precision=fp32", "lora.r=4", "warmstart.lr=0.02", "warmstart.save_steps=2"]


def recipe(tiny_folder, rows_file, *overrides):
    given = {"data.files": [str(rows_file)], "base.model": str(tiny_folder)}
    return config.load("edge-cpu", [*OVERRIDES, "warmstart.eval_steps=4", "warmstart.batch=4", *overrides], given)


def prepared(tiny_folder, rows_file, *overrides):
    wanted = recipe(tiny_folder, rows_file, *overrides)
    tokens = base.load_tokens(tiny_folder, wanted.data.max_tokens)
    options = {"seed": 0, "limit": None, "loss_on": wanted.warmstart.loss_on}
    return wanted, data.read(wanted.data.files, tokens, wanted.data, **options)


def run(path, wanted, found, **options):
    folder = run_folder.TrainFolder.open(path, "warmstart", wanted, found.sha256)
    whole = warmstart.train(folder, wanted, found.examples, found.examples[:4], **options)
    return folder, whole


def weights(folder):
    return load_file(folder.adapter / "adapter_model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_is_that_of_the_labelled_tokens_alone(tiny_folder, rows_file):
    """Equal to the model's own loss over all logits."""
    wanted, found = prepared(tiny_folder, rows_file)
    model = base.load_model(tiny_folder, wanted.base)
    batch = Pad(2)([ExampleSet(found.examples)[i] for i in range(3)])
    ours = answer_loss(model, batch)
    theirs = model(**batch).loss
    assert (batch["labels"] != IGNORED).sum() > 30
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(
        answer_loss(model, batch, 10) * 10, ours * (batch["labels"][:, 1:] != IGNORED).sum(), rtol=1e-4
    )


def test_memory_that_runs_out_leaves_the_checkpoints(tmp_path, tiny_folder, rows_file, monkeypatch):
    calls = []

    def loss(*args):
        calls.append(1)
        if len(calls) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer_loss(*args)

    monkeypatch.setattr(warmstart, "answer_loss", loss)
    wanted, found = prepared(tiny_folder, rows_file, "warmstart.micro_batch=2", "warmstart.epochs=4")
    with pytest.raises(PrlmError, match="GPU's memory is full") as error:
        run(tmp_path / "run", wanted, found)
    assert "--set warmstart.micro_batch=1" in error.value.hint
    assert run_folder.TrainFolder(tmp_path / "run").latest() is not None


def test_it_learns(tmp_path, tiny_folder, rows_file):
    wanted, found = prepared(tiny_folder, rows_file, "warmstart.epochs=4", "warmstart.loss_on=all")
    folder, whole = run(tmp_path / "run", wanted, found)
    assert whole
    steps = [record for record in read_records(folder.path / "run.jsonl") if record["kind"] == "step"]
    losses = [record["loss"] for record in steps]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.1
    assert any(weight.abs().sum() > 0 for name, weight in weights(folder).items() if "lora_B" in name)


@pytest.mark.parametrize("stop_at", [1, 5])
def test_stopped_and_resumed_it_ends_as_the_straight_run_does(tmp_path, tiny_folder, rows_file, stop_at):
    wanted, found = prepared(tiny_folder, rows_file, "warmstart.epochs=2", "lora.dropout=0.1")
    straight, _ = run(tmp_path / "straight", wanted, found)
    cancel = Cancel()

    def progress(done, total):
        if done == stop_at:
            cancel.cancel()

    folder, whole = run(tmp_path / "stopped", wanted, found, cancel=cancel, progress=progress)
    assert not whole and not folder.adapter.exists()
    assert folder.latest().name == f"checkpoint-{stop_at}"
    folder, whole = run(tmp_path / "stopped", wanted, found)
    assert whole and same(weights(folder), weights(straight))


KILLED = """
import sys
from pathlib import Path
from prlm_edge.train import config, base, warmstart
from prlm_edge.train.data import examples as data
from prlm_edge.train.run import folder as run_folder
wanted = config.Recipe.model_validate_json(sys.argv[2])
tokens = base.load_tokens(Path(wanted.base.model), wanted.data.max_tokens)
found = data.read(wanted.data.files, tokens, wanted.data, seed=0, limit=None, loss_on=wanted.warmstart.loss_on)
folder = run_folder.TrainFolder.open(Path(sys.argv[1]), "warmstart", wanted, found.sha256)
warmstart.train(folder, wanted, found.examples, found.examples[:4], progress=lambda n, _: print(n, flush=True))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_the_straight_run_does(tmp_path, tiny_folder, rows_file):
    wanted, found = prepared(tiny_folder, rows_file, "warmstart.epochs=3")
    straight, _ = run(tmp_path / "straight", wanted, found)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), wanted.model_dump_json()]
    for step, delay in ((3, 0.0), (6, 0.02)):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        for line in process.stdout:
            if int(line) >= step:
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        assert process.returncode in (-signal.SIGKILL, 0)
    folder, whole = run(tmp_path / "killed", wanted, found)
    assert whole and same(weights(folder), weights(straight))


def test_killed_behind_its_last_step_or_called_again_it_ends_in_the_same_adapter(tmp_path, tiny_folder, rows_file):
    wanted, found = prepared(tiny_folder, rows_file)
    folder, _ = run(tmp_path / "run", wanted, found)
    straight = weights(folder)
    log = (folder.path / "run.jsonl").read_bytes()
    assert run(tmp_path / "run", wanted, found)[1] and same(weights(folder), straight)
    shutil.rmtree(folder.adapter)
    (folder.path / ".adapter.new").mkdir()  # half a copy
    assert run(tmp_path / "run", wanted, found)[1] and same(weights(folder), straight)
    assert (folder.path / "run.jsonl").read_bytes() == log


def test_killed_while_its_folder_is_made_it_can_begin_again(tmp_path, tiny_folder, rows_file):
    wanted, found = prepared(tiny_folder, rows_file)

    def opened(path):
        return run_folder.TrainFolder.open(path, "warmstart", wanted, found.sha256)

    path = tmp_path / "run"
    path.mkdir()
    (path / ".run.json.abc123.tmp").write_text('{"sta')
    assert opened(path).header["stage"] == "warmstart"
    (path / "recipe.yaml").unlink()  # written behind the header
    assert opened(path).header and config.load(str(path / "recipe.yaml")) == wanted
    (path / "run.json").write_text("[1, 2")
    with pytest.raises(PrlmError, match="damaged"):
        opened(path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="no run"):
        opened(tmp_path / "file")


def test_what_cannot_be_learned_from_is_refused_before_a_step(tmp_path, tiny_folder, rows_file):
    wanted, found = prepared(tiny_folder, rows_file)
    folder = run_folder.TrainFolder.open(tmp_path / "run", "warmstart", wanted, {})
    with pytest.raises(UsageError, match="no examples"):
        warmstart.train(folder, wanted, (), ())
    ids = found.examples[0].ids
    long = replace(found.examples[0], row="long", ids=ids * 30, own=(True,) * 30 * len(ids))
    assert len(long.ids) > 2048
    with pytest.raises(UsageError, match=r"and the model takes 2048") as error:
        warmstart.train(folder, wanted, [*found.examples, long], ())
    assert error.value.hint == "--set data.max_tokens=2048"
    assert not folder.checkpoints.exists()


def test_a_torn_checkpoint_is_not_gone_on_from(tmp_path, tiny_folder, rows_file):
    wanted, found = prepared(tiny_folder, rows_file)
    folder, _ = run(tmp_path / "run", wanted, found)
    last = folder.latest()
    (last / "optimizer.pt").write_bytes(b"torn")
    earlier = folder.latest()
    assert earlier is not None and earlier != last and not last.exists()


def test_another_recipe_or_other_data_are_refused(tmp_path, tiny_folder, rows_file):
    wanted, found = prepared(tiny_folder, rows_file)
    run_folder.TrainFolder.open(tmp_path / "run", "warmstart", wanted, found.sha256)
    other = recipe(tiny_folder, rows_file, "warmstart.epochs=7")
    with pytest.raises(UsageError, match=r"warmstart.epochs \(1.0, not 7.0\)"):
        run_folder.TrainFolder.open(tmp_path / "run", "warmstart", other, found.sha256)
    with pytest.raises(UsageError, match="data file"):
        run_folder.TrainFolder.open(tmp_path / "run", "warmstart", wanted, {"rows.jsonl": "0"})
    with pytest.raises(UsageError, match="data file"):
        run_folder.TrainFolder.open(tmp_path / "run", "warmstart", wanted, {})
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    del header["recipe"]["data"]["reasonings"]  # begun before that setting was there
    (tmp_path / "run" / "run.json").write_text(json.dumps(header))
    run_folder.TrainFolder.open(tmp_path / "run", "warmstart", wanted, found.sha256)
    drafted = recipe(tiny_folder, rows_file, "data.reasonings=r.jsonl")
    with pytest.raises(UsageError, match="reasonings"):
        run_folder.TrainFolder.open(tmp_path / "run", "warmstart", drafted, found.sha256)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(UsageError, match="not empty"):
        run_folder.TrainFolder.open(tmp_path / "full", "warmstart", wanted, found.sha256)


def test_nf4_trains_the_adapter_alone_and_rightly_after_evaluation(tiny_folder, rows_file):
    """An evaluation pass must not repack the weights: gradients stay those of the untouched model."""
    wanted, found = prepared(tiny_folder, rows_file, "base.precision=nf4")
    batch = Pad(2)([ExampleSet(found.examples)[i] for i in range(2)])

    def gradients(evaluate):
        torch.manual_seed(0)
        model = base.add_adapter(base.load_model(tiny_folder, wanted.base), wanted.lora, checkpointing=False, nf4=True)
        if evaluate:
            model.eval()
            with torch.no_grad():
                answer_loss(model, batch)
        model.train()
        answer_loss(model, batch).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    before, after = gradients(False), gradients(True)
    assert before and all("lora_" in name for name in before)
    assert same(before, after)


def test_going_on_from_a_gguf_file_is_going_on_from_its_folder(tmp_path, home, tiny_folder, rows_file):
    wanted, found = prepared(tiny_folder, rows_file, "warmstart.max_steps=2")
    first, _ = run(tmp_path / "first", wanted, found)
    file, of = tmp_path / "voice.gguf", json.loads((tiny_folder / "config.json").read_text())
    lora.write_lora_gguf(first.adapter, of, file, tasks=("note", "title"))
    assert run_folder.tasks_of(file) == ["note", "title"]
    assert base.adapter_folder(first.adapter, tiny_folder) == first.adapter
    starts = (first.adapter, base.adapter_folder(file, tiny_folder))
    ends = [weights(run(tmp_path / str(n), wanted, found, start=start)[0]) for n, start in enumerate(starts)]
    assert same(*ends) and not same(ends[0], weights(first))
