"""Reasonings towards the true answer: how they are asked for and judged, which are learned, that none is made twice."""

import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from prlm_edge.errors import PrlmError  # noqa: E402
from prlm_edge.style import check_line  # noqa: E402
from prlm_edge.train import base, config, reasons, rejection  # noqa: E402
from prlm_edge.train.data import examples, prompts  # noqa: E402
from prlm_edge.train.rejection import Draw  # noqa: E402
from prlm_edge.types import Cancel, Completion, Event, Usage  # noqa: E402

pytestmark = pytest.mark.model
SAID = "About parser. 7 words."


@pytest.fixture
def recipe(rows_file):
    return config.load("edge-cpu", ["data.reasoning=true", "data.k=2"], {"data.files": [str(rows_file)]})


@pytest.fixture
def asked(recipe, tokens):
    return prompts.read(recipe.data.files, recipe, tokens, limit=6)[0]


@pytest.fixture
def policy(tiny_folder, recipe):
    return base.load_model(tiny_folder, recipe.base.model_copy(update={"precision": "fp32"})).eval()


class Drafter:
    """Reasons by its seed alone, and notes what was asked."""

    def __init__(self, say=lambda seed: f"{SAID} {seed}", finish="stop"):
        self.say, self.finish, self.asked = say, finish, []

    def stream_many(self, requests, cancel):
        self.asked += requests
        for place, one in enumerate(requests):
            yield place, Event("reasoning", self.say(one.sampling.seed))
            yield place, Event("done", completion=Completion(self.finish, Usage()))


def test_a_gain_is_what_rows_of_their_own_show(policy, tokens, asked):
    """Against one plain forward pass for each completion."""

    def bits(line):
        ids, _ = tokens.completion(asked[0].target, line)
        row = torch.tensor([[*asked[0].ids, *ids]])
        with torch.no_grad():
            logps = policy(input_ids=row).logits[0, :-1].log_softmax(-1).gather(1, row[0, 1:, None])
        return logps[-len(tokens.completion(asked[0].target)[0]) :].sum().item() / 0.6931471805599453

    lines = [SAID, "x", "Quite another line, and a longer one."]
    found = reasons.gains(policy, tokens, asked[0].ids, asked[0].target, lines)
    assert found == pytest.approx([bits(line) - bits("") for line in lines], abs=2e-3)


def test_drafts_are_asked_for_with_the_answer_known(policy, tokens, asked):
    drafter = Drafter()
    [built, *drafts] = reasons.drawer(drafter, policy, tokens, 3, 0, Cancel())(asked[:1] * 3, "s")
    for one in drafter.asked:
        assert one.turns[:-1] == asked[0].request.turns[:-1]
        assert one.turns[-1].text.startswith(asked[0].request.turns[-1].text) and asked[0].target in one.turns[-1].text
        assert one.tokenized is None and one.reasoning_tokens <= 40
    assert len({one.sampling.seed for one in drafter.asked}) == 2
    assert built.reasoning == examples.built_line(asked[0].scoring, asked[0].target)
    assert [one.reasoning for one in drafts] == [f"{SAID} {one.sampling.seed}" for one in drafter.asked]


@pytest.mark.parametrize(
    ("line", "learned"),
    [
        ("About parser. 7 words.", True),
        ("The last line of the part was lost.", True),
        ("About parser. 9 words.", False),  # not true
        ("It says: docs: mend part 6 of the parser!", False),  # the answer itself
        ("They mend what was lost.", True),  # past titles say so too
        ("The last line was lost.</answer>", False),
        ("", False),
    ],
)
def test_what_gives_the_answer_away_or_is_not_true_is_not_learned(policy, tokens, asked, line, learned):
    ask = next(one for one in asked if one.target == "docs: mend part 6 of the parser")
    found = reasons.drawer(Drafter(lambda seed: line), policy, tokens, 2, 0, Cancel())([ask] * 2, "s")
    assert [one.whole for one in found] == [True, learned]


def test_words_that_only_the_answer_knows_give_it_away(policy, tokens, rows_file, tmp_path):
    line = json.loads(rows_file.read_text().splitlines()[0]) | {"target": "docs: revive zebras"}
    path = tmp_path / "zebra.jsonl"
    path.write_text(json.dumps(line) + "\n")
    recipe = config.load("edge-cpu", ["data.reasoning=true"], {"data.files": [str(path)]})
    asked, _ = prompts.read(recipe.data.files, recipe, tokens, limit=None)
    found = reasons.drawer(Drafter(lambda seed: "Zebras again."), policy, tokens, 2, 0, Cancel())(asked * 2, "s")
    assert not found[1].whole


