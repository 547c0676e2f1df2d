"""Synthetic data: their masks and moments against independent reckonings."""

import numpy as np
import pytest

from latentree.synthetic import TRUTHS, SyntheticData, paper_data


def without_factor(data: SyntheticData, k: int) -> np.ndarray:
    """Share of each feature's signal, (n_genes,), that neighbours in the other factors explain."""
    others = np.delete(data.factors, k, axis=1)
    order = np.argsort(((others[:, None] - others[None]) ** 2).sum(-1), axis=1)[:, 1:4]
    misfit = ((data.signal - data.signal[order].mean(1)) ** 2).mean(0)
    return 1 - misfit / np.maximum(data.signal.var(0), 1e-9)


@pytest.mark.parametrize("rho", [0, 0.4, 0.8])
def test_paper_data_are_the_papers_formulas(rho):
    data = paper_data(rho, np.random.default_rng(0), n_cells=20_000)
    first, second = data.factors.T
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(rho, abs=0.03)
    assert np.allclose(data.signal[:, 2], 3 * first**2, atol=1e-4)
    assert np.allclose(data.signal[:, 5], 6 * np.sin(second), atol=1e-4)
    assert np.allclose(data.signal[:, 6], 7 * first * second, atol=1e-4)
    assert (data.values - data.signal).std() == pytest.approx(0.5, abs=0.01)
    assert data.noise_floor == pytest.approx(0.25, abs=0.01)
    assert data.mask.sum(0).tolist() == [4, 4]
    assert data.mask[6].all()


@pytest.mark.parametrize("name", TRUTHS)
def test_truths_keep_their_promises(name):
    data = TRUTHS[name](np.random.default_rng(1))
    n_genes, n_factors = data.mask.shape
    assert data.name == name
    assert data.values.dtype == data.factors.dtype == np.float32
    assert data.values.shape == (len(data.factors), n_genes)
    assert 4 <= n_factors <= 8
    assert 30 <= n_genes <= 200
    anchors = data.mask & (data.mask.sum(1, keepdims=True) == 1)
    assert (anchors.sum(0) >= 2).all()
    silent = ~data.mask.any(1)
    assert silent.mean() == pytest.approx(0.2, abs=0.02)
    assert not data.signal[:, silent].any()
    assert np.allclose(data.signal[:, ~silent].std(0), 1, atol=1e-3)
    correlation = np.corrcoef(data.factors.T) - np.eye(n_factors)
    assert np.abs(correlation).max() < 0.7


def test_the_mask_names_the_factors_that_matter():
    """An anchor of factor k cannot be told from the other factors; a feature without k can."""
    data = TRUTHS["curves"](np.random.default_rng(2))
    alone = data.mask.sum(1) == 1
    for k in range(data.mask.shape[1]):
        explained = without_factor(data, k)
        assert explained[alone & data.mask[:, k]].max() < 0.5
        assert explained[alone & ~data.mask[:, k]].min() > 0.5


def test_the_same_generator_gives_the_same_data():
    first, second = (TRUTHS["network"](np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.values, second.values)
    assert np.array_equal(first.mask, second.mask)
