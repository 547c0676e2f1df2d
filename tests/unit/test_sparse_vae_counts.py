"""The Sparse VAE on counts: its fits on known structure, libraries, the same bits again, saved and loaded."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy import sparse

import latentree as lt
from latentree.errors import InputError
from latentree.models.base import FitReport, RunOptions
from latentree.models.scaling import Counts, TrainingData
from latentree.models.sparse_vae import SparseVAEModel
from latentree.models.sparse_vae_module import SparseVAEModule
from latentree.sparse_vae_settings import SparseVAESettings

N_CELLS, N_GENES, N_FACTORS = 500, 30, 3
QUICK = {
    "likelihood": "nb",
    "input": "sqrt",
    "decoder": "linear",
    "start": "varimax",
    "encoder_mean": "linear",
    "lambda0": 0.4,
    "lambda1": 0.03,
    "max_epochs": 40,
    "batch_size": 100,
    "learning_rate": 1e-2,
}


def simulated(seed: int = 0) -> tuple[TrainingData, np.ndarray, np.ndarray]:
    """Three factors with eight genes each, five genes of noise, one without counts; libraries vary 5-fold."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((N_CELLS, N_FACTORS))
    loadings = np.zeros((N_GENES, N_FACTORS))
    for gene in range(24):
        loadings[gene, gene // 8] = 0.5 + gene % 8 / 10
    rates = np.exp(rng.uniform(-6.5, -5.5, N_GENES) + z @ loadings.T)
    rates[:, -1] = 0
    library = rng.uniform(1000, 5000, N_CELLS).round()
    means = library[:, None] * rates
    counts = rng.poisson(means * rng.gamma(4, 1 / 4, means.shape)).astype(np.float32)
    x = np.log1p(counts / library[:, None] * 1e4).astype(np.float32)
    rows = np.arange(N_CELLS)
    return TrainingData(x, rows[:400], rows[400:], Counts(counts, library)), z, loadings != 0


def fitted(
    settings: dict[str, object] | None = None,
    data: TrainingData | None = None,
    seed: int = 0,
    options: RunOptions | None = None,
) -> tuple[SparseVAEModel, FitReport]:
    model = SparseVAEModel(SparseVAESettings.model_validate({**QUICK, **(settings or {})}), N_FACTORS)
    report = model.fit(simulated()[0] if data is None else data, seed, options or RunOptions())
    return model, report


@pytest.fixture(scope="module")
def nb() -> tuple[SparseVAEModel, FitReport]:
    return fitted()


def _matched(latents: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each true factor the best |correlation| and the fitted factor that has it."""
    correlation = np.abs(np.corrcoef(truth.T, latents.T)[:N_FACTORS, N_FACTORS:])
    return correlation.max(1), correlation.argmax(1)


def test_a_fit_of_counts_finds_factors_and_support(nb):
    model, report = nb
    data, z, truth = simulated()
    correlation, matched = _matched(model.transform(data.x), z)
    assert (correlation > 0.9).all()
    assert len(set(matched)) == 3
    assert ((model.loadings()[:, matched] != 0) != truth).sum() <= 3
    assert report.history[-1]["validation_loss"] < report.history[0]["validation_loss"]
    assert min(model.diagnostics().n_anchors) >= 6


def test_loadings_are_log_fold_changes_per_unit(nb):
    model, _ = nb
    data, z, truth = simulated()
    latents = model.transform(data.x)
    _, matched = _matched(latents, z)
    expected = np.zeros(truth.shape)
    for gene in range(24):
        expected[gene, gene // 8] = 0.5 + gene % 8 / 10
    # the latents' unit is the prior's, of which posterior means have a part
    found = np.abs(model.loadings()[:, matched])
    own = truth.any(1)
    assert np.corrcoef(found[own].ravel(), expected[own].ravel())[0, 1] > 0.97
    ratio = found[truth] / expected[truth]
    assert 0.8 < np.median(ratio) < 1.25
    shift = np.zeros(N_FACTORS, dtype=np.float32)
    shift[matched[0]] = 0.5
    change = model.decode(latents + shift) - model.decode(latents)
    np.testing.assert_allclose(change.mean(0), 0.5 * model.loadings()[:, matched[0]], atol=1e-4)


def test_dispersions_are_those_of_the_counts(nb):
    theta = nb[0].module.likelihood.parameter[0].exp().detach().numpy()
    assert np.median(theta[:24]) == pytest.approx(4, rel=0.3)


def test_reconstruction_is_on_the_scale_of_x_and_beats_the_mean_and_fits_the_noise(nb):
    model, _ = nb
    data, _, truth = simulated()
    unseen = data.x[data.validation]
    given_back = model.reconstruct(model.transform(unseen))
    assert given_back.dtype == np.float32
    error = ((unseen - given_back) ** 2).mean(0)
    spread = ((unseen - data.x[data.train].mean(0)) ** 2).mean(0)
    informed = truth.any(1)
    assert error[informed].sum() < 0.7 * spread[informed].sum()
    assert (error[24:29] < 1.1 * spread[24:29]).all()
    np.testing.assert_allclose(given_back[:, -1], 0, atol=1e-4)
    # a line through the training cells, so no level is missed
    there = model.reconstruct(model.transform(data.x[data.train]))
    np.testing.assert_allclose(there.mean(0), data.x[data.train].mean(0), atol=0.02)


def test_the_validation_loss_is_the_density_of_the_counts_that_were_held_out(nb):
    model, report = nb
    data, _, _ = simulated()
    latents = model.transform(data.x[data.validation])
    means = data.counts.library[data.validation, None] * np.exp(model.decode(latents).astype(np.float64))
    theta = model.module.likelihood.parameter[0].exp().detach().numpy().astype(np.float64)
    held_out = data.counts.values[data.validation]
    log_density = scipy.stats.nbinom.logpmf(held_out, theta, theta / (theta + means)).sum(1).mean()
    with_prior = report.history[-1]["validation_loss"]
    # the rest is the divergence from the prior, some nats for each factor
    assert 0 < with_prior + log_density < 3 * N_FACTORS


def test_frozen_numbers(nb):
    model, report = nb
    assert report.history[-1]["loss"] == pytest.approx(84.881, rel=2e-3)
    assert np.abs(model.loadings()).sum() == pytest.approx(16.741, rel=2e-3)


# -- libraries


def test_latents_do_not_depend_on_what_was_counted_beside(nb):
    model, _ = nb
    data, _, _ = simulated()
    # the same cells sequenced ten times as deep, all else alike: x is the same
    deeper = replace(data, counts=Counts(data.counts.values, 10 * data.counts.library))
    again, _ = fitted(data=deeper)
    np.testing.assert_allclose(again.transform(data.x), model.transform(data.x), atol=5e-3)
    np.testing.assert_allclose(again.loadings(), model.loadings(), atol=5e-3)
    # what moves is the offset
    offsets = [m.module.decoder.offset[0, :29].detach().numpy() for m in (model, again)]
    np.testing.assert_allclose(offsets[0] - offsets[1], np.log(10), atol=0.02)


def test_libraries_are_no_factor():
    data, _, _ = simulated()
    model, _ = fitted()
    depth = np.log(data.counts.library)
    latents = model.transform(data.x)
    assert np.abs([np.corrcoef(depth, latent)[0, 1] for latent in latents.T]).max() < 0.25


# -- other decoders, sparse counts


@pytest.mark.parametrize("decoder", ["additive", "mlp"])
def test_other_decoders_fit_counts_too(decoder):
    data, z, truth = simulated()
    model, report = fitted({"decoder": decoder})
    correlation, matched = _matched(model.transform(data.x), z)
    assert (correlation > 0.9).all()
    assert ((model.loadings()[:, matched] != 0) & truth).sum() >= 22
    assert report.history[-1]["validation_loss"] < report.history[0]["validation_loss"]
    assert model.diagnostics().curve_gain == pytest.approx(0, abs=0.1)


def test_sparse_and_dense_counts_give_the_same_fit():
    data, _, _ = simulated()
    csr = TrainingData(
        sparse.csr_matrix(data.x),
        data.train,
        data.validation,
        Counts(sparse.csr_matrix(data.counts.values), data.counts.library),
    )
    loadings = [fitted({"max_epochs": 4}, data=cells)[0].loadings() for cells in (data, csr)]
    np.testing.assert_allclose(loadings[0], loadings[1], atol=1e-4)


def test_a_random_start_finds_the_factors_of_counts_too():
    data, z, _ = simulated()
    model, _ = fitted({"start": "random", "encoder_mean": "mlp", "max_epochs": 100})
    correlation, matched = _matched(model.transform(data.x), z)
    assert (correlation > 0.9).all()
    assert len(set(matched)) == 3


# -- the same bits again


def _arrays(model: SparseVAEModel) -> dict[str, np.ndarray]:
    latents = model.transform(simulated()[0].x)
    return {**model.state(), "latents": latents, "x": model.reconstruct(latents), "W": model.loadings()}


def _assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name


def test_same_seed_same_bits_and_a_model_from_its_state_is_the_same(nb):
    model, _ = nb
    _assert_same(_arrays(model), _arrays(fitted()[0]))
    again = SparseVAEModel.from_state(model.settings, N_FACTORS, model.state())
    _assert_same(_arrays(model), _arrays(again))
    assert not np.array_equal(model.loadings(), fitted(seed=1)[0].loadings())


@pytest.mark.parametrize("interrupted_at", [0.26, 0.51, 0.95])
def test_a_fit_that_was_stopped_resumes_to_the_same_bits(nb, tmp_path: Path, monkeypatch, interrupted_at):
    # batches of which there are five: the dispersions' steps do not come out even in an epoch
    options = RunOptions(checkpoint=tmp_path / "checkpoint", checkpoint_key="key")
    settings = {"batch_size": 90}
    original = SparseVAEModule.loss_parts

    def stops(self, batch, generator, progress):
        if progress >= interrupted_at:
            raise KeyboardInterrupt
        return original(self, batch, generator, progress)

    with monkeypatch.context() as patch:
        patch.setattr(SparseVAEModule, "loss_parts", stops)
        with pytest.raises(KeyboardInterrupt):
            fitted(settings, options=options)
    model, report = fitted(settings, options=options)
    # a checkpoint after every tenth of the epochs
    assert report.resumed_from_epoch == int(interrupted_at * 40) // 4 * 4
    _assert_same(_arrays(fitted(settings)[0]), _arrays(model))


# -- through the front door


def _atlas() -> ad.AnnData:
    data, _, _ = simulated()
    split = np.where(np.isin(np.arange(N_CELLS), data.train), "train", "validation")
    obs = pd.DataFrame({"split": split, "library_size": data.counts.library}, dtype=object)
    obs["library_size"] = obs["library_size"].astype(float)
    obs.index = [f"cell{i}" for i in range(N_CELLS)]
    adata = ad.AnnData(sparse.csr_matrix(data.x), obs=obs)
    adata.var_names = [f"GENE{i}" for i in range(N_GENES)]
    adata.layers["counts"] = sparse.csr_matrix(data.counts.values)
    adata.uns["latentree"] = {"scale": "log1p_cp10k"}
    return adata


AUTO = {"max_epochs": 20, "batch_size": 100, "learning_rate": 1e-2}


def test_an_atlas_with_counts_is_fitted_by_them_saved_loaded_and_projected(tmp_path: Path):
    atlas = _atlas()
    fit = lt.fit(atlas, "sparse_vae", N_FACTORS, settings=AUTO, progress=False)
    assert fit.summary["settings"]["likelihood"] == "auto"
    assert fit.summary["resolved"]["likelihood"] == "nb"
    assert 0.2 < fit.summary["r2"]["validation"] < 1
    fit.save(tmp_path / "fit")
    again = lt.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.latents, fit.latents)
    # other cells need no counts, and their own counts are not looked at
    bare = ad.AnnData(atlas.X, var=atlas.var)
    bare.uns["latentree"] = {"scale": "log1p_cp10k"}
    np.testing.assert_allclose(
        lt.project(again, bare).obsm["X_sparse_vae"], fit.latents, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("lacking", ["layer", "library", "scale"])
def test_counts_that_are_asked_for_and_not_there_are_an_error(lacking):
    atlas = _atlas()
    if lacking == "layer":
        del atlas.layers["counts"]
    elif lacking == "library":
        del atlas.obs["library_size"]
    else:
        atlas.uns["latentree"] = {"scale": "as_found"}
    with pytest.raises(InputError, match="likelihood: nb: there are no counts behind these values"):
        lt.fit(atlas, "sparse_vae", 2, settings={"likelihood": "nb"}, progress=False)
    fit = lt.fit(atlas, "sparse_vae", 2, settings={"max_epochs": 1}, progress=False)
    assert fit.summary["resolved"]["likelihood"] == "gaussian"


def test_cells_without_a_library_are_named():
    atlas = _atlas()
    atlas.obs.iloc[:2, list(atlas.obs).index("library_size")] = [0.0, np.nan]
    with pytest.raises(InputError, match=r'obs\["library_size"\]: is not above 0 for 2 of 500 cells'):
        lt.fit(atlas, "sparse_vae", 2, settings={"max_epochs": 1}, progress=False)
