"""The anchors' start: what it finds on known truths, what it drops, and when varimax wins."""

import numpy as np
import pytest

from latentree.models.anchors import anchors_start, choose_start
from latentree.models.curves import Curves
from latentree.models.feature_groups import anchor_groups
from latentree.models.starts import Start, varimax_start
from latentree.synthetic import TRUTHS, paper_data


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / values.std(0)


def varimax_of(values: np.ndarray, n_factors: int) -> Start:
    return varimax_start(np.cov(values.T, bias=True), n_factors)


def matched(start: Start, values: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each true factor the best column of the start, and how they correlate."""
    scores = values @ start.scores[:, start.support.any(0)]
    correlation = np.abs(np.corrcoef(factors.T, scores.T)[: factors.shape[1], factors.shape[1] :])
    return correlation.argmax(1), correlation.max(1)


@pytest.mark.parametrize("rho", [0, 0.4, 0.8])
def test_the_papers_data_are_read_off(rho):
    data = paper_data(rho, np.random.default_rng(0))
    values = standardised(data.values)
    choice = choose_start(values, varimax_of(values, 5))
    assert choice.name == "anchors"
    assert choice.encoder_mean == "mlp"
    assert choice.start.support.any(0).tolist() == [True, True, False, False, False]
    best, correlation = matched(choice.start, values, data.factors)
    assert correlation.min() > 0.95
    assert np.array_equal(choice.start.support[:, best], data.mask)


@pytest.mark.parametrize("name", ["curves", "interactions", "few_anchors", "network"])
def test_truths_are_found_with_more_factors_than_there_are(name):
    data = TRUTHS[name](np.random.default_rng(0))
    n_factors = data.mask.shape[1]
    values = standardised(data.values)
    choice = choose_start(values, varimax_of(values, n_factors + 3))
    assert choice.name == "anchors"
    assert choice.encoder_mean == "mlp"
    assert choice.start.support.any(0).sum() == n_factors
    best, correlation = matched(choice.start, values, data.factors)
    assert sorted(best) == list(range(n_factors))
    assert correlation.min() > 0.9
    assert (choice.start.support[:, best] != data.mask).mean() < 0.02


def test_lines_alone_give_anchors_and_a_linear_mean():
    """Two anchors and mixtures of correlated factors: no curve is worth a network."""
    rng = np.random.default_rng(1)
    factors = rng.multivariate_normal([0, 0, 0], 0.5 + 0.5 * np.eye(3), 800)
    loadings = np.vstack([np.kron(np.eye(3), np.ones((4, 1))), [[1, 1, 0], [0, 1, -1], [1, 0, 1]]])
    values = standardised(factors @ loadings.T + 0.5 * rng.normal(size=(800, 15)))
    choice = choose_start(values, varimax_of(values, 6))
    assert choice.name == "anchors"
    assert choice.encoder_mean == "linear"
    assert choice.curve_gain < 0.05
    best, _ = matched(choice.start, values, factors)
    assert np.array_equal(choice.start.support[:, best], loadings != 0)


def test_varimax_wins_where_every_feature_uses_many_factors():
    rng = np.random.default_rng(2)
    factors, loadings = rng.normal(size=(600, 8)), rng.normal(size=(60, 8))
    values = standardised(factors @ loadings.T + 3 * rng.normal(size=(600, 60)))
    start = varimax_of(values, 8)
    choice = choose_start(values, start)
    assert choice.name == "varimax"
    assert choice.start is start
    assert choice.encoder_mean == "linear"
    assert choice.explained["anchors"] < choice.explained["varimax"]


def test_noise_has_no_anchors():
    values = np.random.default_rng(3).normal(size=(1000, 30))
    assert anchors_start(values, 5) is None
    assert choose_start(values, varimax_of(values, 5)).name == "varimax"


def test_groups_that_follow_from_others_are_dropped():
    """Of z1, z2, z1 + z2, z1 squared and z1 z2, three features each, the first two stay."""
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 1000))
    causes = [first, second, first + second, first**2, first * second]
    values = np.column_stack([cause for cause in causes for _ in range(3)])
    groups = anchor_groups(standardised(values + 0.3 * rng.normal(size=values.shape)), 5)
    assert sorted(sorted(group) for group in groups) == [[0, 1, 2], [3, 4, 5]]


def test_correlated_factors_are_not_taken_for_functions_of_each_other():
    rng = np.random.default_rng(5)
    factors = rng.multivariate_normal(np.zeros(3), 0.8 + 0.2 * np.eye(3), 1000)
    values = np.repeat(factors, 3, axis=1) + 0.3 * rng.normal(size=(1000, 9))
    assert len(anchor_groups(standardised(values), 6)) == 3


def test_the_start_is_in_units_of_the_values():
    data = paper_data(0, np.random.default_rng(6))
    values = standardised(data.values)
    unit = np.linspace(0.5, 4, 7)
    start, scaled = anchors_start(values, 5), anchors_start(values * unit, 5)
    assert np.allclose(scaled.loadings, start.loadings * unit[:, None], atol=1e-6)
    assert np.allclose(scaled.scores * unit[:, None], start.scores, atol=1e-6)
    assert np.allclose(scaled.noise_variance, start.noise_variance * unit**2, atol=1e-6)
    assert np.array_equal(scaled.support, start.support)
    assert ((start.loadings != 0) == start.support).all()


def test_the_factors_start_as_correlated_as_they_are():
    data = paper_data(0.8, np.random.default_rng(11), n_cells=3000)
    start = anchors_start(standardised(data.values), 4)
    assert abs(start.correlation[0, 1]) == pytest.approx(0.8, abs=0.06)
    assert np.array_equal(start.correlation[2:], np.eye(4)[2:])


def test_constant_features_have_no_factor_and_no_say():
    data = paper_data(0.4, np.random.default_rng(7))
    values = standardised(data.values)
    padded = anchors_start(np.column_stack([values, np.full(len(values), 3.0)]), 5)
    assert not padded.support[7].any()
    assert np.isfinite(padded.scores).all()
    assert np.allclose(padded.scores[:7], anchors_start(values, 5).scores)


def test_the_same_bits_twice():
    values = standardised(TRUTHS["curves"](np.random.default_rng(8)).values)
    assert np.array_equal(anchors_start(values, 6).scores, anchors_start(values, 6).scores)


def test_curves_tell_lines_bends_and_interactions_apart():
    rng = np.random.default_rng(9)
    scores = rng.normal(size=(800, 4))
    curves = Curves(scores)

    def needs(target, **keys):
        noisy = standardised(target + 0.1 * target.std() * rng.normal(size=800))
        return curves.needs(curves.moments(noisy), **keys)

    line = needs(scores[:, 2])
    assert line.factors == (2,)
    assert line.linear == pytest.approx(0.01, abs=0.005)
    bend = needs(scores[:, 1] ** 2)
    assert bend.factors == (1,)
    assert bend.linear > 0.9
    assert bend.curved < 0.15
    product = needs(scores[:, 0] * scores[:, 3])
    assert sorted(product.factors) == [0, 3]
    assert product.curved < 0.05
    assert needs(rng.normal(size=800)).factors == ()
    assert needs(scores[:, 2], without=2).factors == ()


def test_anchors_can_be_asked_for():
    rng = np.random.default_rng(10)
    factors, loadings = rng.normal(size=(600, 8)), rng.normal(size=(60, 8))
    values = standardised(factors @ loadings.T + 3 * rng.normal(size=(600, 60)))
    assert choose_start(values, varimax_of(values, 8), only_anchors=True).name == "anchors"
