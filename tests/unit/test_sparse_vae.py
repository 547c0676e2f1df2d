"""The Sparse VAE: its fits on known structure, its presets, the same bits again."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from latentree.models.base import FitReport, RunOptions
from latentree.models.scaling import TrainingData
from latentree.models.sparse_vae import SparseVAEModel
from latentree.models.sparse_vae_module import SparseVAEModule
from latentree.sparse_vae_settings import SparseVAESettings

QUICK = {
    "decoder": "mlp",
    "start": "varimax",
    "encoder_mean": "linear",
    "lambda0": 0.4,
    "lambda1": 0.1,
    "max_epochs": 40,
    "batch_size": 64,
    "learning_rate": 1e-2,
}


def simulated(n_cells: int = 300, seed: int = 0) -> tuple[TrainingData, np.ndarray, np.ndarray]:
    """Three correlated factors with six genes each, two shared genes, four noise genes, one constant."""
    rng = np.random.default_rng(seed)
    covariance = np.full((3, 3), 0.3) + 0.7 * np.eye(3)
    z = rng.multivariate_normal(np.zeros(3), covariance, size=n_cells)
    weights = np.zeros((25, 3))
    for gene in range(18):
        weights[gene, gene // 6] = 1 + gene % 6 / 5
    weights[18, :2] = 1, 1
    weights[19, 1:] = 1, -1
    x = z @ weights.T + 0.5 * rng.standard_normal((n_cells, 25)) + 2
    x[:, 24] = 1
    n_train = n_cells * 2 // 3
    rows = np.arange(n_cells)
    return TrainingData(x.astype(np.float32), rows[:n_train], rows[n_train:]), z, weights != 0


def fitted(
    settings: dict[str, object], n_factors: int = 3, seed: int = 0, options: RunOptions | None = None
) -> tuple[SparseVAEModel, FitReport]:
    model = SparseVAEModel(SparseVAESettings.model_validate(settings), n_factors)
    report = model.fit(simulated()[0], seed, options or RunOptions())
    return model, report


@pytest.fixture(scope="module")
def robust() -> tuple[SparseVAEModel, FitReport]:
    return fitted(QUICK)


def _matched(latents: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each true factor the best |correlation| and the fitted factor that has it."""
    n_true = truth.shape[1]
    with np.errstate(invalid="ignore"):
        correlation = np.nan_to_num(np.abs(np.corrcoef(truth.T, latents.T)[:n_true, n_true:]))
    return correlation.max(1), correlation.argmax(1)


# -- fits on known structure


def test_robust_fit_finds_factors_and_support(robust):
    model, report = robust
    data, z, truth = simulated()
    correlation, matched = _matched(model.transform(data.x), z)
    assert (correlation > 0.93).all()
    assert len(set(matched)) == 3
    found = model.loadings()[:, matched] != 0
    assert (found != truth).sum() <= 3
    assert min(model.diagnostics().n_anchors) >= 4
    assert report.notes[0] == "5 of 25 genes depend on no factor"
    # the truth is linear, and the fit says so
    assert "decoder: linear would say nearly the same" in report.notes[1]
    assert model.diagnostics().curve_gain == pytest.approx(0, abs=0.05)


def test_zeros_are_exact_and_everything_else_agrees_with_them(robust):
    model, _ = robust
    weights = model.module.weights[0, ..., 0].detach().numpy()
    zero = weights == 0
    assert 0.5 < zero.mean() < 1
    assert ((model.loadings() == 0) == zero).all()
    inclusion = model.inclusion()
    assert ((inclusion >= 0) & (inclusion <= 1)).all()
    assert inclusion[zero].max() < 0.5
    assert np.median(inclusion[~zero]) > 0.99


def test_a_factor_of_too_few_genes_is_emptied():
    # a factor of its own for the one gene that is nobody's
    data, _, _ = simulated()
    x = np.hstack([data.x[:, :18], 40 * data.x[:, 20:21]])
    model = SparseVAEModel(SparseVAESettings.model_validate({**QUICK, "lambda0": 0.5, "lambda1": 0.2}), 5)
    model.fit(TrainingData(x, data.train, data.validation), 0, RunOptions())
    alive = model.module.alive[0].numpy()
    assert 3 <= alive.sum() < 5
    assert (np.count_nonzero(model.loadings(), axis=0)[alive] >= 2).all()
    assert not model.loadings()[:, ~alive].any()
    latents = model.transform(x)
    assert not latents[:, ~alive].any()
    assert (latents[:, alive].std(0) > 0.3).all()


