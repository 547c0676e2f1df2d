"""The prior of the factors against torch.distributions and sample correlations."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from latentree.models.prior import FactorPrior


def _posterior(n_fits: int = 2, n_cells: int = 6, n_factors: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(n_fits, n_cells, n_factors, generator=generator)
    return mean, 0.5 * torch.randn(n_fits, n_cells, n_factors, generator=generator)


def _reference(mean: torch.Tensor, log_variance: torch.Tensor, correlation: torch.Tensor) -> float:
    """Of one fit."""
    posterior = MultivariateNormal(mean, torch.diag_embed(log_variance.exp()))
    return (
        kl_divergence(posterior, MultivariateNormal(torch.zeros(len(correlation)), correlation)).mean().item()
    )


def _after_updates(
    mean: torch.Tensor, log_variance: torch.Tensor, alive: torch.Tensor, *, learned: bool = True
) -> FactorPrior:
    """A prior that has long seen the same cells."""
    prior = FactorPrior(len(mean), mean.shape[2], learned)
    for _ in range(600):
        prior.update(mean, log_variance, alive)
    return prior


ALL = torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize("learned", [True, False])
def test_divergence_of_each_fit_equals_torchs(learned):
    mean, log_variance = _posterior()
    prior = _after_updates(mean, log_variance, ALL, learned=learned)
    if learned:
        assert (prior.correlation - torch.eye(3)).abs().amax((1, 2)).min() > 0.1
    found = prior.divergence(mean, log_variance)
    assert found.shape == (2,)
    for fit in range(2):
        expected = prior.correlation[fit] if learned else torch.eye(3)
        assert found[fit].item() == pytest.approx(
            _reference(mean[fit], log_variance[fit], expected), rel=1e-5
        )


@pytest.mark.parametrize("learned", [True, False])
def test_emptied_factors_count_nothing_and_are_independent(learned):
    mean, log_variance = _posterior()
    alive = torch.tensor([[True, False, True], [True, True, True]])
    mean, log_variance = mean * alive[:, None], log_variance * alive[:, None]
    prior = _after_updates(mean, log_variance, alive, learned=learned)
    left = prior.correlation[0][alive[0]][:, alive[0]] if learned else torch.eye(2)
    expected = _reference(mean[0][:, alive[0]], log_variance[0][:, alive[0]], left)
    assert prior.divergence(mean, log_variance)[0].item() == pytest.approx(expected, rel=1e-5)
    assert prior.correlation[0, 1].tolist() == [0, 1, 0]
    nothing = torch.zeros_like(mean)
    empty = _after_updates(nothing, nothing, torch.zeros_like(ALL), learned=learned)
    assert empty.divergence(nothing, nothing).tolist() == [0, 0]


def test_the_learned_correlation_approaches_that_of_each_fits_posterior():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 3.0, 0.5])
    truths = np.array(
        [[[1, 0.7, 0], [0.7, 1, -0.3], [0, -0.3, 1]], [[1, -0.2, 0.5], [-0.2, 1, 0], [0.5, 0, 1]]]
    )
    samples = np.stack(
        [rng.multivariate_normal(np.zeros(3), truth * scale[:, None] * scale, size=2000) for truth in truths]
    )
    mean = torch.tensor(samples, dtype=torch.float32)
    prior = _after_updates(mean, torch.full_like(mean, -8), ALL)
    for fit, sample in enumerate(samples):
        second_moment = sample.T @ sample / len(sample)
        unit = np.sqrt(np.diag(second_moment))
        shrunk = 0.95 * second_moment / unit[:, None] / unit + 0.05 * np.eye(3)
        np.testing.assert_allclose(prior.correlation[fit].numpy(), shrunk, atol=2e-3)
        np.testing.assert_allclose(prior.second_moment[fit].numpy(), second_moment, atol=2e-3)
        np.testing.assert_allclose(prior.precision[fit].numpy(), np.linalg.inv(shrunk), atol=1e-2)
    np.testing.assert_allclose(prior.correlation.diagonal(dim1=1, dim2=2).numpy(), 1, atol=1e-6)


def test_the_running_average_keeps_98_percent_in_each_step():
    mean, log_variance = _posterior()
    prior = FactorPrior(2, 3, learned=True)
    prior.update(mean, log_variance, ALL)
    moment = mean[1].T @ mean[1] / 6 + torch.diag(log_variance[1].exp().mean(0))
    torch.testing.assert_close(prior.second_moment[1], 0.98 * torch.eye(3) + 0.02 * moment)


def test_posterior_variance_counts_towards_the_variances():
    mean = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]])
    prior = _after_updates(mean, torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool))
    # second moments 1, variance 1: the correlation is one half
    assert prior.correlation[0, 0, 1].item() == pytest.approx(0.95 / 2, abs=1e-3)


def test_the_papers_prior_never_moves():
    prior = FactorPrior(2, 3, learned=False)
    prior.update(*_posterior(), ALL)
    assert torch.equal(prior.correlation, torch.eye(3).repeat(2, 1, 1))
    # the variances are told by the diagnostics all the same
    assert not torch.equal(prior.second_moment, torch.eye(3).repeat(2, 1, 1))


@pytest.mark.parametrize("learned", [True, False])
def test_a_fit_may_start_from_a_correlation(learned):
    prior = FactorPrior(2, 3, learned)
    correlation = torch.tensor([[1, 0.5, 0], [0.5, 1, -0.2], [0, -0.2, 1]])
    prior.start_at(1, correlation)
    assert torch.equal(prior.second_moment[1], correlation)
    shrunk = 0.95 * correlation + 0.05 * torch.eye(3) if learned else torch.eye(3)
    torch.testing.assert_close(prior.correlation, torch.stack([torch.eye(3), shrunk]))
    mean, log_variance = _posterior()
    found = prior.divergence(mean, log_variance)
    assert found[1].item() == pytest.approx(_reference(mean[1], log_variance[1], shrunk), rel=1e-5)
    assert found[0].item() == pytest.approx(_reference(mean[0], log_variance[0], torch.eye(3)), rel=1e-5)
