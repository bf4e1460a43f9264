"""Bootstrap by user: against plain Python, against known truths, and whether intervals cover as often as they say."""

from __future__ import annotations

import random

import pytest

from prlm_edge.evaluate import stats


def test_a_user_with_many_rows_counts_once() -> None:
    found = stats.estimate([("a", 1.0), ("a", 1.0), ("a", 1.0), ("b", 0.0)])
    assert found
    assert (found.mean, found.n_users, found.n_rows) == (0.5, 2, 4)
    assert stats.estimate([]) is None


def test_equal_to_plain_python() -> None:
    dice = random.Random(1)
    values = [(f"u{i}", dice.gauss(0.4, 0.2)) for i in range(30)]
    found = stats.estimate(values)
    assert found
    means = sorted(sum(dice.choice(values)[1] for _ in values) / len(values) for _ in range(4000))
    assert found.low == pytest.approx(means[100], abs=0.006)
    assert found.high == pytest.approx(means[3900], abs=0.006)
    assert stats.estimate(values) == found  # the seed decides


def test_intervals_cover_the_truth_about_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "N_RESAMPLES", 1000)
    dice = random.Random(2)
    hits = 0
    for _ in range(200):
        found = stats.estimate([(str(i), dice.gauss(0.3, 0.1)) for i in range(40)])
        assert found
        hits += found.low <= 0.3 <= found.high
    assert 178 <= hits <= 199  # 95% of 200 is 190, standard deviation 3


def test_a_paired_difference_is_seen_where_the_means_overlap() -> None:
    dice = random.Random(3)
    a = {str(i): (f"u{i}", dice.random()) for i in range(60)}
    b = {row: (user, value + dice.gauss(0.03, 0.02)) for row, (user, value) in a.items()}
    found = stats.difference(a, b)
    assert found
    assert 0.02 < found.low < found.mean < found.high < 0.04
    assert found.p <= 0.001
    assert found.wins + found.ties + found.losses == found.n_users == found.n_rows == 60
    back = stats.difference(b, a)
    assert back
    assert (back.wins, back.losses, back.mean) == (found.losses, found.wins, pytest.approx(-found.mean))


def test_no_difference_is_none() -> None:
    a = {str(i): (f"u{i}", i / 10) for i in range(10)}
    found = stats.difference(a, a)
    assert found
    assert (found.mean, found.ties, found.p) == (0, 10, 1)
    assert stats.difference(a, {"other": ("u", 1.0)}) is None


def test_a_summary_leaves_out_what_never_applies() -> None:
    lines = [{"condition": "c", "user": f"u{i}", "rouge1": i / 4, "faithfulness": None} for i in range(3)]
    found = stats.summarize(lines, ["rouge1", "faithfulness"])
    assert set(found["c"]) == {"rouge1"}
    assert found["c"]["rouge1"].mean == 0.25