def test_noise_levels_are_those_of_the_data(robust):
    # in the reference code's objective sigma shrinks by the root of the number of genes
    model, _ = robust
    likelihood = model.module.likelihood
    sigma = (likelihood.parameter.exp() * likelihood.unit)[0].detach().numpy() * model.scaling.scale
    np.testing.assert_allclose(sigma[:18], 0.5, rtol=0.25)


def test_reconstruction_on_cells_that_were_not_seen_is_near_the_noise(robust):
    model, _ = robust
    data, _, _ = simulated()
    unseen = data.x[data.validation]
    error = (unseen - model.reconstruct(model.transform(unseen)))[:, :18]
    assert float((error**2).mean()) < 0.25 * 1.35


def test_loadings_are_the_change_of_the_reconstruction(robust):
    model, _ = robust
    data, _, _ = simulated()
    # near the linear truth, effects measured on all training cells are the mean derivatives
    latents = model.transform(data.x[data.train])
    step = 1e-2
    for factor in np.flatnonzero(model.module.alive[0].numpy()):
        shift = np.zeros(latents.shape[1], dtype=np.float32)
        shift[factor] = step
        change = model.reconstruct(latents + shift) - model.reconstruct(latents - shift)
        np.testing.assert_allclose(model.loadings()[:, factor], change.mean(0) / (2 * step), atol=5e-3)


def test_latents_stay_in_the_span_of_the_principal_components(robust):
    model, _ = robust
    data, _, _ = simulated()
    x = model.scaling.apply(data.x).astype(np.float64)
    train = x[data.train]
    components = np.linalg.eigh(train.T @ train)[1][:, -3:]
    latents = model.transform(data.x)
    coefficients = np.linalg.lstsq(x @ components, latents, rcond=None)[0]
    np.testing.assert_allclose(x @ components @ coefficients, latents, atol=1e-4)


def test_frozen_numbers(robust):
    model, report = robust
    assert report.history[-1]["loss"] == pytest.approx(16.834, rel=2e-3)
    assert np.abs(model.loadings()).sum() == pytest.approx(27.570, rel=2e-3)


def test_curves_are_learned_that_a_linear_decoder_cannot_follow():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((400, 1))
    curves = [z + z**2, 2 * z - 2 * z**2, z + np.abs(z), 3 * np.abs(z)]
    x = np.hstack([5 * z, 6 * z, 7 * z, *curves]) + 0.1 * rng.standard_normal((400, 7))
    data = TrainingData(x.astype(np.float32), np.arange(300), np.arange(300, 400))
    base = {**QUICK, "batch_size": 50, "learning_rate": 2e-2, "decoder_ridge": 0.01}
    base |= {"lambda0": 0.02, "lambda1": 0.01}
    errors, gains = {}, {}
    for decoder, others in (
        ("linear", {}),
        ("additive", {"n_hinges": 5}),
        ("mlp", {}),
        ("mlp", {"residual": False}),
    ):
        name = decoder + str(others)
        model = SparseVAEModel(SparseVAESettings.model_validate({**base, "decoder": decoder, **others}), 1)
        model.fit(data, 0, RunOptions())
        squares = (x - model.reconstruct(model.transform(data.x)))[300:, 3:] ** 2
        errors[name] = squares.mean(0) / x[300:, 3:].var(0)
        gains[name] = model.diagnostics().curve_gain
        assert (model.loadings()[:3, 0] != 0).all()
    linear = errors.pop("linear{}")
    assert gains.pop("linear{}") is None
    # a straight line says nothing of the last gene
    assert linear[3] > 0.9
    for name, error in errors.items():
        assert error.mean() < 0.5 * linear.mean(), name
        assert gains[name] > 0.3, name
    assert errors["additive{'n_hinges': 5}"][3] < 0.15
    assert errors["mlp{}"][3] < 0.5


