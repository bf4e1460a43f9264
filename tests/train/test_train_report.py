"""The training report: what it shows, that nothing of it runs or loads anything, and what it leaves out."""

import json
import math
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from helpers import check_self_contained

from prlm_edge.errors import PrlmError, UsageError
from prlm_edge.evaluate.report import figure
from prlm_edge.train.run.log import RunLog
from prlm_edge.train.run.plots import MAX_POINTS, Curve, curves, running_mean, thinned
from prlm_edge.train.run.report import write_report
from prlm_edge.train.run.stopping import Verdict

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture
def folder(tmp_path):
    log = RunLog(tmp_path / "run")
    steps = [
        {
            "kind": "step",
            "step": at,
            "wall_s": at * 40.0,
            "tokens": at * 12_000.0,
            "tokens_per_s": 300.0,
            "memory_mb": 1500.0,
            "loss": 0.01,
            "lr": 1e-5,
            "grad_norm": "nan" if at == 50 else 0.5,
            "reward": 1 + at / 100,
            "terms": {"accuracy": at / 100, "$format$": 0.9, EVIL: 0.1},
            "terms_std": {"accuracy": 0.2},
            "kl": at * 1e-5,
            "entropy": 1.2,
            "zero_variance": 0.1,
            "truncated": 0.02,
            "lengths": {"mean": 30.0, "reasoning": 20.0, "answer": 8.0},
        }
        for at in range(1, 101)
    ]
    log.path.write_text("".join(json.dumps(one) + "\n" for one in steps))  # at once: each add() is an fsync
    log = RunLog(tmp_path / "run")
    for at in (25, 50, 75, 100):
        log.dev(at, {"rouge1": 0.4 + at / 1000, "style_match": 0.8, "loss": 3.0})
        log.samples(at, [sample(f"{EVIL} at {at}")])
    log.stop(100, Verdict(True, f"step 100: {EVIL}", "raise grpo.beta", "hacking"))
    (log.path.parent / "recipe.yaml").write_text("seed: 7\nbase:\n  model: '" + EVIL + "'\nlora: {r: 16}\n")
    (log.path.parent / "run.json").write_text(
        json.dumps({"stage": "grpo", "recipe": {"x": 1}, "data": {"a.jsonl": "ff"}})
    )
    return log.path.parent


def sample(answer):
    return {
        "prompt_id": "p",
        "query": "A query " + "long " * 200,
        "target": "what the user wrote",
        "reasoning": "[1] is closest",
        "answer": answer,
        "finish_reason": "length",
        "terms": {"accuracy": 1.23456},
    }


def test_it_shows_curves_dev_points_samples_recipe_and_why_it_stopped(folder):
    path = write_report(folder)
    assert path == folder / "report.html"
    assert path.stat().st_mode & 0o077 == 0  # it holds what users wrote
    text = path.read_text()
    for title in ("Reward", "Dev", "Reward terms", "KL", "Entropy", "What teaches nothing", "Lengths", "Memory"):
        assert f"<h3>{title}</h3>" in text
    assert "100 steps in 1:06:40 h, 1,200,000 tokens" in text
    assert "raise grpo.beta" in text
    assert "<td>seed</td><td>7</td>" in text
    assert "<td>lora.r</td><td>16</td>" in text
    assert "<td>data.a.jsonl</td><td>ff</td>" in text
    assert "recipe.x" not in text  # run.json repeats the recipe
    assert "<tr><td>25</td><td>0.425</td><td>0.8</td><td>3</td></tr>" in text
    assert text.index("Step 100<") < text.index("Step 25<")
    assert "accuracy 1.235" in text
    assert "(cut off)" in text


def test_nothing_in_it_runs_or_comes_from_elsewhere(folder):
    text = write_report(folder).read_text()
    assert EVIL not in text
    assert text.count("&lt;script&gt;alert(1)") >= 6  # the stop, the recipe, samples, plots
    assert check_self_contained(text) == 13


def test_without_samples_it_holds_nothing_that_anybody_wrote(folder, tmp_path):
    text = write_report(folder, tmp_path / "out.html", samples=False, title="A & B").read_text()
    assert "<title>A &amp; B</title>" in text
    for part in ("what the user wrote", "A query", "is closest"):
        assert part not in text


def test_a_run_of_one_step_with_nothing_but_a_loss(tmp_path):
    RunLog(tmp_path).add({"kind": "step", "step": 1, "loss": 2.0})
    text = write_report(tmp_path).read_text()
    assert "<h3>Loss</h3>" in text
    assert "<h3>KL</h3>" not in text
    assert "Stopped" not in text
    assert "Samples" not in text


def test_a_run_that_is_being_written_can_be_looked_at(folder):
    with (folder / "run.jsonl").open("a") as stream:
        stream.write('{"kind":"st')
    write_report(folder)
    assert (folder / "run.jsonl").read_text().endswith('"st')


def test_the_same_run_gives_the_same_file(folder, tmp_path):
    first = write_report(folder, tmp_path / "a.html").read_bytes()
    assert write_report(folder, tmp_path / "b.html").read_bytes() == first


def test_damaged_recipes_are_left_out_and_a_damaged_log_is_said(folder):
    (folder / "recipe.yaml").write_text("a: [")
    (folder / "run.json").write_text("{")
    assert "Recipe and provenance" not in write_report(folder).read_text()
    (folder / "run.jsonl").write_text("nonsense\n")
    with pytest.raises(PrlmError, match=r"run\.jsonl:1"):
        write_report(folder)


def test_nothing_logged_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="nothing is logged"):
        write_report(tmp_path / "nowhere")
    RunLog(tmp_path).dev(0, {"rouge1": 0.4})
    with pytest.raises(UsageError, match="nothing is logged"):
        write_report(tmp_path)


def test_it_needs_no_training_packages(folder, tmp_path):
    """A report can be made where nothing can be trained."""
    shutil.copytree(folder, tmp_path / "copy")
    code = (
        "import sys, pathlib; from prlm_edge.train.run.report import write_report;"
        "write_report(pathlib.Path(sys.argv[1]));"
        "print({'torch', 'transformers', 'trl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "copy"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.123456, "0.1235"), (1e-9, "1e-09"), (7, "7"), (math.nan, "nan")]
)
def test_figures_for_people(value, shown):
    assert figure(value) == shown


def test_running_means_and_thinning_by_hand():
    points = [(1.0, 1.0), (2.0, 3.0), (3.0, 5.0), (4.0, 7.0)]
    assert running_mean(points, 2) == [(1, 1), (2, 2), (3, 4), (4, 6)]
    assert running_mean(points, 1) == points
    long = [(float(at), 0.0) for at in range(10 * MAX_POINTS + 5)]
    kept = thinned(long)
    assert len(kept) <= MAX_POINTS + 1
    assert (kept[0], kept[-1]) == (long[0], long[-1])
    assert thinned(points) == points
    assert thinned([]) == []


def test_a_curve_without_a_number_still_is_a_picture():
    svg = curves([Curve("a", ((1, math.nan), (2, math.inf))), Curve("_b", ((1, 2.0),))])
    ET.fromstring(svg)
    assert ">b<" in svg
