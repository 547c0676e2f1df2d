"""The priors of dd_vae against scipy's densities, their own draws and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from latentree.models.dd_priors import (
    AnisotropicPrior,
    ClusterPrior,
    IsotropicPrior,
    LatentPrior,
    SparsePrior,
    StudentTPrior,
    cluster_means,
)
from latentree.models.layers import gaussian_kl


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _anisotropic(learned: bool = False) -> AnisotropicPrior:
    prior = AnisotropicPrior(3, mean_variance=2.0, learned=learned)
    prior.start_at(torch.tensor([6.0, 3.0, 1.0]))
    return prior


def _clusters() -> ClusterPrior:
    return ClusterPrior(cluster_means(3, 2), 0.03, torch.tensor([0.5, 0.3, 0.2]))


_MARGINALS = {
    "isotropic": (IsotropicPrior(3), [stats.norm()] * 3),
    "anisotropic": (_anisotropic(), [stats.norm(scale=math.sqrt(v)) for v in (3.6, 1.8, 0.6)]),
    "student_t": (StudentTPrior(3, 5.0), [stats.t(5)] * 3),
}


@pytest.mark.parametrize("name", _MARGINALS)
def test_densities_and_draws_are_scipys(name: str) -> None:
    prior, marginals = _MARGINALS[name]
    z = 2 * torch.randn(50, 3, generator=_generator())
    expected = sum(marginal.logpdf(z[:, k].numpy()) for k, marginal in enumerate(marginals))
    np.testing.assert_allclose(prior.log_density(z).numpy(), expected, rtol=1e-4, atol=1e-4)
    draws = prior.sample(20_000, _generator()).numpy()
    assert draws.shape == (20_000, 3)
    assert not prior.sample(2, _generator()).requires_grad
    for k, marginal in enumerate(marginals):
        assert stats.kstest(draws[:, k], marginal.cdf).statistic < 0.015


def test_clusters_are_a_mixture_of_normals() -> None:
    prior = _clusters()
    z = torch.randn(40, 2, generator=_generator())
    by_cluster = np.stack(
        [
            weight * stats.multivariate_normal(mean.numpy(), 0.03).pdf(z.numpy())
            for weight, mean in zip((0.5, 0.3, 0.2), prior.means, strict=True)
        ]
    )
    near = by_cluster.sum(axis=0) > 1e-30
    np.testing.assert_allclose(
        prior.log_density(z).numpy()[near], np.log(by_cluster.sum(axis=0)[near]), rtol=1e-3, atol=1e-4
    )
    draws = prior.sample(20_000, _generator())
    clusters = prior.responsibilities(draws).argmax(dim=1)
    np.testing.assert_allclose(np.bincount(clusters) / 20_000, [0.5, 0.3, 0.2], atol=0.015)
    for cluster in range(3):
        own = draws[clusters == cluster]
        np.testing.assert_allclose(own.mean(dim=0), prior.means[cluster], atol=0.01)
        np.testing.assert_allclose(own.var(dim=0), 0.03, atol=0.002)


def test_cluster_means_are_the_papers_in_the_plane() -> None:
    paper = {(0.0, -1.0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0)}
    assert {tuple(round(float(v), 6) + 0.0 for v in mean) for mean in cluster_means(4, 2)} == paper
    for n_clusters, n_factors in [(5, 2), (3, 4), (8, 4), (2, 1)]:
        means = cluster_means(n_clusters, n_factors)
        assert means.shape == (n_clusters, n_factors)
        torch.testing.assert_close(means.norm(dim=1), torch.ones(n_clusters))
        apart = torch.pdist(means)
        assert float(apart.min()) > 1.1


@pytest.mark.parametrize("spike_sd", [0.05, math.sqrt(0.05)])
def test_sparse_density_counts_each_latent_once(spike_sd: float) -> None:
    prior = SparsePrior(4, 0.8, spike_sd)
    z = prior.sample(200, _generator())
    values = z.numpy().astype(np.float64)
    density = 0.2 * stats.norm.pdf(values) + 0.8 * stats.norm.pdf(values, scale=spike_sd)
    np.testing.assert_allclose(prior.log_density(z).numpy(), np.log(density).sum(axis=1), rtol=1e-4)


def test_sparse_prior_at_its_ends_is_one_normal() -> None:
    z = torch.randn(20, 4, generator=_generator())
    torch.testing.assert_close(SparsePrior(4, 0.0, 0.05).log_density(z), IsotropicPrior(4).log_density(z))
    only_spike = stats.norm(scale=0.5).logpdf(z.numpy()).sum(axis=1)
    np.testing.assert_allclose(SparsePrior(4, 1.0, 0.5).log_density(z).numpy(), only_spike, rtol=1e-5)


@pytest.mark.parametrize(("spike_sd", "expected"), [(0.05, 0.650), (math.sqrt(0.05), 0.420)])
def test_hoyer_of_the_sparse_priors_draws(spike_sd: float, expected: float) -> None:
    z = SparsePrior(50, 0.8, spike_sd).sample(5000, _generator()).numpy()
    z /= z.std(axis=0)
    ratio = np.abs(z).sum(axis=1) / np.sqrt((z**2).sum(axis=1))
    assert np.mean((math.sqrt(50) - ratio) / (math.sqrt(50) - 1)) == pytest.approx(expected, abs=0.005)


def test_anisotropic_variances_have_the_mean_that_was_asked_for() -> None:
    prior = _anisotropic()
    np.testing.assert_allclose(prior.variances().numpy(), [3.6, 1.8, 0.6], rtol=1e-5)
    # a data set of fewer dimensions than latents
    prior.start_at(torch.tensor([1.0, 0.0, 0.0]))
    assert float(prior.variances().mean()) == pytest.approx(2, rel=1e-5)
    assert float(prior.variances().min()) == pytest.approx(6e-4, rel=1e-2)


def test_what_is_learned_is_a_parameter() -> None:
    assert [name for name, _ in _anisotropic(learned=True).named_parameters()] == ["logits"]
    assert not list(_anisotropic().parameters())
    learned = ClusterPrior(cluster_means(4, 2), 0.03, learned=True)
    assert {name for name, _ in learned.named_parameters()} == {"means", "weight_logits"}
    assert not list(_clusters().parameters())
    assert not learned.sample(3, _generator()).requires_grad


@pytest.mark.parametrize("learned", [False, True])
def test_kl_of_normal_priors_is_torchs_and_the_mean_over_draws(learned: bool) -> None:
    prior = _anisotropic(learned)
    mean, log_var = (torch.randn(1, 3, generator=_generator(seed)) for seed in (1, 2))
    with torch.no_grad():
        closed = prior.kl(mean, log_var, mean)
        expected = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, (0.5 * log_var).exp()),
            torch.distributions.Normal(torch.zeros(3), prior.variances().sqrt()),
        ).sum(dim=1)
        torch.testing.assert_close(closed, expected)
        assert _mean_over_draws(prior, mean, log_var) == pytest.approx(float(expected), rel=0.01)


def test_isotropic_kl_is_the_vaes_bit_for_bit() -> None:
    mean, log_var = (torch.randn(5, 3, generator=_generator(seed)) for seed in (1, 2))
    for prior in (IsotropicPrior(3), SparsePrior(3, 0.0, 0.05)):
        assert torch.equal(prior.kl(mean, log_var, mean), gaussian_kl(mean, log_var))


@pytest.mark.parametrize("prior", [SparsePrior(3, 0.8, 0.2), StudentTPrior(3, 5.0)])
def test_kl_of_other_priors_is_the_integral(prior: LatentPrior) -> None:
    """Independent latents: a sum of integrals over one number each."""
    mean, log_var = torch.tensor([[0.5, -1.0, 0.0]]), torch.tensor([[-1.0, 0.3, -3.0]])
    grid = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    # the other latents at 0 add the same to every value of the one that moves
    at_zero = float(prior.log_density(torch.zeros(1, 3, dtype=torch.float64))) / 3
    expected = 0.0
    for k in range(3):
        points = torch.zeros(len(grid), 3, dtype=torch.float64)
        points[:, k] = grid
        log_p = prior.log_density(points) - 2 * at_zero
        q = torch.distributions.Normal(mean[0, k].double(), (0.5 * log_var[0, k]).exp().double())
        log_q = q.log_prob(grid)
        expected += float(torch.trapezoid(log_q.exp() * (log_q - log_p), grid))
    assert _mean_over_draws(prior, mean, log_var) == pytest.approx(expected, rel=0.01)


def test_kl_has_the_gradients_of_a_difference_of_log_densities() -> None:
    prior = _clusters()
    noise = torch.randn(6, 2, generator=_generator())

    def gradients(by_hand: bool) -> tuple[torch.Tensor, ...]:
        mean = torch.linspace(-1, 1, 12).reshape(6, 2).requires_grad_()
        log_var = torch.linspace(-2, 0, 12).reshape(6, 2).requires_grad_()
        z = mean + (0.5 * log_var).exp() * noise
        if by_hand:
            log_q = torch.distributions.Normal(mean, (0.5 * log_var).exp()).log_prob(z).sum(dim=1)
            value = log_q - prior.log_density(z)
        else:
            value = prior.kl(mean, log_var, z)
        return torch.autograd.grad(value.sum(), [mean, log_var])

    for ours, expected in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def _mean_over_draws(prior: LatentPrior, mean: torch.Tensor, log_var: torch.Tensor) -> float:
    n = 100_000
    mean, log_var = mean.expand(n, -1), log_var.expand(n, -1)
    z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=_generator(9))
    return float(LatentPrior.kl(prior, mean, log_var, z).mean())
