"""dd_vae: what its prior and its divergence change in a VAE, and what they do not; small, seeded data."""

import math

import numpy as np
import pytest
import torch
from models_fixture import N_FACTORS, QUICK, as_data, fitted, log_counts

from latentree.batches import Batch
from latentree.errors import InputError
from latentree.model_settings import DDVAESettings
from latentree.models.base import RunOptions
from latentree.models.dd_priors import AnisotropicPrior, ClusterPrior
from latentree.models.dd_vae import DDVAEModel, DDVAEModule
from latentree.models.divergences import kl_to_aggregate, marginal_mmd
from latentree.reproduction.dd_data import pinwheel

_PRIORS = {
    "isotropic": {},
    "anisotropic": {"learn_prior": True},
    "student_t": {"nu": 4.0},
    "clusters": {"n_clusters": 5, "learn_prior": True},
    "sparse": {"gamma": 0.6},
}


def _fitted(x: np.ndarray, **given: object) -> DDVAEModel:
    model = fitted("dd_vae", x, **{**QUICK["vae"], **given})  # type: ignore[arg-type]
    assert isinstance(model, DDVAEModel)
    return model


def _loss(module: DDVAEModule, x: torch.Tensor, progress: float = 1.0) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return module.loss_parts(Batch(x), torch.Generator().manual_seed(0), progress)


def test_the_isotropic_prior_alone_is_the_vae_bit_for_bit() -> None:
    x = log_counts()
    plain = fitted("vae", x, **QUICK["vae"])
    ours = _fitted(x, prior="isotropic")
    assert ours.state().keys() == plain.state().keys()
    for name, array in plain.state().items():
        np.testing.assert_array_equal(ours.state()[name], array)
    np.testing.assert_array_equal(ours.transform(x), plain.transform(x))


@pytest.mark.parametrize("prior", _PRIORS)
def test_every_prior_fits_is_kept_and_draws(prior: str) -> None:
    x = log_counts()
    model = _fitted(x, prior=prior, alpha=2.0, **_PRIORS[prior])
    history = model.report.history  # type: ignore[attr-defined]
    assert np.isfinite([list(row.values()) for row in history]).all()
    assert {"kl", "aggregate"} < set(history[0])
    again = DDVAEModel.from_state(model.settings, N_FACTORS, model.state())
    np.testing.assert_array_equal(again.transform(x), model.transform(x))
    assert again.facts() == model.facts()
    assert np.isfinite(model.generate(5, seed=0)).all()
    data = as_data(x)
    likelihoods = model.log_likelihood(data, data.validation)
    assert likelihoods is not None
    assert np.isfinite(likelihoods).all()


@pytest.mark.parametrize(("prior", "kind"), [("clusters", "kl"), ("sparse", "mmd"), ("clusters", "mmd")])
def test_loss_is_the_papers(prior: str, kind: str) -> None:
    x = log_counts()
    model = _fitted(x, prior=prior, divergence=kind, alpha=7.0, beta=0.5, kl_warmup=0.0, dropout=0.0)
    module = model.module
    module.train()
    scaled = torch.from_numpy(model.scaling.apply(x))
    parts = _loss(module, scaled)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        q = module.posterior(scaled)
        y = module.sample(q, generator)
        log_q = torch.distributions.Normal(q.mean, (0.5 * q.log_var).exp()).log_prob(y).sum(dim=1)
        # as the noise averages to 0, the mean over cells is only near the mean of log q - log p
        kl = (log_q - module.prior.log_density(y)).mean()
        if kind == "kl":
            expected = kl_to_aggregate(module.prior, q.mean, q.log_var, generator)
        else:
            expected = marginal_mmd(module.prior.sample(len(y), generator), y)
    torch.testing.assert_close(parts["aggregate"], 7 * expected)
    assert float(parts["kl"]) == pytest.approx(0.5 * float(kl), abs=0.5 * 4 * math.sqrt(1.5 / len(x)))


def test_validation_loss_is_the_same_whenever_it_is_asked_for() -> None:
    x = log_counts()
    model = _fitted(x, prior="sparse")
    batch = Batch(torch.from_numpy(model.scaling.apply(x)))
    with torch.no_grad():
        first, second = (model.module.validation_parts(batch) for _ in range(2))
        kl = model.module.divergence(model.module.posterior(batch.x), torch.zeros(0)).mean()
    assert first == second
    # of a draw: at the mean, where the spike is, it would be far too small
    assert float(first["kl"]) == float(kl) > 0