def test_an_additive_decoders_curves_are_zero_as_a_whole():
    model, _ = fitted({**QUICK, "decoder": "additive", "max_epochs": 100, "lambda0": 0.4, "lambda1": 0.1})
    weights = model.module.weights[0].detach().numpy()
    assert weights.shape == (25, 3, 4)
    zero = (weights == 0).all(-1)
    assert (zero == (weights == 0).any(-1)).all()
    data, z, truth = simulated()
    correlation, matched = _matched(model.transform(data.x), z)
    assert (correlation > 0.93).all()
    assert (~zero[:, matched] != truth).sum() <= 3
    assert ((model.loadings() == 0) == zero).all()


def test_sparse_and_dense_input_give_the_same_fit():
    data, _, _ = simulated()
    x = np.maximum(data.x, 0)
    settings = SparseVAESettings.model_validate({**QUICK, "max_epochs": 5, "decoder": "linear"})
    loadings = []
    for matrix in (x, sparse.csr_matrix(x)):
        model = SparseVAEModel(settings, 3)
        model.fit(TrainingData(matrix, data.train, data.validation), 0, RunOptions())
        loadings.append(model.loadings())
    np.testing.assert_allclose(loadings[0], loadings[1], atol=1e-4)


# -- scales


@pytest.mark.parametrize("gene_scaling", [0.0, 0.5])
def test_with_standardise_the_units_of_a_gene_change_nothing_but_the_start(gene_scaling):
    """Given the same start, gene_scaling moves neither the likelihood nor W."""
    data, _, _ = simulated()
    models = []
    for scaling in (gene_scaling, 1.0):
        settings = {**QUICK, "max_epochs": 1, "gene_scaling": scaling}
        model = SparseVAEModel(SparseVAESettings.model_validate(settings), 3)
        model.fit(data, 0, RunOptions())
        models.append(model)
    units = [m.module.likelihood.unit[0].numpy() * m.scaling.scale for m in models]
    np.testing.assert_allclose(units[0], units[1], rtol=1e-4)
    for model in models:
        x = model.scaling.apply(data.x[data.train]) / model.module.likelihood.unit[0].numpy()
        np.testing.assert_allclose(x[:, :24].std(0), 1, rtol=0.01)


def test_paper_recipe_sees_values_as_they_are():
    model, _ = fitted({"recipe": "paper", "max_epochs": 1})
    assert (model.module.likelihood.unit == 1).all()
    assert (model.scaling.scale == 1).all()


# -- presets


def test_paper_recipe_starts_at_random_weights_and_learns_something():
    model, report = fitted({"recipe": "paper", "max_epochs": 60, "batch_size": 64})
    assert report.history[-1]["reconstruction"] < report.history[0]["reconstruction"]
    weights = model.module.weights[..., 0].detach()
    inclusion = model.module.inclusion
    # the reference's rule: what the spike claims and what is negligible is exactly zero
    assert not ((weights != 0) & (weights.abs() < 1e-2) & (inclusion < 0.5)).any()
    assert torch.equal(model.module.prior.correlation[0], torch.eye(3))
    data, z, _ = simulated()
    assert _matched(model.transform(data.x), z)[0].mean() > 0.5


def test_a_fit_whose_factors_all_die_ends_and_says_so():
    data, _, _ = simulated()
    model, report = fitted({**QUICK, "lambda0": 100, "lambda1": 50})
    assert any("All factors are empty" in note for note in report.notes)
    assert model.diagnostics().n_alive == 0
    latents = model.transform(data.x)
    assert not latents.any()
    assert not model.loadings().any()
    assert np.isfinite(model.inclusion()).all()
    assert all(math.isfinite(row["loss"]) for row in report.history)
    reconstruction = model.reconstruct(latents)
    np.testing.assert_allclose(reconstruction.mean(0), data.x[data.train].mean(0), atol=0.1)