def test_the_best_of_each_request_is_learned(tmp_path):
    path = tmp_path / "reasons.jsonl"
    draws = [
        Draw("p", "built", "a", 1.0, 1, 1, True),
        Draw("p", "better", "a", 2.0, 0, 0, True),
        Draw("p", "tells", "a", 9.0, 0, 0, False),
        Draw("q", "built", "b", -1.0, 1, 1, True),
        Draw("q", "worse", "b", -2.0, 0, 0, True),
    ]
    path.write_text("".join(json.dumps(vars(one)) + "\n" for one in draws))
    assert reasons.best(path) == {("p", "a"): "better", ("q", "b"): "built"}
    assert reasons.say(path) == (
        "1 of 2 requests have a draft that gains more than the built line: 0.5 bits an answer are gained, 0.0 by built "
        "lines alone"
    )


@pytest.mark.parametrize("lines", [0, 1, 3, 11, 12, 14, 17])
def test_killed_at_any_moment_it_makes_what_the_straight_run_makes(policy, tokens, asked, tmp_path, lines):
    def make(path, drafter):
        draw = reasons.drawer(drafter, policy, tokens, 3, 0, Cancel())
        assert rejection.sample(path, asked, draw, 3, cancel=Cancel())
        return path.read_bytes()

    whole = make(tmp_path / "straight.jsonl", Drafter())
    killed, drafter = tmp_path / "killed.jsonl", Drafter()
    kept = whole.splitlines(keepends=True)
    assert len(kept) == 18
    killed.write_bytes(b"".join(kept[:lines]) + kept[lines][:25])
    assert make(killed, drafter) == whole
    assert len(drafter.asked) == 12 - 8 * (lines >= 12)  # four requests at a time


def test_what_was_stopped_is_not_kept(policy, tokens, asked, tmp_path):
    draw = reasons.drawer(Drafter(finish="cancelled"), policy, tokens, 2, 0, Cancel())
    with pytest.raises(PrlmError, match="stopped"):
        rejection.sample(tmp_path / "reasons.jsonl", asked, draw, 2, cancel=Cancel())
    assert not (tmp_path / "reasons.jsonl").exists()


def test_the_warm_start_learns_them(tokens, recipe, asked):
    known = {(asked[0].id, asked[0].target): "Parts, as ever."}
    options = {"seed": 0, "loss_on": "answer", "limit": 6, "reasonings": known}
    found = examples.read(recipe.data.files, tokens, recipe.data, **options).examples
    said = [tokens.tokenizer.decode([i for i, own in zip(one.ids, one.own, strict=True) if own]) for one in found]
    assert said[0] == f"Parts, as ever.</think>{asked[0].target}</answer><|im_end|>"
    line = said[1].partition("</think>")[0]
    assert line == examples.built_line(asked[1].scoring, asked[1].target)
    true, claims = check_line(line, asked[1].target, 2, asked[1].scoring.style, asked[1].scoring.query)
    assert true == claims >= 2


def test_a_stage_of_its_own_and_of_a_recipe(rows_file, smollm2_path, tmp_path):
    def train(*arguments):
        command = [sys.executable, "-m", "prlm_edge", "train", *arguments, "--data", str(rows_file), "--limit", "3"]
        command += ["--set", "data.k=1", "--set", "data.reasoning=true", "--set", "reasons.drafts=2"]
        env = {**os.environ, "NO_COLOR": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    out = tmp_path / "run" / "1-reasons"
    done = train("reasons", "--out", str(out))
    assert done.stdout.strip() == str(out / "reasons.jsonl") and "of 3 requests have a draft" in done.stderr
    draws = rejection.read(out / "reasons.jsonl")
    assert len(draws) == 9 and all(one.reasoning for one in draws[::3])
    before = (out / "reasons.jsonl").stat().st_mtime_ns
    steps = ["max_steps=1", "batch=2", "micro_batch=2", "save_steps=1", "eval_steps=0"]
    sets = ["--set=stages=[reasons, warmstart]", *(f"--set=warmstart.{one}" for one in steps)]
    train("--out", str(tmp_path / "run"), *sets)
    assert (out / "reasons.jsonl").stat().st_mtime_ns == before
    assert "reasonings" in json.loads((tmp_path / "run" / "2-warmstart" / "run.json").read_text())["data"]
