"""Weights to choose by: a known rule is found again, users left out are what counts, and the real stage end to end."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from prlm_edge.errors import UsageError
from prlm_edge.rerank.blend import FEATURES, Blend, evidence, read_weights
from prlm_edge.style import style_of
from prlm_edge.train import blend, config
from prlm_edge.train.blend import Group
from prlm_edge.types import Cancel, Candidate, Scoring

REQUEST, LENGTH = FEATURES.index("request"), FEATURES.index("length")


def groups(n: int, noise: float = 0.0, seed: int = 0) -> list[Group]:
    """Users whose candidates are worth half of what they share with the request, less a tenth of their length."""
    draw = np.random.default_rng(seed)
    found = []
    for user in range(n):
        known = draw.normal(size=(8, len(FEATURES))) + draw.normal(size=len(FEATURES)) * 5  # users differ by far more
        worth = 0.5 * known[:, REQUEST] - 0.1 * known[:, LENGTH] + noise * draw.normal(size=8)
        found.append(Group(f"u{user}", known, worth - worth.mean() + 0.3, 0))
    return found


def test_a_known_rule_is_found():
    weights = dict(zip(FEATURES, blend.fit(groups(100), penalty=1e-6), strict=True))
    assert weights.pop("request") == pytest.approx(0.5, abs=1e-6)
    assert weights.pop("length") == pytest.approx(-0.1, abs=1e-6)
    assert max(map(abs, weights.values())) < 1e-6


def test_what_never_differs_gets_no_weight():
    some = [Group(one.user, one.known * (np.arange(len(FEATURES)) != REQUEST), one.worth, 0) for one in groups(20)]
    found = blend.fit(some, penalty=1.0)
    assert found[REQUEST] == 0 and np.isfinite(found).all()


def test_figures_are_of_users_left_out():
    weights, figures = blend.learn(groups(60, noise=0.1), seed=0)
    assert set(weights) == set(FEATURES)
    assert figures["random"] < figures["blend"] < figures["best"]
    assert figures["gain"]["low"] > 0.2  # nearly as good as knowing
    chance = [
        Group(one.user, one.known, np.random.default_rng(i).normal(size=8), 0) for i, one in enumerate(groups(60))
    ]
    _, figures = blend.learn(chance, seed=0)
    assert figures["gain"]["low"] < 0 < figures["best"]  # there is nothing to learn, and none is claimed
    assert figures["blend"] < figures["best"] / 2


def test_too_few_users_are_refused():
    with pytest.raises(UsageError, match="4 users: too few"):
        blend.learn(groups(4), seed=0)


def test_a_group_is_what_the_runtime_sees():
    context = Scoring("notes on rye", "write", style_of(["on rye"]), past=("on rye",))
    some = [Candidate("notes on bread", seed=8, logprob=-1.0), Candidate("notes on rye", seed=7, logprob=-2.0)]
    group = Group.of("u", some, context, "notes on rye")
    assert group.first == 1  # the earliest seed is the answer that would have been written alone
    assert group.worth.tolist() == [pytest.approx(2 / 3), 1.0]
    assert group.known.tolist() == [[one[name] for name in FEATURES] for one in evidence(some, context)]


@pytest.mark.model
def test_the_stage_draws_once_and_its_weights_choose(tmp_path, rows_file, smollm2_path):
    sets = [f"base.model={smollm2_path}", "data.k=2", "data.max_tokens=512", "blend.users=12", "blend.candidates=8"]
    recipe = config.load("edge-cpu", sets, {"data.files": [str(rows_file)]})
    said, cancel = [], Cancel()

    def bars(_label, _unit):
        from contextlib import nullcontext

        return nullcontext(lambda done, _total: cancel.cancel() if done == 3 and not said else None)

    def run():
        return blend.run(tmp_path / "run", recipe, adapter=None, cancel=cancel, bars=bars, say=said.append)

    assert run() is None  # stopped
    drawn = next((tmp_path / "run").rglob("answers.jsonl"))
    before = drawn.read_text()
    assert 0 < before.count("\n") < 12
    cancel = Cancel()
    said.append("going on")
    path = run()
    assert drawn.read_text().startswith(before)
    found = json.loads(path.read_text())
    assert found["weights"] == read_weights(path) and found["about"]["requests"] <= 12
    assert found["figures"]["random"] <= found["figures"]["best"]
    written = drawn.read_bytes()
    assert run() == path and drawn.read_bytes() == written
    record = json.loads(before.splitlines()[0])
    some = [Candidate(one["answer"], seed=one["seed"], logprob=one["logprob"]) for one in record["candidates"]]
    scores = Blend(path).score(some, Scoring(record["query"], "commit_subject", style_of([])))
    assert len(scores) == len(some) and np.isfinite(scores).all()
