"""Rejection sampling: which draws are learned from, and that none is drawn twice."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from prlm_edge.errors import PrlmError
from prlm_edge.train import base, config, rejection
from prlm_edge.train.data import prompts
from prlm_edge.train.rejection import Draw
from prlm_edge.train.types import Rollout
from prlm_edge.types import Cancel, Candidate

pytestmark = pytest.mark.model
RULES = config.RejectionConfig(keep=1, min_score=0.8, min_claims=2)
GOOD = Draw("p", "About rye. 3 words.", "rye wins again", 1.5, 2, 2, True)


@pytest.mark.parametrize(
    "change", [{"score": 0.7}, {"true": 1}, {"claims": 1, "true": 1}, {"whole": False}], ids=lambda c: next(iter(c))
)
def test_what_is_not_good_or_not_true_is_not_learned_from(change):
    assert rejection.kept([replace(GOOD, **change)], RULES) == {}
    assert rejection.kept([replace(GOOD, **change), GOOD], RULES) == {"p": [GOOD]}


def test_a_share_of_the_claims_may_be_wrong():
    nearly, half = replace(GOOD, true=4, claims=5), replace(GOOD, true=3, claims=5)
    assert rejection.kept([nearly, half], RULES) == {"p": [nearly]}
    assert rejection.kept([nearly], RULES.model_copy(update={"min_true": 1.0})) == {}


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
        words = len(some[0].target.split())
        good = f"About parser. {words} words."
        return [
            rejection.judged(
                Rollout(
                    one, Candidate(one.target, good) if place % 2 else Candidate("nothing of the kind", "99 words.")
                )
            )
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
    assert said == f"About parser. 7 words.</think>{asked[0].target}</answer><|im_end|>"
    assert first.ids[: first.n_prompt] == asked[0].ids and not any(first.own[: first.n_prompt])


@pytest.fixture
def asked(tiny_folder, rows_file):
    recipe = config.load("edge-cpu", ["data.reasoning=true", "data.k=2"], {"data.files": [str(rows_file)]})
    return prompts.read(recipe.data.files, recipe, base.load_tokens(tiny_folder, 1024), limit=None)[0]


def said(some, salt):
    """Depends on what is asked together, as an engine's draws do."""
    answers = (Candidate(f"{one.id} {place}", f"{place} of {salt}") for place, one in enumerate(some))
    return [rejection.judged(Rollout(one, answer)) for one, answer in zip(some, answers, strict=True)]


@pytest.mark.parametrize("lines", [0, 1, 2, 11, 12, 13, 35])
def test_killed_at_any_moment_it_draws_what_the_straight_run_draws(asked, tmp_path, lines):
    """Even where whole lines are left of a prompt, or whole prompts of a call: their seeds follow from the call."""
    straight, killed = tmp_path / "straight.jsonl", tmp_path / "killed.jsonl"
    assert rejection.sample(straight, asked, said, 3, cancel=Cancel())
    whole = straight.read_bytes().splitlines(keepends=True)
    assert len(whole) == 36
    killed.write_bytes(b"".join(whole[:lines]) + whole[lines][:25])
    calls = []

    def draw(some, salt):
        calls.append(salt)
        return said(some, salt)

    assert rejection.sample(killed, asked, draw, 3, cancel=Cancel())
    assert killed.read_bytes() == straight.read_bytes()
    assert len(calls) == 3 - lines // 12


def test_draws_for_other_prompts_do_not_count(asked, tmp_path):
    path = tmp_path / "draws.jsonl"
    assert rejection.sample(path, asked[6:], said, 2, cancel=Cancel())
    assert rejection.sample(path, asked, said, 2, cancel=Cancel())
    assert [one.prompt for one in rejection.read(path)] == [one.id for one in asked for _ in range(2)]


@pytest.mark.parametrize("line", [b"not JSON", b"{}", b"[1]", b"null", b'{"prompt": "p"}', b"\xff\xfe"])
def test_damaged_draws_are_told(tmp_path, line):
    path = tmp_path / "draws.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(PrlmError, match=r"draws\.jsonl:1: damaged") as error:
        rejection.sample(path, [], said, 2, cancel=Cancel())
    assert "delete" in error.value.hint
