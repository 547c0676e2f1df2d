"""Several small fits as one batched model: each like the fit alone, each of its own cells."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from api_fixture import example_atlas

import latentree as lt
from latentree.errors import InputError

N_CELLS, N_GENES, N_FACTORS = 200, 14, 2
SETTINGS = {
    "decoder": "linear",
    "start": "varimax",
    "encoder_mean": "linear",
    "lambda0": 0.4,
    "lambda1": 0.1,
    "max_epochs": 60,
    "batch_size": 40,
    "learning_rate": 1e-2,
}
COUNTS = {**SETTINGS, "likelihood": "nb", "input": "sqrt", "lambda1": 0.03}


def _simulated(seed: int, n_cells: int = N_CELLS) -> ad.AnnData:
    """Two factors of seven genes each, which genes being the seed's; a quarter validates."""
    rng = np.random.default_rng(seed)
    loadings = np.zeros((N_GENES, N_FACTORS))
    for place, gene in enumerate(rng.permutation(N_GENES)):
        loadings[gene, place % 2] = rng.uniform(1, 2)
    z = rng.standard_normal((n_cells, N_FACTORS))
    x = z @ loadings.T + 0.5 * rng.standard_normal((n_cells, N_GENES)) + 3
    obs = pd.DataFrame({"split": np.resize(["train"] * 3 + ["validation"], n_cells)})
    obs.index = [f"cell{i}" for i in range(n_cells)]
    adata = ad.AnnData(x.astype(np.float32), obs=obs)
    adata.uns["truth"] = loadings
    return adata


def _counted(seed: int) -> ad.AnnData:
    adata = _simulated(seed)
    rng = np.random.default_rng(seed)
    counts = rng.poisson(np.exp(0.4 * adata.X)).astype(np.float32)
    library = counts.sum(1) + 100.0
    adata.X = np.log1p(counts / library[:, None] * 1e4).astype(np.float32)
    adata.layers["counts"], adata.obs["library_size"] = counts, library
    adata.uns["latentree"] = {"scale": "log1p_cp10k"}
    return adata


def _stack(adatas: list[ad.AnnData], settings: dict[str, object], **more: object) -> list[lt.Fit]:
    return lt.fit_stack(adatas, "sparse_vae", N_FACTORS, settings=settings, **more)  # type: ignore[arg-type]


def _alone(adata: ad.AnnData, settings: dict[str, object], seed: int = 0) -> lt.Fit:
    return lt.fit(adata, "sparse_vae", N_FACTORS, seed, settings, progress=False)


def _agreement(one: np.ndarray, other: np.ndarray) -> tuple[float, np.ndarray]:
    """Lowest |correlation| of matched factors, and the places in ``other`` of one's factors."""
    correlation = np.abs(np.corrcoef(one.T, other.T)[:N_FACTORS, N_FACTORS:])
    rows, places = scipy.optimize.linear_sum_assignment(-correlation)
    return float(correlation[rows, places].min()), places


@pytest.fixture(scope="module")
def stack() -> list[lt.Fit]:
    return _stack([_simulated(seed) for seed in range(4)], SETTINGS, seeds=[0, 1, 2, 3])


def test_each_fit_of_a_stack_is_close_to_the_fit_alone(stack):
    for seed, fit in enumerate(stack):
        alone = _alone(_simulated(seed), SETTINGS, seed)
        agreement, places = _agreement(alone.loadings.to_numpy(), fit.loadings.to_numpy())
        assert agreement > 0.99
        assert _agreement(alone.latents, fit.latents)[0] > 0.99
        support = alone.loadings.to_numpy() != 0, fit.loadings.to_numpy()[:, places] != 0
        assert (support[0] != support[1]).sum() <= 1
        # the tables that go by name
        assert list(fit.factors.obs_names) == list(alone.factors.obs_names)
        assert fit.summary["r2"]["validation"] == pytest.approx(alone.summary["r2"]["validation"], abs=0.01)
        assert fit.summary["resolved"] == alone.summary["resolved"]
        assert (fit.summary["seed"], fit.summary["fits_in_stack"]) == (seed, 4)


def test_each_fit_is_of_its_own_cells(stack):
    for seed, fit in enumerate(stack):
        truth = _simulated(seed).uns["truth"]
        agreement, places = _agreement(truth, fit.loadings.to_numpy())
        assert agreement > 0.97
        assert ((fit.loadings.to_numpy()[:, places] != 0) != (truth != 0)).sum() <= 2
    supports = {(fit.loadings.to_numpy() != 0).tobytes() for fit in stack}
    assert len(supports) == 4


