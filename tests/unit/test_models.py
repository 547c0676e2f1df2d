"""Scaling, every model's interface, PCA, ICA and NMF against oracles from elsewhere; small, seeded data."""

import warnings

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from models_fixture import MODELS, N_CELLS, N_FACTORS, N_GENES, as_data, fitted, log_counts
from scipy import sparse

from latentree.errors import InputError
from latentree.model_settings import MODEL_SETTINGS
from latentree.models import model_class, pca
from latentree.models.scaling import InputScaling, row_chunks

# scaling


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["log", "sqrt"]),
    power=st.floats(0, 1),
    centred=st.booleans(),
)
def test_scaling_is_the_formula_and_inverts(seed: int, kind: str, power: float, centred: bool) -> None:
    x = log_counts(seed)
    x[:, 0] = 0.7  # a gene without variance
    data = as_data(x)
    scaling = InputScaling.fit(data, kind, power, centred=centred)  # type: ignore[arg-type]
    values = x.astype(np.float64) if kind == "log" else np.sqrt(np.expm1(x.astype(np.float64)))
    sd = values[data.train].std(axis=0)
    varies = sd > 1e-8  # in some draws other genes have no count at all
    assert not varies[0]
    sd[~varies] = 1
    centre = values[data.train].mean(axis=0) if centred else 0
    np.testing.assert_allclose(scaling.apply(x), (values - centre) / sd**power, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scaling.invert(scaling.apply(x)), x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scaling.scaled_sd[varies], (sd ** (1 - power))[varies], rtol=1e-3)


@pytest.mark.parametrize("kind", ["log", "sqrt"])
def test_scaling_of_sparse_cells_equals_that_of_dense_ones(kind: str) -> None:
    x = log_counts()
    dense = InputScaling.fit(as_data(x), kind, 0.5)  # type: ignore[arg-type]
    csr = sparse.csr_matrix(x)
    scaling = InputScaling.fit(as_data(csr), kind, 0.5)  # type: ignore[arg-type]
    np.testing.assert_allclose(scaling.centre, dense.centre, rtol=1e-5)
    np.testing.assert_allclose(scaling.scale, dense.scale, rtol=1e-5)
    np.testing.assert_allclose(scaling.apply(csr), dense.apply(x), rtol=1e-4, atol=1e-5)
    uncentred = scaling.apply_uncentred(csr)
    assert sparse.issparse(uncentred)
    assert uncentred.nnz == csr.nnz
    np.testing.assert_allclose(uncentred.toarray(), dense.apply_uncentred(x), rtol=1e-4, atol=1e-6)


def test_scaling_leaves_its_input_as_it_was() -> None:
    for x in (log_counts(), sparse.csr_matrix(log_counts())):
        before = x.copy()
        scaling = InputScaling.fit(as_data(x), "log", 1.0)
        scaling.apply(x)
        scaling.apply_uncentred(x)
        assert abs(before - x).max() == 0


def test_square_roots_of_negative_values_are_refused() -> None:
    x = log_counts()
    x[0, :2] = -1.5
    with pytest.raises(InputError, match=r"input: sqrt: 2 values are negative \(lowest -1.5\).*input: log"):
        InputScaling.fit(as_data(x), "sqrt", 0.0)


def test_row_chunks_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentree.models.scaling.CHUNK_VALUES", 100)
    chunks = list(row_chunks(23, 30))
    assert np.concatenate([np.arange(23)[rows] for rows in chunks]).tolist() == list(range(23))
    assert max(rows.stop - rows.start for rows in chunks) * 30 <= 100
    assert list(row_chunks(2, 1000)) == [slice(0, 1), slice(1, 2)]


