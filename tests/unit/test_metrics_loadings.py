"""Hoyer sparsity, zeros and held-out R^2 against closed forms."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import r2_score

from latentree.metrics import active_gene_counts, held_out_r2, hoyer, squared_errors, zero_share


@pytest.mark.parametrize("n_active", [1, 4, 25, 100])
def test_hoyer_of_equal_loadings_on_some_genes(n_active):
    w = np.zeros(100)
    w[:n_active] = -3.0
    assert hoyer(w) == pytest.approx((10 - np.sqrt(n_active)) / 9)


def test_hoyer_is_the_mean_over_factors_that_have_loadings():
    w = np.zeros((100, 3))
    w[0, 0], w[:, 1] = 5.0, 1.0
    assert hoyer(w) == pytest.approx(0.5)
    assert np.isnan(hoyer(np.zeros((100, 2))))
    assert np.isnan(hoyer(np.ones((1, 2))))


@given(arrays(np.float64, (7, 2), elements=st.floats(-10, 10)), st.floats(1e-30, 1e30))
def test_hoyer_lies_in_0_1_and_has_no_scale(w, scale):
    w[0] += 20
    assert 0 <= hoyer(w) <= 1
    assert hoyer(w * scale) == pytest.approx(hoyer(w), abs=1e-9)


def test_zeros_are_exact_ones():
    w = np.array([[0.0, 1e-30], [2.0, -0.0], [0.0, 1.0], [0.0, 3.0]])
    assert zero_share(w) == 4 / 8
    assert active_gene_counts(w).tolist() == [1, 3]


@pytest.fixture
def values() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, size=(40, 6)).astype(np.float32)
    return x, x + rng.normal(scale=0.5, size=x.shape).astype(np.float32)


def test_r2_equals_scikit_learns_where_the_centre_is_the_cells_own_mean(values):
    x, fitted = values
    oracle = r2_score(x, fitted, multioutput="variance_weighted")
    assert held_out_r2(x, fitted, x.mean(axis=0)) == pytest.approx(oracle, rel=1e-5)
    # genes with the same scale have the same weight: the plain mean over genes
    scaled = r2_score(x, fitted, multioutput="uniform_average")
    assert held_out_r2(x, fitted, x.mean(axis=0), x.std(axis=0)) == pytest.approx(scaled, rel=1e-5)


def test_r2_of_the_training_mean_is_0_and_of_the_cells_themselves_1(values):
    x, _ = values
    centre = np.full(6, 0.7)
    assert held_out_r2(x, np.tile(centre, (40, 1)), centre) == 0
    assert held_out_r2(x, x, centre) == 1
    assert np.isnan(held_out_r2(np.ones((3, 2)), np.zeros((3, 2)), np.ones(2)))


def test_a_gene_that_is_constant_in_training_does_not_count_when_scaled(values):
    x, fitted = values
    scale = x.std(axis=0)
    scale[2] = 0
    kept = [0, 1, 3, 4, 5]
    centre = x.mean(axis=0)
    expected = held_out_r2(x[:, kept], fitted[:, kept], centre[kept], scale[kept])
    assert held_out_r2(x, fitted, centre, scale) == pytest.approx(expected)


def test_errors_add_up_over_chunks_and_sparse_equals_dense(values):
    x, fitted = values
    centre = x.mean(axis=0)
    parts = [
        squared_errors(sp.csr_matrix(x[rows]), fitted[rows], centre) for rows in (slice(0, 13), slice(13, 40))
    ]
    assert np.sum(parts, axis=0) == pytest.approx(squared_errors(x, fitted, centre))