def test_a_stack_gives_the_same_bits_each_time(stack):
    again = _stack([_simulated(seed) for seed in range(4)], SETTINGS, seeds=[0, 1, 2, 3])
    for one, other in zip(stack, again, strict=True):
        for name, value in one.model.state().items():
            np.testing.assert_array_equal(value, other.model.state()[name], err_msg=name)
        np.testing.assert_array_equal(one.latents, other.latents)


def test_seeds_of_the_same_cells_differ_and_agree():
    adata = _simulated(0)
    settings = {**SETTINGS, "start": "random", "encoder_mean": "mlp", "max_epochs": 20}
    one, other = _stack([adata, adata], settings, seeds=[0, 1])
    assert not np.allclose(one.latents, other.latents, atol=1e-2)
    one, other = _stack([adata, adata], {**SETTINGS, "decoder": "mlp", "max_epochs": 30})
    assert _agreement(one.latents, other.latents)[0] > 0.99


@pytest.mark.parametrize("decoder", ["linear", "additive", "mlp"])
def test_fits_of_counts_can_be_stacked(decoder):
    settings = {**COUNTS, "decoder": decoder, "max_epochs": 20}
    fits = _stack([_counted(seed) for seed in range(2)], settings)
    for seed, fit in enumerate(fits):
        alone = _alone(_counted(seed), settings)
        assert _agreement(alone.latents, fit.latents)[0] > 0.97
        assert fit.summary["r2"]["train"] == pytest.approx(alone.summary["r2"]["train"], abs=0.03)


def test_fits_that_are_decided_differently_run_apart_and_come_back_in_order():
    # counts behind the second only, so it alone is nb
    adatas = [_simulated(0), _counted(1), _simulated(2)]
    settings = {key: value for key, value in SETTINGS.items() if key not in ("decoder", "lambda1")}
    fits = _stack(adatas, {**settings, "max_epochs": 20})
    assert [fit.summary["resolved"]["likelihood"] for fit in fits] == ["gaussian", "nb", "gaussian"]
    for seed, fit in enumerate(fits):
        assert _agreement(adatas[seed].uns["truth"], fit.loadings.to_numpy())[0] > 0.9


def test_a_fit_of_a_stack_is_saved_loaded_and_projected(stack, tmp_path):
    stack[2].save(tmp_path / "fit")
    again = lt.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.latents, stack[2].latents)
    projected = lt.project(again, _simulated(2))
    np.testing.assert_allclose(projected.obsm["X_sparse_vae"], again.latents, atol=1e-5)


def test_what_cannot_be_stacked_is_refused():
    small, large = _simulated(0), _simulated(0, n_cells=204)
    with pytest.raises(InputError, match=r"adatas: differ in their numbers of genes"):
        _stack([small, large], SETTINGS)
    with pytest.raises(InputError, match=r"adatas: differ in their numbers of genes"):
        _stack([small, small[:, :10].copy()], SETTINGS)
    with pytest.raises(InputError, match=r"seeds: 3 seeds were given for 2 data sets"):
        _stack([small, small], SETTINGS, seeds=[0, 1, 2])
    with pytest.raises(InputError, match=r"seeds: 0 seeds were given for 0 data sets"):
        _stack([], SETTINGS)
    with pytest.raises(InputError, match=r"model: 'pca' cannot be stacked"):
        lt.fit_stack([small], "pca")
    with pytest.raises(InputError, match=r"n_factors: 15 factors .* 14 modelled genes"):
        lt.fit_stack([small], n_factors=15)
    for name, wrong in (("n_factors", 0), ("threads", 0)):
        with pytest.raises(InputError, match=rf"{name}: 0 is no whole number >= 1"):
            lt.fit_stack([small], **{name: wrong})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"seeds: -1 is no whole number >= 0"):
        lt.fit_stack([small], seeds=[-1])


def test_atlases_are_stacked_as_they_are():
    atlas = example_atlas()
    [fit] = lt.fit_stack([atlas], n_factors=3, settings={"max_epochs": 2})
    assert fit.factors.shape == (150, 25)
    assert {"train", "validation", "test"} == set(fit.summary["r2"])