# what holds for every model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["log", "sqrt"])
def test_model_keeps_the_interface_and_comes_back_from_its_state(name: str, kind: str) -> None:
    x = log_counts()
    model = fitted(name, x, input=kind, gene_scaling=0.5)
    latents, loadings = model.transform(x), model.loadings()
    assert latents.shape == (N_CELLS, N_FACTORS)
    assert loadings.shape == (N_GENES, N_FACTORS)
    assert {a.dtype for a in (latents, loadings, model.reconstruct(latents))} == {np.dtype(np.float32)}
    assert model.name == name
    assert model.inclusion() is None
    again = model_class(name).from_state(model.settings, N_FACTORS, model.state())
    np.testing.assert_array_equal(again.transform(x), latents)
    np.testing.assert_array_equal(again.reconstruct(latents), model.reconstruct(latents))
    np.testing.assert_array_equal(again.loadings(), loadings)


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_bits_and_sparse_equals_dense(name: str) -> None:
    x = log_counts()
    first, second = fitted(name, x), fitted(name, x)
    np.testing.assert_array_equal(first.transform(x), second.transform(x))
    np.testing.assert_array_equal(first.loadings(), second.loadings())
    csr = fitted(name, sparse.csr_matrix(x))
    np.testing.assert_allclose(csr.transform(sparse.csr_matrix(x)), first.transform(x), rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("name", MODELS)
def test_a_cell_is_encoded_alike_whatever_comes_with_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = log_counts()
    model = fitted(name, x)
    together = model.transform(x)
    monkeypatch.setattr("latentree.models.scaling.CHUNK_VALUES", 7 * N_GENES)
    np.testing.assert_allclose(model.transform(x), together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.transform(x[5:6]), together[5:6], rtol=1e-4, atol=1e-5)


def test_nmf_solves_each_cell_to_its_own_end() -> None:
    # programs much alike make the descent slow, and a cell of large amounts must not end it for the others
    x = log_counts() + np.float32(2)
    x[7] *= 1000
    model = fitted("nmf", x, n_factors=6)
    together = model.transform(x)
    alone = np.vstack([model.transform(x[i : i + 1]) for i in range(N_CELLS)])
    np.testing.assert_allclose(alone, together, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["pca", "ica", "nmf"])
@pytest.mark.parametrize("kind", ["log", "sqrt"])
def test_loadings_are_the_slope_of_the_mean_at_the_mean(name: str, kind: str) -> None:
    x = log_counts()
    model = fitted(name, x, input=kind, gene_scaling=0.5)
    data = as_data(x)
    if name == "nmf":
        # scikit-learn's amounts of the training cells, not those of transform
        at = model.state()["mean_amounts"].astype(np.float64)
    else:
        at = model.transform(x[data.train]).mean(axis=0, dtype=np.float64)
    step = 1e-3
    for k in range(N_FACTORS):
        up, down = at.copy(), at.copy()
        up[k] += step
        down[k] -= step
        slope = (model.reconstruct(up[None]) - model.reconstruct(down[None]))[0] / (2 * step)
        np.testing.assert_allclose(model.loadings()[:, k], slope, rtol=0.05, atol=2e-3)


@pytest.mark.parametrize("name", MODELS)
def test_more_factors_than_genes_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"n_factors: 16 factors .* {N_GENES} modelled genes"):
        fitted(name, log_counts(), n_factors=16)
    assert fitted(name, log_counts(), n_factors=N_GENES).loadings().shape == (N_GENES, N_GENES)


@pytest.mark.parametrize("name", ["pca", "ica"])
def test_more_axes_than_training_cells_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"n_factors: 9 factors .* 8 training cells"):
        fitted(name, log_counts(n_cells=10), n_factors=9)


@pytest.mark.parametrize("name", sorted(MODEL_SETTINGS))
@pytest.mark.parametrize("value", [0.0, 0.7, 5.3])
def test_cells_that_are_all_alike_are_refused(name: str, value: float) -> None:
    x = np.full((N_CELLS, N_GENES), value, dtype=np.float32)
    x[as_data(x).validation, 0] = 3  # what the fit may not learn from
    for cells in (x, sparse.csr_matrix(x)):
        with pytest.raises(
            InputError, match=rf"all {N_GENES} modelled genes are constant over the 96 training"
        ):
            fitted(name, cells)


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'nfm' is not a model .*nearest: 'nmf'"):
        model_class("nfm")


def test_every_model_with_settings_has_a_class_of_its_name() -> None:
    assert {model_class(name).name for name in MODEL_SETTINGS} == set(MODEL_SETTINGS)


# PCA


