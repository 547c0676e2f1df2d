"""MCC, its chance level and span R^2 against brute force, published figures and scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from latentree.metrics.mcc import correlations, matching, mcc, mcc_chance
from latentree.metrics.span_r2 import span_r2


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_mcc_is_the_best_of_all_permutations(n_latents, seed):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(50, n_latents))
    Z_hat = Z @ rng.normal(size=(n_latents, n_latents)) + rng.normal(size=Z.shape)
    table = np.abs(np.corrcoef(Z.T, Z_hat.T)[:n_latents, n_latents:])
    best = max(
        np.mean([table[i, p] for i, p in enumerate(order)])
        for order in itertools.permutations(range(n_latents))
    )
    assert mcc(Z, Z_hat) == pytest.approx(best)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_mcc_ignores_order_sign_scale_and_offset(n_latents, seed):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(40, n_latents))
    order = rng.permutation(n_latents)
    changed = 3 + Z[:, order] * rng.choice([-1, 1], n_latents) * rng.uniform(0.1, 10, n_latents)
    assert mcc(Z, changed) == pytest.approx(1)
    assert np.array_equal(order[matching(Z, changed)], np.arange(n_latents))


def test_more_estimated_columns_than_latents_count_the_best_and_fewer_count_zero():
    Z = np.random.default_rng(0).normal(size=(2000, 3))
    noise = np.random.default_rng(1).normal(size=(2000, 4))
    assert mcc(Z, np.hstack([noise, Z])) == pytest.approx(1)
    assert mcc(Z, Z[:, :2]) == pytest.approx(2 / 3)
    assert matching(Z, Z[:, [2]]).tolist() == [-1, -1, 0]


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_a_constant_column_correlates_with_nothing(constant):
    Z = np.random.default_rng(0).normal(size=(30, 2))
    Z_hat = np.column_stack([Z[:, 0], np.full(30, constant)])
    assert correlations(Z, Z_hat)[:, 1].tolist() == [0, 0]
    assert mcc(Z, Z_hat) == pytest.approx(0.5, abs=0.3)
    assert np.isfinite(mcc(Z, Z_hat))


@pytest.mark.parametrize(
    ("n_latents", "mean", "percentile"),
    [(2, 0.894, 0.999), (3, 0.825, 0.961), (5, 0.728, 0.827), (8, 0.637, 0.709)],
)
def test_chance_level_agrees_with_the_figures_of_the_method_note(n_latents, mean, percentile):
    found = mcc_chance(n_latents)
    assert found == pytest.approx((mean, percentile), abs=0.01)
    assert mcc_chance.__wrapped__(n_latents) == found


def test_chance_is_what_randomly_mixed_latents_score():
    rng = np.random.default_rng(5)
    scores = []
    for _ in range(200):
        Z = rng.normal(size=(2000, 3))
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        scores.append(mcc(Z, Z @ rotation))
    assert np.mean(scores) == pytest.approx(mcc_chance(3)[0], abs=0.02)
    assert mcc_chance(3, 6)[0] < mcc_chance(3)[0]


def test_span_r2_is_the_regression_s_r2_and_does_not_see_rotations():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(200, 3))
    Z_hat = Z[:, :2] @ rng.normal(size=(2, 4)) + 0.5 * rng.normal(size=(200, 4)) + 7
    expected = LinearRegression().fit(Z_hat, Z).score(Z_hat, Z)
    assert span_r2(Z, Z_hat) == pytest.approx(expected)
    assert span_r2(Z, Z @ rng.normal(size=(3, 3)) + 1) == pytest.approx(1)
    assert np.isnan(span_r2(np.ones((5, 2)), Z_hat[:5]))


def test_different_cells_are_refused():
    for metric in (mcc, span_r2):
        with pytest.raises(ValueError, match="same cells"):
            metric(np.zeros((3, 2)), np.zeros((4, 2)))
