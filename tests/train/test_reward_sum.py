"""Advantages: by hand, against TRL's own code on random numbers, and what must not change them."""

import inspect
import textwrap
import types

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prlm_edge.errors import ConfigError
from prlm_edge.train.grpo.weigh import total, zero_variance

ROOT_2 = 2**0.5


def test_normalize_then_sum_by_hand():
    terms = {"a": [0, 2, 5, 5], "b": [1, 3, 10, 30]}
    # each pair's values are its mean -+ std / sqrt 2, so that terms count alike whatever their range; "a" is silent in
    # the second group: sums are -+2 / sqrt 2 and -+1 / sqrt 2, and then the batch has mean 0
    sums = np.array([-2, 2, -1, 1]) / ROOT_2
    wanted = sums / sums.std(ddof=1)
    assert total(terms, {"a": 1, "b": 1}, 2, epsilon=0) == pytest.approx(wanted)


def test_sum_by_hand():
    terms, weights = {"a": [0, 2, 5, 5], "b": [1, 3, 10, 30]}, {"a": 1, "b": 0.5}
    sums = np.array([0.5, 3.5, 10, 20])
    assert total(terms, weights, 2, mode="sum", scale="none") == pytest.approx([-1.5, 1.5, -5, 5])
    assert total(terms, weights, 2, mode="sum", epsilon=0) == pytest.approx(np.array([-1, 1, -1, 1]) / ROOT_2)
    batch = np.array([-1.5, 1.5, -5, 5]) / sums.std(ddof=1)
    assert total(terms, weights, 2, mode="sum", scale="batch", epsilon=0) == pytest.approx(batch)


def trls_code():
    """The lines of TRL's GRPOTrainer that make advantages of rewards, as a function."""
    pytest.importorskip("trl")
    import torch
    from trl.trainer import grpo_trainer

    source = textwrap.dedent(inspect.getsource(grpo_trainer.GRPOTrainer._generate_and_score_completions))
    start = source.index("    unscorable_mask =")
    end = source.index("    # Slice to keep only the local part")
    code = compile(textwrap.dedent(source[start:end]), "trl", "exec")

    def advantages(values, weights, group_size, aggregation, scale):
        trainer = types.SimpleNamespace(
            multi_objective_aggregation=aggregation,
            scale_rewards=scale,
            reward_weights=torch.tensor(weights),
            reward_funcs=[None] * len(weights),
        )
        names = {
            "self": trainer,
            "torch": torch,
            "nanstd": grpo_trainer.nanstd,
            "device": "cpu",
            "num_generations": group_size,
            "rewards_per_func": torch.tensor(values, dtype=torch.float64),
        }
        exec(code, names)
        return names["advantages"].numpy()

    return advantages


@pytest.mark.parametrize(
    ("mode", "scale"),
    [("normalize_then_sum", "group"), ("sum", "group"), ("sum", "batch"), ("sum", "none")],
)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_it_is_what_trl_computes(mode, scale, missing):
    theirs = trls_code()
    random = np.random.default_rng(0)
    for group_size, n_groups, n_terms in [(4, 1, 1), (4, 3, 2), (8, 5, 6), (2, 7, 3)]:
        values = random.normal(size=(group_size * n_groups, n_terms)) * [10.0**-k for k in range(n_terms)]
        values[:group_size, 0] = 0.7  # a term without variance
        values[-1] = np.nan if missing else values[-1]  # and a rollout without any
        values[random.random(values.shape) < missing] = np.nan
        weights = random.normal(size=n_terms).tolist()
        names = [f"t{k}" for k in range(n_terms)]
        ours = total(
            {name: values[:, k] for k, name in enumerate(names)},
            dict(zip(names, weights, strict=True)),
            group_size,
            mode=mode,
            scale=scale,
        )
        aggregation = "sum_then_normalize" if mode == "sum" else mode
        wanted = theirs(values, weights, group_size, aggregation, scale)
        assert np.abs(wanted).max() > 0.01 or n_terms == 1
        np.testing.assert_allclose(ours, wanted, atol=1e-7)


def test_what_does_not_vary_adds_exactly_nothing():
    # 0.1 + 0.1 + 0.1 divided by 3 is not 0.1: rounding must not become a signal
    flat = {"a": [0.1] * 3 + [0.5] * 3}
    assert np.mean(flat["a"][:3]) != 0.1
    assert total(flat, {"a": 1e9}, 3).tolist() == [0] * 6
    assert total(flat, {"a": 1.0}, 3, mode="sum", epsilon=0).tolist() == [0] * 6
    varied = {"a": [0.0, 1.0, 2.0, 3.0]}
    flat = {**varied, "b": [0.1, 0.1, 0.1, 0.1]}
    assert total(flat, {"a": 1, "b": 1e9}, 4).tolist() == total(varied, {"a": 1}, 4).tolist()


def test_a_reward_that_is_no_number_moves_nothing_else_to_nan():
    found = total({"a": [np.inf, 0.0, 1.0, 2.0], "b": [1.0, 2.0, 3.0, 5.0]}, {"a": 1, "b": 1}, 4)
    assert np.isfinite(found).all()
    alone = total({"a": [np.nan, np.nan, 1.0, 2.0]}, {"a": 1}, 2)
    assert alone[:2].tolist() == [0, 0]
    assert alone[3] > 0