def test_the_divergence_is_switched_on_with_kl() -> None:
    x = log_counts()
    module = _fitted(x, prior="sparse", kl_warmup=0.5).module
    module.train()
    parts = [float(_loss(module, torch.from_numpy(x), at)["aggregate"]) for at in (0.0, 0.25, 0.5, 1.0)]
    assert parts == pytest.approx([0, parts[3] / 2, parts[3], parts[3]], rel=1e-5)


def test_the_epochs_last_few_cells_do_not_count_as_all_of_them() -> None:
    x = log_counts()
    model = _fitted(x, prior="sparse", batch_size=32)
    model.module.train()
    scaled = torch.from_numpy(model.scaling.apply(x))
    assert float(_loss(model.module, scaled[:15])["aggregate"]) == 0
    assert float(_loss(model.module, scaled[:16])["aggregate"]) != 0
    # fewer cells than a batch are all there are
    few = _fitted(x[:40], prior="sparse", batch_size=256)
    few.module.train()
    assert few.module.full_batch == 32
    assert float(_loss(few.module, scaled[:20])["aggregate"]) != 0


def test_anisotropic_variances_are_the_leading_principal_ones() -> None:
    x = log_counts()
    model = _fitted(x, prior="anisotropic", mean_variance=2.0, gene_scaling=1.0)
    prior = model.module.prior
    assert isinstance(prior, AnisotropicPrior)
    scaled = model.scaling.apply(x[as_data(x).train]).astype(np.float64)
    singular = np.linalg.svd(scaled - scaled.mean(axis=0), compute_uv=False)[:N_FACTORS] ** 2
    expected = 2 * N_FACTORS * singular / singular.sum()
    np.testing.assert_allclose(model.facts()["by_factor"]["prior_variance"], expected, rtol=1e-3)
    assert expected[0] > expected[1] > expected[2]
    learned = _fitted(x, prior="anisotropic", mean_variance=2.0, gene_scaling=1.0, learn_prior=True)
    found = np.array(learned.facts()["by_factor"]["prior_variance"])
    assert found.mean() == pytest.approx(2, rel=1e-4)
    assert np.abs(found / expected - 1).max() > 1e-3


def test_learned_clusters_move_and_are_told() -> None:
    model = _fitted(log_counts(), prior="clusters", n_clusters=3, learn_prior=True, max_epochs=10)
    facts = model.facts()
    assert sum(facts["prior_weights"]) == pytest.approx(1, rel=1e-5)
    assert np.ptp(facts["prior_weights"]) > 1e-3
    assert not np.allclose(model.state()["module.prior.means"], np.eye(3), atol=1e-3)
    assert facts["alpha"] == 1.0


def test_a_fit_goes_to_the_clusters_of_its_prior() -> None:
    """The paper's pinwheel (Figure 3): without alpha the aggregate leaves the prior."""
    x, _ = pinwheel(np.random.default_rng(0), n_per_arm=50)
    found = {}
    for alpha in (0.0, 3.0):
        settings = DDVAESettings(
            prior="clusters", alpha=alpha, beta=0.0, batch_size=160, max_epochs=100, hidden=32,
            gene_scaling=1.0, dropout=0.0, learning_rate=1e-2, patience=None,
        )  # type: ignore[call-arg]  # fmt: skip
        model = DDVAEModel(settings, 2)
        data = as_data(x)
        model.fit(data, 0, RunOptions())
        module = model.module
        assert isinstance(module.prior, ClusterPrior)
        with torch.no_grad():
            q = module.posterior(torch.from_numpy(model.scaling.apply(x)))
            generator = torch.Generator().manual_seed(1)
            found[alpha] = float(kl_to_aggregate(module.prior, q.mean, q.log_var, generator, 1000))
    assert found[3.0] < 0.3 < 3 < found[0.0]


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="prior: sparse has nothing to learn"):
        DDVAESettings(learn_prior=True)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="greater than 2"):
        DDVAESettings(nu=2.0)  # type: ignore[call-arg]
    with pytest.raises(InputError, match=r"7 clusters do not fit in 3 latents, which have 6 ends.*Fit 4 fac"):
        _fitted(log_counts(), prior="clusters", n_clusters=7)
