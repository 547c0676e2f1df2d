"""Starts against a planar-rotation varimax, the normal distribution's own formulas and known structure."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import ortho_group

from latentree.models.starts import (
    axis_reliability,
    leading_axes,
    random_start,
    varimax,
    varimax_start,
)


def _criterion(loadings: np.ndarray, kaiser: float) -> float:
    """Kaiser's: variances of the squared (normalised) loadings, summed over factors."""
    lengths = np.linalg.norm(loadings, axis=1, keepdims=True)
    return float(((loadings / lengths**kaiser) ** 2).var(axis=0).sum())


def _planar_varimax(loadings: np.ndarray, kaiser: float, n_sweeps: int = 60) -> np.ndarray:
    """Kaiser's own algorithm: each pair of factors in turn, its angle in closed form."""
    lengths = np.linalg.norm(loadings, axis=1, keepdims=True)
    rows, n_genes = loadings / lengths**kaiser, len(loadings)
    for _ in range(n_sweeps):
        for p, q in itertools.combinations(range(rows.shape[1]), 2):
            x, y = rows[:, p], rows[:, q]
            u, v = x**2 - y**2, 2 * x * y
            above = 2 * (n_genes * (u * v).sum() - u.sum() * v.sum())
            below = n_genes * (u**2 - v**2).sum() - (u.sum() ** 2 - v.sum() ** 2)
            angle = math.atan2(above, below) / 4
            rows = rows.copy()
            rows[:, p] = x * math.cos(angle) + y * math.sin(angle)
            rows[:, q] = -x * math.sin(angle) + y * math.cos(angle)
    return rows * lengths**kaiser


def _matched(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """``found`` with its columns in the order and of the sign of ``expected``'s."""
    overlap = found.T @ expected
    order = np.abs(overlap).argmax(0)
    assert len(set(order)) == expected.shape[1]
    return found[:, order] * np.sign(overlap[order, np.arange(expected.shape[1])])


@pytest.mark.parametrize("kaiser", [0.0, 0.5, 1.0])
def test_varimax_agrees_with_planar_rotations(kaiser):
    rng = np.random.default_rng(0)
    simple = rng.standard_normal((60, 4)) * (rng.random((60, 4)) < 0.3) + 0.05 * rng.standard_normal((60, 4))
    loadings = simple @ ortho_group.rvs(4, random_state=1)
    rotation = varimax(loadings, kaiser)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(4), atol=1e-10)
    rotated, expected = loadings @ rotation, _planar_varimax(loadings, kaiser)
    assert _criterion(rotated, kaiser) == pytest.approx(_criterion(expected, kaiser), rel=1e-6)
    np.testing.assert_allclose(_matched(rotated, expected), expected, atol=2e-3)


def test_varimax_finds_a_perfect_simple_structure_and_leaves_zero_rows_alone():
    simple = np.zeros((13, 3))
    for gene in range(12):
        simple[gene, gene % 3] = 1 + gene / 10
    loadings = simple @ ortho_group.rvs(3, random_state=0)
    rotated = loadings @ varimax(loadings)
    np.testing.assert_allclose(_matched(rotated, simple), simple, atol=1e-4)
    assert not rotated[12].any()