@pytest.mark.parametrize("most_genes", [0, 3000], ids=["lanczos", "covariance"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_pca_is_the_svd_of_centred_cells(
    most_genes: int, is_sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pca, "MAX_GENES_FOR_COVARIANCE", most_genes)
    x = log_counts()
    train = as_data(x).train
    model = fitted("pca", sparse.csr_matrix(x) if is_sparse else x)
    centred = (x - x[train].mean(axis=0)).astype(np.float64)
    axes = np.linalg.svd(centred[train], full_matrices=False)[2][:N_FACTORS]
    expected = centred @ axes.T
    correlation = np.sign((expected * model.transform(x)).sum(axis=0))
    np.testing.assert_allclose(model.transform(x), expected * correlation, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.loadings(), axes.T * correlation, rtol=1e-3, atol=1e-4)


# ICA


def test_ica_finds_independent_sources() -> None:
    rng = np.random.default_rng(0)
    sources = np.stack([rng.uniform(-1, 1, 2000), rng.laplace(size=2000), rng.exponential(size=2000)], axis=1)
    x = (sources @ rng.normal(size=(3, N_GENES)) + 0.01 * rng.normal(size=(2000, N_GENES))).astype(np.float32)
    model = fitted("ica", x)
    found = model.transform(x)
    correlation = np.abs(np.corrcoef(sources.T, found.T)[:3, 3:])
    pairs = scipy.optimize.linear_sum_assignment(-correlation)
    assert correlation[pairs].min() > 0.99
    np.testing.assert_allclose(found[as_data(x).train].std(axis=0), 1, rtol=1e-3)
    np.testing.assert_allclose(model.reconstruct(found), x, atol=0.1)


def test_ica_that_does_not_converge_says_so_and_goes_on() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted("ica", log_counts(), max_iter=1, tol=1e-12)
    assert not model.report.converged  # type: ignore[attr-defined]
    assert "did not converge in 1 iterations" in model.report.notes[0]  # type: ignore[attr-defined]
    assert np.isfinite(model.transform(log_counts())).all()


def test_ica_of_cells_without_enough_dimensions_is_refused() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(100, 2)) @ rng.normal(size=(2, N_GENES))).astype(np.float32)
    with pytest.raises(InputError, match=r"n_factors: 3 independent components .* span only 2 dimensions"):
        fitted("ica", x)


# NMF


def test_nmf_amounts_are_the_non_negative_least_squares() -> None:
    x = log_counts()
    model = fitted("nmf", x)
    programs = model.loadings()
    assert programs.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(programs, axis=0), 1, rtol=1e-5)
    expected = np.stack(
        [scipy.optimize.nnls(programs.astype(np.float64), cell)[0] for cell in x.astype(float)]
    )
    np.testing.assert_allclose(model.transform(x), expected, rtol=1e-3, atol=1e-4)


def test_nmf_gives_programs_back_that_made_the_cells() -> None:
    rng = np.random.default_rng(3)
    programs = np.kron(np.eye(3), np.ones((1, 5))) * rng.uniform(1, 2, (3, N_GENES))
    x = (rng.gamma(0.5, 1, (300, 3)) @ programs).astype(np.float32)
    model = fitted("nmf", x, max_iter=2000, tol=1e-8)
    found = model.loadings()
    overlap = found.T @ (programs.T / np.linalg.norm(programs, axis=1))
    pairs = scipy.optimize.linear_sum_assignment(-overlap)
    assert overlap[pairs].min() > 0.999
    assert (found == 0).any()
    assert (found < 1e-3).mean() == pytest.approx(2 / 3)  # the other programs' genes


def test_nmf_refuses_negative_values() -> None:
    x = log_counts()
    x[3, 3] = -2
    for cells in (x, sparse.csr_matrix(x)):
        with pytest.raises(InputError, match=r"model nmf: 1 values are negative \(lowest -2\)"):
            fitted("nmf", cells)


def test_nmf_that_does_not_converge_says_so() -> None:
    model = fitted("nmf", log_counts(), max_iter=2, tol=1e-12)
    assert not model.report.converged  # type: ignore[attr-defined]
    assert "did not converge in 2 iterations" in model.report.notes[0]  # type: ignore[attr-defined]


# numbers that must not drift unnoticed

# mean squared error, mean |latent|, largest |loading|
FROZEN = {
    "pca": (0.136122, 1.18345, 0.403802),
    "ica": (0.136122, 0.806414, 0.703363),
    "nmf": (0.1415, 2.40652, 0.468751),
    "vae": (0.467456, 0.115188, 0.0652871),
    "beta_vae": (0.467513, 0.107499, 0.0611093),
    "vsc": (0.467863, 0.0612985, 0.0502102),
    "oi_vae": (0.445318, 0.141678, 0.809509),
    "dd_vae": (0.467807, 0.128341, 0.064104),
    "intel_vae": (0.467559, 0.0590717, 0.0622945),
}


@pytest.mark.parametrize("name", MODELS)
def test_frozen_numbers(name: str) -> None:
    x = log_counts(seed=7)
    model = fitted(name, x, gene_scaling=0.5)
    latents = model.transform(x)
    error = float(((model.reconstruct(latents) - x) ** 2).mean())
    found = (error, float(np.abs(latents).mean()), float(np.abs(model.loadings()).max()))
    np.testing.assert_allclose(found, FROZEN[name], rtol=2e-3)