def test_without_proximal_steps_negligible_weights_end_at_zero():
    model, _ = fitted({"recipe": "paper", "max_epochs": 1})
    module = model.module
    with torch.no_grad():
        module.weights.fill_(1.0)
        module.weights[0, :, 1] = 9e-3
        module.weights[0, :4, 2] = 9e-3
        module.inclusion.fill_(0.4)
        module.inclusion[0, :2, 2] = 0.6
    model.finish(module, simulated()[0])
    zero = (module.weights == 0)[0, ..., 0].numpy()
    assert zero[:, 1].all()
    assert zero[:, 2].tolist() == [False, False, True, True] + [False] * 21
    assert not zero[:, 0].any()
    assert module.alive.tolist() == [[True, False, True]]


@pytest.mark.parametrize("refit_fraction", [0.0, 0.2])
def test_early_stopping_waits_for_the_zeros(refit_fraction):
    model, report = fitted({**QUICK, "patience": 2, "refit_fraction": refit_fraction})
    assert report.best_epoch > 40 * max(0.7, 1 - refit_fraction if refit_fraction else 0)
    assert (model.loadings() == 0).mean() > 0.5


def test_an_objective_that_never_changes_may_stop_at_once():
    paper = SparseVAEModel(SparseVAESettings.model_validate({"recipe": "paper"}), 3)
    assert paper.make_module(25, torch.Generator().manual_seed(0)).settles_at == 0


def test_a_given_key_wins_over_the_recipe():
    settings = SparseVAESettings.model_validate({"recipe": "paper", "hidden_decoder": 7})
    assert (settings.hidden_decoder, settings.residual, settings.start) == (7, False, "random")
    with pytest.raises(ValueError, match=r"lambda0 \(0\.1\) must not be below lambda1 \(0\.2\)"):
        SparseVAESettings.model_validate({"lambda0": 0.1, "lambda1": 0.2})
    for settings in (
        {"start": "random", "encoder_mean": "linear"},
        {"recipe": "paper", "encoder_mean": "linear"},
    ):
        with pytest.raises(ValueError, match="no factor scores"):
            SparseVAESettings.model_validate(settings)


# -- the same bits again


def _arrays(model: SparseVAEModel) -> dict[str, np.ndarray]:
    data, _, _ = simulated()
    latents = model.transform(data.x)
    return {
        **model.state(),
        "latents": latents,
        "reconstruction": model.reconstruct(latents),
        "loadings": model.loadings(),
        "inclusion": model.inclusion(),
    }


def _assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name


def test_same_seed_same_bits_and_other_seed_other_bits(robust):
    model, _ = robust
    again, _ = fitted(QUICK)
    other, _ = fitted(QUICK, seed=1)
    _assert_same(_arrays(model), _arrays(again))
    assert not np.array_equal(model.loadings(), other.loadings())


@pytest.mark.parametrize("interrupted_at", [0.26, 0.55, 0.95])
def test_a_fit_that_was_stopped_resumes_to_the_same_bits(robust, tmp_path: Path, monkeypatch, interrupted_at):
    options = RunOptions(checkpoint=tmp_path / "checkpoint", checkpoint_key="key")
    original = SparseVAEModule.loss_parts

    def stops(self, batch, generator, progress):
        if progress >= interrupted_at:
            raise KeyboardInterrupt
        return original(self, batch, generator, progress)

    with monkeypatch.context() as patch:
        patch.setattr(SparseVAEModule, "loss_parts", stops)
        with pytest.raises(KeyboardInterrupt):
            fitted(QUICK, options=options)
    model, report = fitted(QUICK, options=options)
    # a checkpoint after every tenth of the epochs
    assert report.resumed_from_epoch == int(interrupted_at * 40) // 4 * 4
    _assert_same(_arrays(robust[0]), _arrays(model))


@pytest.mark.parametrize(
    "settings",
    [
        QUICK,
        {"recipe": "paper"},
        {**QUICK, "decoder": "linear", "encoder_mean": "mlp"},
        {**QUICK, "decoder": "additive"},
    ],
)
def test_a_model_from_its_state_is_the_same_model(settings):
    model, _ = fitted({**settings, "max_epochs": 2})
    again = SparseVAEModel.from_state(model.settings, model.n_factors, model.state())
    _assert_same(_arrays(model), _arrays(again))
