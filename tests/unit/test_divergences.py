"""Divergences between prior and aggregate posterior against plain loops and known values."""

import math

import numpy as np
import pytest
import torch

from latentree.models.dd_priors import ClusterPrior, IsotropicPrior, SparsePrior, cluster_means
from latentree.models.divergences import KERNEL_SCALES, kl_to_aggregate, marginal_mmd


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kl_to_aggregate_is_zero_where_every_posterior_is_the_prior() -> None:
    zeros = torch.zeros(64, 3)
    assert float(kl_to_aggregate(IsotropicPrior(3), zeros, zeros, _generator())) == pytest.approx(0, abs=1e-5)


def test_kl_to_aggregate_is_small_where_the_mixture_is_the_prior() -> None:
    prior = ClusterPrior(cluster_means(4, 2), 0.03)
    mean = prior.means.repeat(10, 1)
    log_var = torch.full_like(mean, math.log(0.03))
    assert float(kl_to_aggregate(prior, mean, log_var, _generator())) == pytest.approx(0, abs=1e-4)
    # a cluster without cells
    missing = kl_to_aggregate(prior, mean[mean[:, 0] < 0.5], log_var[mean[:, 0] < 0.5], _generator())
    assert float(missing) > 1


def test_kl_to_aggregate_is_a_plain_loop() -> None:
    prior = SparsePrior(2, 0.8, 0.2)
    mean, log_var = (torch.randn(7, 2, generator=_generator(seed)) for seed in (1, 2))
    draws = prior.sample(7, _generator(3))
    terms = []
    for z in draws:
        parts = [
            torch.distributions.Normal(mean[i], (0.5 * log_var[i]).exp()).log_prob(z).sum() for i in range(7)
        ]
        terms.append(prior.log_density(z[None])[0] - torch.stack(parts).exp().mean().log())
    ours = kl_to_aggregate(prior, mean, log_var, _generator(3))
    torch.testing.assert_close(ours, torch.stack(terms).mean())


def test_kl_to_aggregate_is_exact_for_narrow_posteriors() -> None:
    """Precisions of 3 million: single precision would be off by whole nats."""
    prior = IsotropicPrior(2)
    mean, log_var = torch.randn(30, 2, generator=_generator(1)), torch.full((30, 2), -15.0)
    z = prior.sample(30, _generator(3)).double()
    by_cell = torch.distributions.Normal(mean.double(), math.exp(-7.5)).log_prob(z[:, None]).sum(dim=2)
    expected = (prior.log_density(z) - by_cell.logsumexp(dim=1) + math.log(30)).mean()
    ours = kl_to_aggregate(prior, mean, log_var, _generator(3))
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)


def test_kl_to_aggregate_leaves_a_learned_prior_alone() -> None:
    prior = ClusterPrior(cluster_means(4, 2), 0.03, learned=True)
    mean = torch.zeros(8, 2, requires_grad=True)
    kl_to_aggregate(prior, mean, torch.zeros(8, 2), _generator()).backward()
    assert mean.grad is not None
    assert prior.means.grad is None


def _loop_mmd(x: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for scale in KERNEL_SCALES:
        c = 2 * scale
        for k in range(x.shape[1]):
            for a, b, weight in [
                (x, x, 1 / (len(x) * (len(x) - 1))),
                (y, y, 1 / (len(y) * (len(y) - 1))),
                (x, y, -2 / (len(x) * len(y))),
            ]:
                for i in range(len(a)):
                    for j in range(len(b)):
                        if a is b and i == j:
                            continue
                        total += weight * c / (c + (a[i, k] - b[j, k]) ** 2)
    return total


def test_mmd_is_a_plain_loop() -> None:
    x, y = torch.randn(6, 3, generator=_generator()), torch.randn(9, 3, generator=_generator(1))
    assert float(marginal_mmd(x, y)) == pytest.approx(_loop_mmd(x.numpy(), y.numpy()), abs=1e-5)


def test_mmds_gradients_are_its_differences() -> None:
    x, y = (torch.randn(5, 2, generator=_generator(s), dtype=torch.float64) for s in (0, 1))
    assert torch.autograd.gradcheck(lambda values: marginal_mmd(x, values), y.requires_grad_())


def test_mmd_of_equal_laws_is_zero_over_seeds_and_tells_a_sparse_law() -> None:
    equal, sparse = [], []
    for seed in range(10):
        generator = _generator(seed)
        x = torch.randn(100, 5, generator=generator)
        equal.append(float(marginal_mmd(x, torch.randn(100, 5, generator=generator))))
        sparse.append(float(marginal_mmd(x, SparsePrior(5, 0.8, 0.05).sample(100, generator))))
    standard_error = np.std(equal) / math.sqrt(10)
    assert abs(np.mean(equal)) < 3 * standard_error + 1e-3
    assert min(equal) < 0
    assert min(sparse) > 5 * max(np.abs(equal))


def test_mmd_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(20, 7, generator=_generator()), torch.randn(20, 7, generator=_generator(1))
    whole = marginal_mmd(x, y)
    monkeypatch.setattr("latentree.models.divergences._CHUNK_PAIRS", 800)
    torch.testing.assert_close(marginal_mmd(x, y), whole)


def test_mmd_of_one_cell_is_zero() -> None:
    y = torch.ones(1, 3, requires_grad=True)
    value = marginal_mmd(torch.randn(1, 3, generator=_generator()), y)
    value.backward()
    assert float(value.detach()) == 0
    assert y.grad is not None