def test_zero_variance_is_the_share_of_groups_without_a_signal():
    terms = {"a": [1, 1, 2, 3, 4, 4, 5, 5], "b": [0, 0, 7, 7, 1, 1, 1, 2]}
    assert zero_variance(terms, {"a": 1, "b": 1}, 2) == 0.5
    assert zero_variance(terms, {"a": 1, "b": 0}, 2) == 0.75  # a term of no weight is no signal
    assert zero_variance({"a": [1, 1, 1, 1]}, {"a": 1}, 4) == 1
    assert zero_variance({"a": [np.nan, np.nan, 1, 2]}, {"a": 1}, 2) == 0.5


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="format"):
        total({"accuracy": [1, 2]}, {"accuracy": 1, "format": 1}, 2)
    with pytest.raises(ConfigError, match="accuracy"):
        total({"accuracy": [1, 2]}, {}, 2)
    for terms, group_size in [({"a": [1, 2, 3]}, 2), ({"a": []}, 2), ({"a": [1, 2], "b": [1]}, 1), ({"a": [1]}, 0)]:
        with pytest.raises(ValueError, match="groups of"):
            total(terms, dict.fromkeys(terms, 1.0), group_size)


GROUP, GROUPS = 4, 3
TINY = 1e-9  # not 0: terms that cancel out leave rounding errors, which nothing should be divided by
# whole numbers: equal after scaling where equal before, and never so close that the epsilon decides
tables = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        arrays(np.int64, (GROUP * GROUPS, n), elements=st.integers(-50, 50)),
        arrays(np.float64, n, elements=st.floats(0.1, 10)),
    )
)


def advantages(values, weights, **options):
    names = [str(k) for k in range(values.shape[1])]
    return total(dict(zip(names, values.T, strict=True)), dict(zip(names, weights, strict=True)), GROUP, **options)


@settings(deadline=None, max_examples=60)
@given(tables, st.randoms(use_true_random=False))
def test_order_does_not_matter(table, random):
    values, weights = table
    before = advantages(values, weights)
    inside = np.concatenate([GROUP * g + np.array(random.sample(range(GROUP), GROUP)) for g in range(GROUPS)])
    np.testing.assert_allclose(advantages(values[inside], weights), before[inside], atol=1e-9)
    groups = np.concatenate([GROUP * g + np.arange(GROUP) for g in random.sample(range(GROUPS), GROUPS)])
    np.testing.assert_allclose(advantages(values[groups], weights), before[groups], atol=1e-9)
    terms = random.sample(range(values.shape[1]), values.shape[1])
    np.testing.assert_allclose(advantages(values[:, terms], weights[terms]), before, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(tables, st.lists(st.tuples(st.floats(0.01, 1000), st.integers(-100, 100)), min_size=4, max_size=4))
def test_a_terms_scale_and_offset_do_not_matter(table, changes):
    """Under "normalize_then_sum", and not under "sum": why a small reward is not drowned there."""
    values, weights = table
    assume(not cancels(values, weights))
    n = values.shape[1]
    factors, offsets = np.array([c[0] for c in changes[:n]]), np.array([c[1] for c in changes[:n]])
    before = advantages(values, weights, epsilon=TINY)
    np.testing.assert_allclose(advantages((values + offsets) * factors, weights, epsilon=TINY), before, atol=1e-5)


def cancels(values, weights):
    """Whether the normalized terms add up to nothing: what is left is rounding, which says nothing."""
    grouped = values.reshape(GROUPS, GROUP, -1)
    std = grouped.std(axis=1, ddof=1, keepdims=True)
    parts = np.where(std > 0, (grouped - grouped.mean(axis=1, keepdims=True)) / np.where(std > 0, std, 1), 0)
    summed = (parts * weights).sum(axis=-1)
    return 0 < np.abs(summed).max() < 1e-6


@settings(deadline=None, max_examples=60)
@given(tables, st.floats(0.1, 100))
def test_advantages_are_balanced_and_follow_weights_by_their_ratio(table, factor):
    values, weights = table
    assume(not cancels(values, weights))
    for mode in ("normalize_then_sum", "sum"):
        found = advantages(values, weights, mode=mode, epsilon=TINY)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.reshape(GROUPS, GROUP).sum(axis=1), 0, atol=1e-5)
        scaled = advantages(values, weights * factor, mode=mode, epsilon=TINY)
        np.testing.assert_allclose(scaled, found, atol=1e-5)
    if values.shape[1] == 1 and np.ptp(values[:GROUP]):
        assert np.abs(found).max() > 0


def test_a_small_term_is_drowned_by_a_sum_alone():
    terms = {"accuracy": [0.0, 3.0, 1.0, 2.0], "personalization": [0.003, 0.001, 0.004, 0.002]}
    weights = {"accuracy": 1.0, "personalization": 1.0}
    alone = total({"accuracy": terms["accuracy"]}, {"accuracy": 1.0}, 4)
    summed = total(terms, weights, 4, mode="sum")
    apart = total(terms, weights, 4)
    assert np.abs(summed - alone).max() < 0.01
    assert np.abs(apart - alone).max() > 0.3
