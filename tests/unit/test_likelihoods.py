"""Likelihoods against torch.distributions, autograd and scipy's own densities."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Laplace, NegativeBinomial, Normal

from latentree.batches import Batch
from latentree.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    with_fits,
)
from latentree.models.nb_likelihood import NegativeBinomialLikelihood

N_FITS, N_CELLS, N_GENES = 2, 9, 5


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _gaussian(
    kind: type[Likelihood] = GaussianLikelihood,
) -> tuple[Likelihood, Tensor, Tensor]:
    """A likelihood, predictors and values, in float64."""
    likelihood = kind(N_FITS, N_GENES).double()
    generator = _generator()
    with torch.no_grad():
        likelihood.parameter.normal_(generator=generator)
    predictor = torch.randn(N_FITS, N_CELLS, N_GENES, generator=generator, dtype=torch.float64)
    return likelihood, predictor, torch.randn(predictor.shape, generator=generator, dtype=torch.float64)


def _laplace() -> tuple[Likelihood, Tensor, Tensor]:
    return _gaussian(LaplaceLikelihood)


def _bernoulli() -> tuple[Likelihood, Tensor, Tensor]:
    """Likewise; values 0, 1 and between."""
    likelihood, predictor, values = _gaussian(BernoulliLikelihood)
    return likelihood, 3 * predictor, values.clamp(0, 1)


def _counts() -> tuple[NegativeBinomialLikelihood, Tensor, Tensor]:
    """Likewise; the second gene has no count, the third has dispersion 1e-2, the fourth is nearly Poisson."""
    likelihood = NegativeBinomialLikelihood(N_FITS, N_GENES).double()
    generator = _generator()
    with torch.no_grad():
        likelihood.parameter.normal_(generator=generator)
        likelihood.parameter[:, 2] = math.log(1e-2)
        likelihood.parameter[:, 3] = math.log(900)
    predictor = torch.randn(N_FITS, N_CELLS, N_GENES, generator=generator, dtype=torch.float64) * 2
    counts = torch.poisson(predictor.exp(), generator=generator)
    counts[:, :, 1] = 0
    return likelihood, predictor, counts


def _torchs_log_prob(likelihood: Likelihood, predictor: Tensor, target: Tensor, parameter: Tensor) -> Tensor:
    width = parameter.exp()[:, None]
    if isinstance(likelihood, GaussianLikelihood):
        return Normal(predictor, width).log_prob(target)
    if isinstance(likelihood, LaplaceLikelihood):
        return Laplace(predictor, width).log_prob(target)
    if isinstance(likelihood, BernoulliLikelihood):
        return Bernoulli(logits=predictor, validate_args=False).log_prob(target)
    # torch counts successes of this probability until `total_count` failures
    return NegativeBinomial(width, logits=predictor - parameter[:, None]).log_prob(target)


def _density(likelihood: Likelihood, predictor: Tensor, target: Tensor, parameter: Tensor) -> Tensor:
    """torch's own: sum over genes, mean over cells."""
    return -_torchs_log_prob(likelihood, predictor, target, parameter).sum(2).mean(1)


