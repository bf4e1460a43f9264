"""Rejection sampling: which draws are learned from, and that none is drawn twice."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from prlm_edge.train import base, config, prompts, rejection
from prlm_edge.train.rejection import Draw
from prlm_edge.train.rewards import Rollout
from prlm_edge.types import Cancel

pytestmark = pytest.mark.model
RULES = config.RejectionConfig(keep=1, min_score=0.8, min_claims=2)
GOOD = Draw("p", "About rye. 3 words.", "rye wins again", 1.5, 2, 2, True)


@pytest.mark.parametrize(
    "change", [{"score": 0.7}, {"true": 1}, {"claims": 1, "true": 1}, {"whole": False}], ids=lambda c: next(iter(c))
)
def test_what_is_not_good_or_not_true_is_not_learned_from(change):
    assert rejection.kept([replace(GOOD, **change)], RULES) == {}
    assert rejection.kept([replace(GOOD, **change), GOOD], RULES) == {"p": [GOOD]}


def test_the_best_of_different_ones_are_kept():
    better = replace(GOOD, answer="rye wins, again", score=2.0)
    other = replace(GOOD, prompt="q")
    assert rejection.kept([GOOD, GOOD, better, other], RULES) == {"p": [better], "q": [other]}
    assert rejection.kept([GOOD, GOOD, better], RULES.model_copy(update={"keep": 5})) == {"p": [better, GOOD]}


def test_draws_are_kept_as_they_come_and_made_once(tiny_folder, rows_file, tmp_path):
    recipe = config.load("edge-cpu", ["data.reasoning=true", "data.k=2"], {"data.files": [str(rows_file)]})
    tokens = base.load_tokens(tiny_folder, 1024)
    asked, _ = prompts.read(recipe.data.files, recipe, tokens, limit=6)
    path, calls, cancel = tmp_path / "draws.jsonl", [], Cancel()

    def draw(some, salt):
        calls.append([one.id for one in some])
        if len(calls) == 1:
            cancel.cancel()
        words = len(some[0].ask.target.split())
        return [
            Rollout(one.id, f"About parser. {words} words.", one.ask.target, "stop", False, 6, 8)
            if place % 2
            else Rollout(one.id, "99 words.", "nothing of the kind", "stop", False, 3, 5)
            for place, one in enumerate(some)
        ]

    assert not rejection.sample(path, asked, draw, 2, cancel=cancel)
    with path.open("ab") as stream:
        stream.write(b'{"prompt": "torn')  # a kill while writing
    assert rejection.sample(path, asked, draw, 2, cancel=Cancel())
    assert sorted(id for call in calls for id in call) == sorted(one.id for one in asked for _ in range(2))
    draws = rejection.read(path)
    assert len(draws) == 12 and sum(one.score == 3.0 for one in draws) == 6
    found = rejection.examples(asked, draws, tokens, RULES)
    assert len(found) == 6
    first = found[0]
    said = tokens.tokenizer.decode([i for i, own in zip(first.ids, first.own, strict=True) if own])
    assert said == f"About parser. 7 words.</think>{asked[0].ask.target}</answer><|im_end|>"
    assert first.ids[: first.n_prompt] == asked[0].ids and not any(first.own[: first.n_prompt])
