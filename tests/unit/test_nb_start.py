"""The regressions of counts that a negative binomial fit starts from."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from scipy import sparse

from latentree.models.nb_start import negative_binomial_start
from latentree.models.scaling import Counts, TrainingData
from latentree.models.starts import Start, random_start

N_GENES, N_FACTORS = 12, 2


def _simulated(
    n_cells: int = 3000, theta: float = 2.0
) -> tuple[TrainingData, np.ndarray, np.ndarray, np.ndarray]:
    """Data, scores, offsets, loadings; the last gene has no count."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((n_cells, N_FACTORS))
    loadings = rng.uniform(-0.8, 0.8, (N_GENES, N_FACTORS))
    offset = rng.uniform(-6.5, -4, N_GENES)
    offset[-1] = -math.inf
    library = rng.lognormal(7, 0.5, n_cells)
    mean = library[:, None] * np.exp(offset + scores @ loadings.T)
    counts = rng.poisson(mean * rng.gamma(theta, 1 / theta, mean.shape)).astype(np.float32)
    rows = np.arange(n_cells)
    data = TrainingData(np.log1p(counts), rows[: n_cells - 5], rows[-5:], Counts(counts, library))
    return data, scores, offset, loadings


def _start() -> Start:
    return random_start(np.ones(N_GENES), N_FACTORS, np.random.default_rng(1))


def test_regressions_give_back_the_loadings_that_made_the_counts():
    data, scores, offset, loadings = _simulated()
    start, theta = negative_binomial_start(_start(), data, scores[data.train], data.train)
    np.testing.assert_allclose(start.loadings[:-1], loadings[:-1], atol=0.12)
    np.testing.assert_allclose(start.offset[:-1], offset[:-1], atol=0.12)
    assert np.median(theta[:-1]) == pytest.approx(2, rel=0.15)
    # what a regression has no say in is the start's
    before = _start()
    np.testing.assert_array_equal(start.scores, before.scores)
    np.testing.assert_array_equal(start.posterior_variance, before.posterior_variance)


def test_a_gene_is_at_the_maximum_of_its_own_likelihood():
    data, scores, _, _ = _simulated(n_cells=1500)
    chosen = scores[data.train]
    start, theta = negative_binomial_start(_start(), data, chosen, data.train)
    counts, library = data.counts.values[data.train], data.counts.library[data.train]
    for gene in range(3):

        def misfit(point: np.ndarray, gene: int = gene) -> float:
            mean = library * np.exp(point[0] + chosen @ point[1:])
            size = theta[gene]
            return -float(scipy.stats.nbinom.logpmf(counts[:, gene], size, size / (size + mean)).sum())

        best = scipy.optimize.minimize(misfit, [-5, 0, 0], method="Nelder-Mead", options={"maxiter": 2000}).x
        found = np.r_[start.offset[gene], start.loadings[gene]]
        # but for the ridge, a hundredth of an average gene's information
        np.testing.assert_allclose(found, best, atol=0.03)


def test_genes_without_a_count_have_no_loadings_and_a_finite_offset():
    data, scores, _, _ = _simulated(n_cells=300)
    start, theta = negative_binomial_start(_start(), data, scores[data.train], data.train)
    assert not start.loadings[-1].any()
    assert np.isfinite(start.offset).all()
    assert start.offset[-1] < start.offset[:-1].min()
    assert np.isfinite(theta).all()
    assert (theta > 0).all()


def test_dispersion_of_poisson_counts_is_next_to_none():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (4000, N_GENES)).astype(np.float32)
    data = TrainingData(counts, np.arange(4000), np.arange(0), Counts(counts, np.full(4000, 1000.0)))
    _, theta = negative_binomial_start(_start(), data, rng.standard_normal((4000, N_FACTORS)), data.train)
    assert theta.min() > 20


def test_sparse_counts_blocks_and_rows_in_another_place_change_nothing(monkeypatch):
    data, scores, _, _ = _simulated(n_cells=400)
    expected, theta = negative_binomial_start(_start(), data, scores[data.train], data.train)
    monkeypatch.setattr("latentree.models.nb_start._BLOCK", 5)
    order = np.random.default_rng(3).permutation(400)
    counts = Counts(sparse.csr_matrix(data.counts.values[order]), data.counts.library[order])
    moved = TrainingData(data.x[order], np.argsort(order)[data.train], np.arange(0), counts)
    found, its_theta = negative_binomial_start(_start(), moved, scores[data.train], moved.train)
    # the ridge of a block is that of its own average gene
    np.testing.assert_allclose(found.loadings, expected.loadings, atol=0.02)
    np.testing.assert_allclose(its_theta, theta, rtol=0.05)


def test_a_random_start_keeps_the_direction_of_its_weights():
    data, scores, _, _ = _simulated(n_cells=300)
    start, _ = negative_binomial_start(_start(), data, np.zeros_like(scores)[data.train], data.train)
    np.testing.assert_allclose(start.loadings, 0.3 * _start().loadings)
    rates = np.log(data.counts.values[data.train].sum(0)[:-1] / data.counts.library[data.train].sum())
    np.testing.assert_allclose(start.offset[:-1], rates, atol=0.12)