ALL = [_gaussian, _laplace, _bernoulli, _counts]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("genes", [slice(None), slice(1, 4)])
def test_value_and_derivatives_are_those_of_torchs_density(make, genes):
    likelihood, predictor, target = make()
    predictor, target = predictor[:, :, genes].requires_grad_(), target[:, :, genes]
    parameter = likelihood.parameter.detach()[:, genes].clone().requires_grad_()
    expected = _density(likelihood, predictor, target, parameter)
    of_predictor, of_parameter = torch.autograd.grad(
        expected.sum(), [predictor, parameter], allow_unused=True
    )
    value, in_predictor, in_parameter = likelihood.terms(predictor.detach().clone(), target.clone(), genes)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(in_predictor, of_predictor, rtol=1e-6, atol=1e-9)
    assert (in_parameter is None) == (of_parameter is None) == (make is _bernoulli)
    if in_parameter is not None:
        torch.testing.assert_close(in_parameter, of_parameter, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", ALL)
def test_loss_has_gradients_and_leaves_its_arguments_alone(make):
    likelihood, predictor, target = make()
    before = predictor.clone(), target.clone()
    predictor.requires_grad_()
    parameter = likelihood.parameter.detach().clone().requires_grad_()
    weights = torch.tensor([2.0, -1.0], dtype=torch.float64)
    found = torch.autograd.grad(
        (likelihood.loss(predictor, target) * weights).sum(),
        [predictor, likelihood.parameter],
        allow_unused=True,
    )
    loss = (_density(likelihood, predictor, target, parameter) * weights).sum()
    expected = torch.autograd.grad(loss, [predictor, parameter], allow_unused=True)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    assert torch.equal(predictor.detach(), before[0])
    assert torch.equal(target, before[1])


@pytest.mark.parametrize("make", ALL)
def test_derivatives_are_those_of_finite_differences(make):
    likelihood, predictor, target = make()
    generator = _generator(1)
    for values in (predictor, likelihood.parameter.detach()):
        if make is _bernoulli and values is not predictor:
            continue
        direction = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        step = 1e-5
        with torch.no_grad():
            rise = 0.0
            for sign in (1, -1):
                values += sign * step * direction
                rise = rise + sign * likelihood.terms(predictor.clone(), target, slice(None))[0]
                values -= sign * step * direction
        _, *slopes = likelihood.terms(predictor.clone(), target, slice(None))
        slope = (slopes[0 if values is predictor else 1] * direction).flatten(1).sum(1)
        torch.testing.assert_close(rise / (2 * step), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_log_densities_are_torchs_and_sum_to_minus_the_loss(make):
    likelihood, predictor, target = make()
    parameter = likelihood.parameter.detach()
    found = likelihood.log_prob(predictor, target).detach()
    assert found.shape == predictor.shape
    torch.testing.assert_close(found, _torchs_log_prob(likelihood, predictor, target, parameter))
    loss = likelihood.loss(predictor, target).detach()
    torch.testing.assert_close(-found.sum(2).mean(1), loss, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", ALL)
def test_log_densities_are_scipys(make):
    likelihood, predictor, target = make()
    width = likelihood.parameter.detach()[:, None].exp().expand_as(predictor).numpy()
    at, value = predictor.numpy(), target.numpy()
    if make is _bernoulli:
        value = value.round()
        expected = scipy.stats.bernoulli.logpmf(value, scipy.special.expit(at))
    elif make is _counts:
        expected = scipy.stats.nbinom.logpmf(value, width, width / (width + np.exp(at)))
    else:
        expected = {_gaussian: scipy.stats.norm, _laplace: scipy.stats.laplace}[make].logpdf(value, at, width)
    found = likelihood.log_prob(predictor, torch.from_numpy(value)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@given(
    count=st.integers(0, 500),
    log_mean=st.floats(-8, 6),
    log_theta=st.floats(math.log(0.02), math.log(500)),
)
def test_a_count_has_scipys_negative_binomial_density(count, log_mean, log_theta):
    likelihood = NegativeBinomialLikelihood(1, 1).double()
    with torch.no_grad():
        likelihood.parameter.fill_(log_theta)
    target = torch.full((1, 1, 1), float(count), dtype=torch.float64)
    predictor = torch.full((1, 1, 1), log_mean, dtype=torch.float64)
    theta, mean = math.exp(log_theta), math.exp(log_mean)
    expected = -scipy.stats.nbinom.logpmf(count, theta, theta / (theta + mean))
    assert float(likelihood.loss(predictor, target).detach()) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    # variance mean + mean^2 / theta, as said
    assert scipy.stats.nbinom.var(theta, theta / (theta + mean)) == pytest.approx(mean + mean**2 / theta)


def test_predictors_far_out_stay_finite_and_are_pulled_back():
    likelihood = NegativeBinomialLikelihood(1, 2)
    likelihood.start(0, torch.tensor([1.0, 1.0]), largest_count=50)
    counts = torch.tensor([[[3.0, 0.0]]])
    for predictor, sign in ((1e4, 1), (-1e4, -1)):
        value, slope, in_theta = likelihood.terms(torch.full((1, 1, 2), predictor), counts, slice(None))
        assert torch.isfinite(torch.cat([value, slope.flatten(), in_theta.flatten()])).all()
        assert float(slope[0, 0, 0]) * sign > 0
    # far above every count, so no fit that is not diverging is clamped
    value, _, _ = likelihood.terms(torch.full((1, 1, 2), math.log(500)), counts, slice(None))
    assert float(value) == pytest.approx(-scipy.stats.nbinom.logpmf([3, 0], 1, 1 / 501).sum(), rel=1e-5)


def test_dispersions_are_learned_in_one_step_of_four_and_stay_in_their_range():
    likelihood, predictor, counts = _counts()
    learned = []
    for _ in range(9):
        learned.append(likelihood.terms(predictor.clone(), counts, slice(None))[2] is not None)
        likelihood.after_step()
    assert learned == [True, False, False, False, True, False, False, False, True]
    likelihood.begin_epoch()
    assert likelihood.terms(predictor.clone(), counts, slice(None))[2] is not None
    with torch.no_grad():
        likelihood.parameter[0] = 100
        likelihood.parameter[1] = -100
    likelihood.after_step()
    assert likelihood.parameter.exp()[:, 0].tolist() == pytest.approx([1e3, 1e-2])
    assert likelihood.prior_loss().tolist() == [0, 0]


@pytest.mark.parametrize("make", [_gaussian, _laplace])
def test_the_noise_levels_do_not_fall_to_nothing(make):
    likelihood, _, _ = make()
    with torch.no_grad():
        likelihood.parameter.fill_(-50)
    likelihood.after_step()
    torch.testing.assert_close(likelihood.parameter.exp(), torch.full_like(likelihood.parameter, 0.02))


def test_the_prior_of_the_noise_is_the_papers_inverse_gamma():
    likelihood = GaussianLikelihood(2, 5)
    sd = torch.tensor([0.5, 1.0, 1.5, 2.0, 0.8])
    for fit, factor in enumerate((1.0, 3.0)):
        likelihood.start(fit, factor * sd, torch.ones(5), n_train=50 * (fit + 1))
    torch.testing.assert_close(likelihood.parameter.exp(), torch.stack([sd, 3 * sd]))
    for fit, factor in enumerate((1.0, 3.0)):
        # P(sigma < the 5% quantile of the sd) = .9 fixes the scale; densities differ by a constant only
        inverse_gamma = scipy.stats.invgamma(1.5, scale=1.5 * float(likelihood.prior_scale[fit]))
        quantile = float(torch.quantile(factor * sd, 0.05))
        assert inverse_gamma.cdf(quantile**2) == pytest.approx(0.9, abs=1e-4)
        differences = []
        for size in (1.0, 0.4):
            with torch.no_grad():
                likelihood.parameter[fit] = (size * factor * sd).log()
            density = -inverse_gamma.logpdf((size * factor * sd.numpy()) ** 2).sum() / (50 * (fit + 1))
            differences.append(float(likelihood.prior_loss().detach()[fit]) - density)
        assert differences[0] == pytest.approx(differences[1], abs=1e-5)


def test_targets_are_the_values_in_their_units_and_the_counts_as_they_are():
    x, counts, log_library = torch.full((4, 3), 6.0), torch.arange(12.0).view(4, 3), torch.rand(4, 1)
    batch = Batch(x, counts, log_library)
    gaussian, binomial = GaussianLikelihood(1, 3), NegativeBinomialLikelihood(1, 3)
    gaussian.start(0, torch.ones(3), torch.tensor([1.0, 2.0, 3.0]), 10)
    assert gaussian.target(batch)[0].tolist() == [[6, 3, 2]] * 4
    assert gaussian.cell_offset(batch) is None
    assert torch.equal(binomial.target(batch), counts[None])
    assert torch.equal(binomial.cell_offset(batch), log_library[None])
    stack = torch.rand(2, 4, 3)
    assert with_fits(stack) is stack


def test_laplace_starts_at_the_genes_standard_deviations():
    likelihood = LaplaceLikelihood(1, 3)
    sd = torch.tensor([0.5, 2.0, 0.0])
    likelihood.start(0, sd)
    scales = likelihood.parameter.detach()[0].exp()
    assert scipy.stats.laplace.std(scale=scales[:2].numpy()) == pytest.approx(sd[:2].numpy())
    assert float(scales[2]) == pytest.approx(0.02)
    assert likelihood.prior_loss().tolist() == [0]


def test_bernoulli_sees_shares_or_whether_a_gene_is_there():
    values = torch.tensor([[0.0, 1.0, 0.25], [0.5, 0.0, 1.0]])
    centre, scale = torch.tensor([0.2, 0.5, 0.4]), torch.tensor([0.3, 1.0, 2.0])
    batch = Batch((values - centre) / scale)
    likelihood = BernoulliLikelihood(1, 3)
    likelihood.start(0, centre, scale, sees=False)
    torch.testing.assert_close(likelihood.target(batch)[0], values, atol=1e-6, rtol=0)
    likelihood.start(0, centre, scale, sees=True)
    assert likelihood.target(batch)[0].tolist() == [[0, 1, 1], [1, 0, 1]]
    predictor = torch.tensor([-1e4, 0.0, 1e4])
    assert likelihood.mean(predictor).tolist() == [0, 0.5, 1]
    assert torch.isfinite(likelihood.loss(predictor.expand(1, 2, 3), likelihood.target(batch))).all()
    assert likelihood.prior_loss().tolist() == [0]


def test_a_count_is_read_back_as_log_counts_per_10k():
    likelihood = NegativeBinomialLikelihood(1, 2)
    rates = torch.tensor([[0.01, 3e-5]])
    torch.testing.assert_close(likelihood.mean(rates.log()), torch.log1p(1e4 * rates))
    # no gene is more than the whole library
    assert float(likelihood.mean(torch.tensor([50.0]))) == pytest.approx(math.log1p(1e4))
