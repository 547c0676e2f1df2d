"""The prior of the factors against torch.distributions and sample correlations."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from latentree.models.prior import FactorPrior


def _posterior(n_cells: int = 6, n_factors: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(n_cells, n_factors, generator=generator)
    return mean, 0.5 * torch.randn(n_cells, n_factors, generator=generator)


def _reference(mean: torch.Tensor, log_variance: torch.Tensor, correlation: torch.Tensor) -> float:
    posterior = MultivariateNormal(mean, torch.diag_embed(log_variance.exp()))
    return (
        kl_divergence(posterior, MultivariateNormal(torch.zeros(len(correlation)), correlation)).mean().item()
    )


ALL = torch.ones(3, dtype=torch.bool)


@pytest.mark.parametrize("learned", [True, False])
def test_divergence_equals_torchs(learned):
    prior = FactorPrior(3, learned)
    correlation = torch.tensor([[1, 0.6, -0.2], [0.6, 1, 0.1], [-0.2, 0.1, 1]])
    expected = correlation if learned else torch.eye(3)
    prior.correlation.copy_(expected)
    mean, log_variance = _posterior()
    found = prior.divergence(mean, log_variance, ALL)
    assert found.item() == pytest.approx(_reference(mean, log_variance, expected), rel=1e-5)


@pytest.mark.parametrize("learned", [True, False])
def test_dead_factors_count_nothing(learned):
    prior = FactorPrior(3, learned)
    prior.correlation[0, 2] = prior.correlation[2, 0] = 0.4
    mean, log_variance = _posterior()
    alive = torch.tensor([True, False, True])
    expected = _reference(mean[:, alive], log_variance[:, alive], prior.correlation[alive][:, alive])
    if not learned:
        expected = _reference(mean[:, alive], log_variance[:, alive], torch.eye(2))
    assert prior.divergence(mean, log_variance, alive).item() == pytest.approx(expected, rel=1e-5)
    assert prior.divergence(mean, log_variance, ~ALL).item() == 0


def test_the_learned_correlation_approaches_that_of_the_posterior():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 3.0, 0.5])
    truth = np.array([[1, 0.7, 0], [0.7, 1, -0.3], [0, -0.3, 1]])
    sample = rng.multivariate_normal(np.zeros(3), truth * scale[:, None] * scale, size=4000)
    mean = torch.tensor(sample, dtype=torch.float32)
    log_variance = torch.full_like(mean, -8)
    prior = FactorPrior(3, learned=True)
    for _ in range(400):
        prior.update(mean, log_variance)
    second_moment = sample.T @ sample / len(sample)
    unit = np.sqrt(np.diag(second_moment))
    shrunk = 0.95 * second_moment / unit[:, None] / unit + 0.05 * np.eye(3)
    np.testing.assert_allclose(prior.correlation.numpy(), shrunk, atol=2e-3)
    np.testing.assert_allclose(prior.correlation.diagonal().numpy(), 1, atol=1e-6)


def test_posterior_variance_counts_towards_the_variances():
    prior = FactorPrior(2, learned=True)
    mean = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    for _ in range(600):
        prior.update(mean, torch.zeros(2, 2))
    # second moments 1, variance 1: the correlation is one half
    assert prior.correlation[0, 1].item() == pytest.approx(0.95 / 2, abs=1e-3)


def test_the_papers_prior_never_moves():
    prior = FactorPrior(3, learned=False)
    prior.update(*_posterior())
    assert torch.equal(prior.correlation, torch.eye(3))
