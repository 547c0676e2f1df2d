"""The Sparse VAE with the likelihoods that are not its own: Laplace and Bernoulli."""

import numpy as np
import pytest
from anndata import AnnData
from api_fixture import example_atlas

import latentree as lt
from latentree.errors import InputError
from latentree.models.scaling import InputScaling, TrainingData
from latentree.models.vae_likelihood import log_odds_slopes, make_likelihood, start_likelihood

QUICK = {"max_epochs": 8, "decoder": "linear"}


def _switches(n_cells: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values of 0 and 1 of twelve genes, six for each of two factors, and the factors."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n_cells, 2))
    odds = np.repeat(z * [2.0, 1.0], 6, axis=1) + np.tile([-1.0, 0.0, 1.0], 4)
    return (rng.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(np.float32), z


def test_log_odds_start_near_those_of_the_truth():
    x, z = _switches(5000)
    data = TrainingData(x, np.arange(4000), np.arange(4000, 5000))
    scaling = InputScaling.fit(data, "log", 1.0)
    likelihood = make_likelihood("bernoulli", 12)
    level = start_likelihood(likelihood, scaling, data)
    np.testing.assert_allclose(1 / (1 + np.exp(-level)), x[:4000].mean(0), atol=1e-5)
    slopes = log_odds_slopes(likelihood, 0, level, z[:4000], scaling.apply(x[:4000]))
    # the average slope of the logistic curve is below that at the middle
    assert (slopes[:6, 0] > 1).all()
    assert (slopes[:6, 0] < 2.1).all()
    assert np.abs(slopes[:6, 1]).max() < 0.2
    assert np.abs(slopes[6:, 0]).max() < 0.2


@pytest.mark.parametrize("decoder", ["linear", "additive", "mlp"])
def test_switches_are_told_by_their_factors(decoder, tmp_path):
    x, z = _switches()
    adata = AnnData(x)
    settings = {"likelihood": "bernoulli", "decoder": decoder, "max_epochs": 20}
    fit = lt.fit(adata, "sparse_vae", 2, settings=settings, progress=False)
    assert lt.metrics.mcc(z, fit.latents) > 0.7
    reconstruction = fit.model.reconstruct(fit.model.transform(x))
    assert reconstruction.min() > -0.3
    assert reconstruction.max() < 1.3
    assert np.mean((x - reconstruction) ** 2) < 0.9 * x.var(0).mean()
    # at most the entropy of coins, and better than knowing the genes' shares alone
    share = x.mean(0)
    alone = (share * np.log(share) + (1 - share) * np.log(1 - share)).sum()
    assert alone < fit.summary["log_likelihood"]["validation"] < 0
    fit.save(tmp_path)
    again = lt.project(lt.load(tmp_path), adata)
    np.testing.assert_array_equal(again.obsm["X_sparse_vae"], fit.latents)


@pytest.mark.parametrize("likelihood", ["laplace", "bernoulli"])
def test_expression_is_read_back_on_its_own_scale(likelihood):
    atlas = example_atlas()
    atlas.obs["run"] = np.resize(["a", "b"], atlas.n_obs)
    settings = {**QUICK, "likelihood": likelihood, "batch": "run"}
    fit = lt.fit(atlas, "sparse_vae", 3, settings=settings, progress=False)
    assert fit.summary["r2"]["train"] > 0.02
    assert np.isfinite(fit.summary["log_likelihood"]["test"])
    assert np.isfinite(fit.loadings.to_numpy()).all()
    again = lt.fit(atlas, "sparse_vae", 3, settings=settings, progress=False)
    np.testing.assert_array_equal(again.latents, fit.latents)


def test_negative_values_are_no_switches():
    with pytest.raises(InputError, match="values are negative"):
        lt.fit(
            AnnData(_switches()[0] - 1), "sparse_vae", 2, settings={"likelihood": "bernoulli"}, progress=False
        )
