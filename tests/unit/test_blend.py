"""Choosing by all that is known of a candidate: what the evidence is, whose weights are taken, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from prlm_edge.errors import MissingError, ModelError, UsageError
from prlm_edge.evaluate import provenance
from prlm_edge.evaluate.conditions import make
from prlm_edge.rerank import blend, make_scorer, rank
from prlm_edge.rerank.blend import FEATURES, Blend, evidence
from prlm_edge.settings import Settings
from prlm_edge.style import style_of
from prlm_edge.types import Candidate, Scoring

PAST = ("rye wins: three flours", "the drain we should have dug")
CONTEXT = Scoring("A post on slow bread in a cold kitchen.", "write", style_of(PAST), past=PAST)
CANDIDATES = [
    Candidate("slow bread in a cold kitchen", logprob=-0.5),
    Candidate("slow bread, cold kitchen", logprob=-1.0),
    Candidate("Three flours!", logprob=-0.25),
]


def written(path: Path, **weights: float) -> Path:
    path.write_text(json.dumps({"format": blend.FORMAT, "weights": dict.fromkeys(FEATURES, 0.0) | weights}))
    return path


def test_evidence_is_what_can_be_counted_by_hand():
    long, short, other = evidence(CANDIDATES, CONTEXT)
    assert tuple(long) == FEATURES
    assert long["agreement"] == pytest.approx((2 * 4 / 10 + 0) / 2)
    assert long["request"] == 1 and short["request"] == 1 and other["request"] == 0
    assert long["phrases"] == pytest.approx(2 * 5 / (5 + 8))
    assert other["nearest"] == pytest.approx(2 * 2 / (2 + 4)) and other["past"] == pytest.approx(other["nearest"] / 2)
    assert other["logprob"] == -0.25 and other["length"] == pytest.approx(math.log(3))
    assert long["unusual"] == pytest.approx(abs(math.log(7) - (math.log(5) + math.log(7)) / 2))
    assert long["style"] == CONTEXT.style.match(CANDIDATES[0].answer)


def test_belief_counts_for_nobody_where_one_has_none():
    some = [CANDIDATES[0], Candidate("slow bread")]
    assert [one["logprob"] for one in evidence(some, CONTEXT)] == [0.0, 0.0]


def test_without_a_past_and_alone_there_is_evidence_too():
    (only,) = evidence([Candidate("bread")], Scoring("bread", "write", style_of(())))
    assert (only["past"], only["nearest"], only["agreement"], only["unusual"], only["request"]) == (0, 0, 0, 0, 1)
    assert all(map(math.isfinite, evidence([Candidate("...")], CONTEXT)[0].values()))


@pytest.mark.parametrize(
    ("weights", "best"), [({"request": 1.0, "length": 0.1}, 0), ({"logprob": 1.0}, 2), ({"length": -1.0}, 2)]
)
def test_the_weights_decide(tmp_path, weights, best):
    scorer = Blend(written(tmp_path / "w.json", **weights))
    assert rank(CANDIDATES, scorer, CONTEXT)[0].answer == CANDIDATES[best].answer
    scores = scorer.score(CANDIDATES, CONTEXT)
    assert scores[1] == pytest.approx(sum(weights.get(k, 0) * v for k, v in evidence(CANDIDATES, CONTEXT)[1].items()))


def test_equal_answers_score_equally(tmp_path):
    scorer = Blend(written(tmp_path / "w.json", agreement=0.3, past=0.1, length=0.7))
    twice = [CANDIDATES[1], CANDIDATES[0], CANDIDATES[1]]
    scores = scorer.score(twice, CONTEXT)
    assert scores[0] == scores[2]


def test_the_bundled_weights_choose_by_default():
    scorer = make_scorer(Settings())
    assert scorer.name == "blend" and set(blend.read_weights(blend.BUNDLED)) == set(FEATURES)
    copied, own, empty = Candidate("rye wins: three flours"), CANDIDATES[0], Candidate("An essay about something else.")
    assert rank([copied, empty, own], scorer, CONTEXT)[0] is not empty
    assert all(math.isfinite(one) for one in scorer.score([copied, empty, own], CONTEXT))


def test_settings_name_the_file_and_it_is_read_once(tmp_path):
    path = written(tmp_path / "w.json", length=1.0)
    scorer = make_scorer(Settings(select="blend", blend_weights=str(path)))
    before = scorer.score(CANDIDATES, CONTEXT)
    path.unlink()
    assert scorer.score(CANDIDATES, CONTEXT) == before
    with pytest.raises(UsageError, match="No such file"):
        make_scorer(Settings(select="blend", blend_weights=str(path))).check()


def test_a_run_says_whose_weights_chose(tmp_path, monkeypatch):
    path = written(tmp_path / "w.json", length=1.0)
    monkeypatch.setattr(provenance.models, "resolve", lambda *_, **__: path)
    condition = make("b", {"best_of": 4, "select": "blend", "blend_weights": str(path), "adapter": "none"})
    assert provenance._models([condition])[str(path)]["file"] == "w.json"


def test_what_cannot_be_used_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(blend, "BUNDLED", tmp_path / "none.json")
    with pytest.raises(MissingError, match="without weights"):
        Blend().check()
    path = tmp_path / "w.json"
    for text in ("", "[]", "{}", '{"format": 1, "weights": 3}', '{"format": 1, "weights": {"length": "x"}}'):
        path.write_text(text)
        with pytest.raises(ModelError, match="no weights"):
            Blend(path).check()
    for found in ({"format": 9, "weights": dict.fromkeys(FEATURES, 0.0)}, {"format": 1, "weights": {"length": 1.0}}):
        path.write_text(json.dumps(found))
        with pytest.raises(ModelError, match="another version"):
            Blend(path).check()
    with pytest.raises(ModelError, match="finite"):
        Blend(written(path, length=float("nan"))).check()
