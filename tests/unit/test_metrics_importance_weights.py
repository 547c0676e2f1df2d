"""Importance-weighted likelihood against the marginal of a linear Gaussian model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from latentree.metrics import importance_weighted_log_likelihood, importance_weighted_per_cell

_NOISE = 0.7


def _model(n_cells: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x = W z + noise: W (n_genes, n_factors), cells x, and log p(x) of each."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4, 2))
    x = rng.normal(size=(n_cells, 2)) @ w.T + _NOISE * rng.normal(size=(n_cells, 4))
    return w, x, multivariate_normal(np.zeros(4), w @ w.T + _NOISE**2 * np.eye(4)).logpdf(x)


def _log_weights(w, x, mean, covariance, n_samples: int, seed: int) -> np.ndarray:
    """Weights of samples from q = N(mean of each cell, covariance)."""
    rng = np.random.default_rng(seed)
    noise = multivariate_normal(np.zeros(2), covariance)
    shift = rng.multivariate_normal(np.zeros(2), covariance, size=(n_samples, len(x)))
    z = mean + shift
    log_p = norm.logpdf(x, z @ w.T, _NOISE).sum(axis=-1) + norm.logpdf(z).sum(axis=-1)
    return log_p - noise.logpdf(shift).reshape(log_p.shape)


def test_with_the_exact_posterior_one_sample_is_exact():
    w, x, truth = _model()
    covariance = np.linalg.inv(np.eye(2) + w.T @ w / _NOISE**2)
    mean = x @ w @ covariance / _NOISE**2
    weights = _log_weights(w, x, mean, covariance, 1, 0)
    assert importance_weighted_per_cell(weights) == pytest.approx(truth)
    assert importance_weighted_log_likelihood(weights) == pytest.approx(truth.mean())


def test_with_a_wrong_posterior_it_rises_to_the_truth_with_the_samples():
    w, x, truth = _model()
    covariance = np.linalg.inv(np.eye(2) + w.T @ w / _NOISE**2)
    mean = x @ w @ covariance / _NOISE**2 + 0.2
    few, some, many = (
        np.mean(
            [
                importance_weighted_log_likelihood(_log_weights(w, x, mean, 2 * covariance, n, s))
                for s in range(r)
            ]
        )
        for n, r in ((1, 200), (5, 100), (5000, 2))
    )
    assert few < some < truth.mean() + 0.01
    assert many == pytest.approx(truth.mean(), abs=0.02)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(-1e4, 1e4))
@settings(max_examples=50, deadline=None)
def test_it_is_the_log_of_the_mean_weight_and_shifts_with_a_constant(weights, constant):
    column = np.array(weights)[:, None]
    expected = np.log(np.mean(np.exp(column)))
    assert importance_weighted_log_likelihood(column) == pytest.approx(expected, abs=1e-9)
    # weights far below the smallest float
    shifted = importance_weighted_log_likelihood(column + constant)
    assert shifted == pytest.approx(expected + constant, abs=1e-6)


def test_impossible_samples_count_as_weight_0():
    weights = np.array([[0.0, -np.inf], [-np.inf, -np.inf]])
    assert importance_weighted_per_cell(weights).tolist() == [-np.log(2), -np.inf]


def test_refuses_what_has_no_value():
    with pytest.raises(ValueError, match="n_samples"):
        importance_weighted_per_cell(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="1 of 2"):
        importance_weighted_per_cell(np.array([[np.nan, 0.0]]))
    assert np.isnan(importance_weighted_log_likelihood(np.zeros((3, 0))))