def _covariance(n_genes: int = 30, n_factors: int = 3, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    loadings = np.abs(rng.standard_normal((n_genes, n_factors))) * (rng.random((n_genes, n_factors)) < 0.4)
    return loadings @ loadings.T + noise * np.eye(n_genes), loadings


@pytest.mark.parametrize("rotate", ["axes", "loadings"])
def test_varimax_start_recovers_a_factor_model_with_even_noise(rotate):
    covariance, loadings = _covariance()
    start = varimax_start(covariance, 3, rotate)
    # probabilistic principal components: the signal is the model's own, whatever the rotation
    signal = start.loadings @ start.correlation @ start.loadings.T
    np.testing.assert_allclose(signal, loadings @ loadings.T, atol=1e-8)
    np.testing.assert_allclose(start.noise_variance, 0.5, atol=1e-8)
    np.testing.assert_allclose(np.diag(start.correlation), 1, atol=1e-12)
    assert ((start.loadings**3).sum(0) > 0).all()


def test_factors_are_uncorrelated_where_loadings_are_rotated_and_axes_are_simple_where_they_are():
    covariance, _ = _covariance()
    np.testing.assert_allclose(varimax_start(covariance, 3, "loadings").correlation, np.eye(3), atol=1e-10)
    start = varimax_start(covariance, 3, "axes")
    assert np.abs(start.correlation - np.eye(3)).max() > 0.05
    # scores along rotated principal axes, but for what shrinks each component
    axes = np.linalg.eigh(covariance)[1][:, -3:]
    simple = _planar_varimax(axes, 0.0)
    components = np.linalg.eigvalsh(covariance)[-3:]
    rest = np.linalg.eigvalsh(covariance)[:-3].mean()
    shrunk = axes * (np.sqrt(components - rest) / components)
    turn = np.linalg.lstsq(shrunk, start.scores, rcond=None)[0]
    directions = turn / np.sqrt(components - rest)[:, None]
    directions = axes @ (directions / np.linalg.norm(directions, axis=0))
    np.testing.assert_allclose(_matched(directions, simple), simple, atol=2e-3)


@pytest.mark.parametrize("rotate", ["axes", "loadings"])
def test_scores_and_variances_are_those_of_the_normal_posterior(rotate):
    covariance, _ = _covariance()
    start = varimax_start(covariance, 2, rotate)
    rest = np.linalg.eigvalsh(covariance)[:-2].mean()
    prior = start.correlation
    model = start.loadings @ prior @ start.loadings.T + rest * np.eye(30)
    # conditional normal distribution from the joint one of (z, x), without the matrix inversion lemma
    scores = np.linalg.solve(model, start.loadings @ prior)
    np.testing.assert_allclose(start.scores, scores, atol=1e-10)
    # the span is that of the principal components
    principal = np.linalg.eigh(covariance)[1][:, -2:]
    np.testing.assert_allclose(principal @ (principal.T @ start.scores), start.scores, atol=1e-10)
    left = prior - prior @ start.loadings.T @ scores
    np.testing.assert_allclose(start.posterior_variance, np.diag(left), atol=1e-10)


def test_varimax_start_copes_with_constant_genes_and_as_many_factors_as_genes():
    covariance, _ = _covariance(n_genes=6)
    covariance[2] = covariance[:, 2] = 0
    start = varimax_start(covariance, 6)
    for values in (start.loadings, start.scores, start.noise_variance, start.posterior_variance):
        assert np.isfinite(values).all()
    assert not start.loadings[2].any()
    assert (start.noise_variance > 0).all()


def test_varimax_start_is_deterministic():
    covariance, _ = _covariance()
    first, second = varimax_start(covariance, 3), varimax_start(covariance.copy(), 3)
    assert np.array_equal(first.loadings, second.loadings)


def test_random_start_takes_all_variance_for_noise():
    variance = np.array([4.0, 0.0, 1.0])
    start = random_start(variance, 2, np.random.default_rng(0))
    again = random_start(variance, 2, np.random.default_rng(0))
    assert np.array_equal(start.loadings, again.loadings)
    assert start.noise_variance.tolist() == [4, 1, 1]
    assert not start.scores.any()
    many = random_start(np.ones(20_000), 1, np.random.default_rng(1)).loadings
    assert many.mean() == pytest.approx(0, abs=0.03)
    assert many.std() == pytest.approx(1, abs=0.03)


# -- what other cells would show


def _axis_scores(n_cells: int = 400, n_axes: int = 10) -> np.ndarray:
    """Two strong axes and noise, leading first, as the rule hands them over."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((n_cells, 30))
    x += rng.standard_normal((n_cells, 2)) * [6, 4] @ ortho_group.rvs(30, random_state=0)[:2]
    return (x - x.mean(0)) @ np.linalg.eigh(np.cov(x.T))[1][:, ::-1][:, :n_axes]


def test_axes_of_a_signal_are_reliable_and_those_of_noise_are_not():
    reliability = axis_reliability(_axis_scores(), 4)
    assert reliability.shape == (4,)
    assert (reliability[:2] > 0.98).all()
    assert (reliability[2:] < 0.5).all()
    assert ((reliability >= 0) & (reliability <= 1)).all()
    # and with many more cells noise is noise all the same
    assert axis_reliability(_axis_scores(8000), 4)[2:].max() < 0.7


def test_reliability_is_that_of_a_loop_over_halves_and_has_the_same_bits_again():
    scores = _axis_scores(90)
    n_factors, expected = 3, np.zeros(3)
    rng = np.random.default_rng(0)
    for _ in range(3):
        order = rng.permutation(90)
        seen = np.ones(n_factors)
        for rows in (order[:45], order[45:]):
            right = np.linalg.svd(scores[np.sort(rows)], full_matrices=False)[2][:n_factors]
            for axis in range(n_factors):
                # length of the unit vector's projection on the half's leading axes
                projected = sum(float(vector[axis]) * vector for vector in right)
                seen[axis] *= float(projected @ projected)
        expected += seen / 3
    found = axis_reliability(scores, n_factors)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert np.array_equal(found, axis_reliability(scores.copy(), n_factors))


def test_all_axes_there_are_come_back_and_one_cell_says_nothing_amiss():
    np.testing.assert_allclose(axis_reliability(_axis_scores(50, n_axes=3), 3), 1)
    assert np.isfinite(axis_reliability(_axis_scores(50)[:1], 2)).all()


def test_scores_hear_little_of_axes_that_are_not_reliable():
    covariance, _ = _covariance()
    start = varimax_start(covariance, 3)
    np.testing.assert_array_equal(varimax_start(covariance, 3, reliability=np.ones(3)).scores, start.scores)
    reliability = np.array([1.0, 0.5, 0.04])
    heard = varimax_start(covariance, 3, reliability=reliability)
    axes = leading_axes(covariance, 3)[1]
    # along each principal axis the scores shrink by the root of its reliability
    expected = np.sqrt(reliability)[:, None] * (axes.T @ start.scores)
    np.testing.assert_allclose(axes.T @ heard.scores, expected, atol=1e-12)
    # what is not heard is not known: variances grow towards the prior's, which is 1
    assert (heard.posterior_variance > start.posterior_variance).all()
    assert (heard.posterior_variance < 1).all()
    deaf = varimax_start(covariance, 3, reliability=np.zeros(3))
    assert not deaf.scores.any()
    np.testing.assert_allclose(deaf.posterior_variance, 1)
    # the model's own factors stay where they are
    for values in ("loadings", "noise_variance", "correlation"):
        np.testing.assert_array_equal(getattr(heard, values), getattr(start, values))


def test_leading_axes_are_those_of_the_decomposition_and_the_rest_is_a_mean():
    # the fourth axis is one of 27 with the same variance, of which LAPACK leaves some out
    covariance, _ = _covariance()
    values, vectors, rest = leading_axes(covariance, 4)
    every = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(values, every[:4])
    np.testing.assert_allclose(covariance @ vectors, vectors * values, atol=1e-10)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(4), atol=1e-12)
    assert rest == pytest.approx(every[4:].mean())
    assert (vectors[np.abs(vectors).argmax(0), np.arange(4)] > 0).all()
    assert leading_axes(covariance, len(covariance))[2] == 0
