"""What a gene's value is, given its predictor: a normal or a negative binomial distribution.

A likelihood owns one parameter per gene and knows its value and its derivatives element by element, so that
every decoder can be followed by any of them. All tensors carry a leading axis of fits (n_fits, 1 for a lone
fit); batches without it are given one.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from latentree.batches import Batch

_LEAST_SIGMA = 0.02
# theta beyond these is Poisson, or says that a count is nothing but rare
_LEAST_THETA, _MOST_THETA = 1e-2, 1e3
# log means below this are zeros whatever the library
_LEAST_LOG_MEAN = -15.0
# digamma is slow: the dispersions move in one of so many steps
_STEPS_PER_DISPERSION = 4


class Likelihood(nn.Module, ABC):
    """Log-density of each gene given a predictor (n_fits, n_cells, n_genes).

    Attributes
    ----------
    parameter
        (n_fits, n_genes): logarithm of the gene's noise level or dispersion.
    """

    parameter: nn.Parameter

    def __init__(self, n_fits: int, n_genes: int) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(n_fits, n_genes))

    @abstractmethod
    def target(self, batch: Batch) -> Tensor:
        """(n_fits, n_cells, n_genes): the values whose density is meant."""

    def cell_offset(self, batch: Batch) -> Tensor | None:
        """(n_fits, n_cells, 1): a known part of the predictor; None: there is none."""
        return None

    @abstractmethod
    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        """Negative log-likelihood of some genes and its derivatives.

        Parameters
        ----------
        predictor, target
            (n_fits, n_cells, genes); the predictor may be overwritten.
        genes
            Which genes these are.

        Returns
        -------
        Sum over genes of the mean over cells, (n_fits,); its derivatives by the predictor,
        (n_fits, n_cells, genes), and by the parameter, (n_fits, genes) or None where it is not learned in
        this step.
        """

    def loss(self, predictor: Tensor, target: Tensor) -> Tensor:
        """Sum over genes, mean over cells of the negative log-likelihood, (n_fits,), with gradients."""
        value: Tensor = _ElementwiseLoss.apply(predictor, self.parameter, target, self)
        return value

    @abstractmethod
    def prior_loss(self) -> Tensor:
        """Minus the log prior of the parameters per training cell, up to a constant, (n_fits,)."""

    def begin_epoch(self) -> None:
        """Start counting steps anew, so that a resumed fit counts as an undisturbed one."""

    @abstractmethod
    def after_step(self) -> None:
        """Keep the parameters in their range; called without gradients."""


class GaussianLikelihood(Likelihood):
    """x_j / unit_j ~ N(predictor, sigma_j^2) with the inverse-gamma prior of Moran et al. (2022).

    sigma_j^2 ~ InvGamma(df/2, df * scale/2) with df = 3 and scale such that P(sigma_j < the 5% quantile of
    the genes' standard deviations) = .9. ``parameter`` is log sigma_j.
    """

    DF = 3.0
    # the .1 quantile of chi-squared with 3 degrees of freedom
    CHI2_QUANTILE = 0.5843743741551833

    unit: Tensor
    prior_scale: Tensor
    n_train: Tensor

    def __init__(self, n_fits: int, n_genes: int) -> None:
        super().__init__(n_fits, n_genes)
        self.register_buffer("unit", torch.ones(n_fits, n_genes))
        self.register_buffer("prior_scale", torch.ones(n_fits))
        self.register_buffer("n_train", torch.ones(n_fits))

    @torch.no_grad()
    def start(self, fit: int, sd: Tensor, unit: Tensor, n_train: int) -> None:
        """Noise levels, units and prior of one fit from its training cells.

        Parameters
        ----------
        fit
            Its place among the fits.
        sd
            (n_genes,) standard deviations of the genes in these units.
        unit
            (n_genes,) what the values are divided by.
        n_train
            Number of training cells; the prior is counted once for all of them.
        """
        self.unit[fit] = unit
        self.parameter[fit] = sd.clamp(min=1e-3).log()
        estimate = torch.quantile(sd, 0.05).clamp(min=1e-3)
        self.prior_scale[fit] = estimate**2 * self.CHI2_QUANTILE / self.DF
        self.n_train[fit] = n_train

    def target(self, batch: Batch) -> Tensor:
        return with_fits(batch.x) / self.unit[:, None]

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        n_cells = predictor.shape[1]
        log_sigma = self.parameter.detach()[:, genes]
        precision = (-2 * log_sigma).exp()
        residual = predictor.sub_(target)
        # mean squares in units of sigma
        squares = torch.linalg.vector_norm(residual, dim=1).square_().mul_(precision / n_cells)
        value = (0.5 * squares + log_sigma + 0.5 * math.log(2 * math.pi)).sum(1)
        return value, residual.mul_((precision / n_cells)[:, None]), 1 - squares

    def prior_loss(self) -> Tensor:
        precision = (-2 * self.parameter).exp()
        scale = self.prior_scale[:, None]
        log_prior = (self.DF + 2) * self.parameter + 0.5 * self.DF * scale * precision
        return log_prior.sum(1) / self.n_train

    @torch.no_grad()
    def after_step(self) -> None:
        self.parameter.clamp_(min=math.log(_LEAST_SIGMA))


class NegativeBinomialLikelihood(Likelihood):
    """count_j ~ NB(mean library * exp(predictor), dispersion theta_j): variance mean + mean^2 / theta.

    ``parameter`` is log theta_j; its prior is flat between bounds.
    """

    _lgammas: Tensor

    def __init__(self, n_fits: int, n_genes: int) -> None:
        super().__init__(n_fits, n_genes)
        # plain numbers, because looking at a tensor's value would make a GPU wait
        self.most_log_mean = 10.0
        self._step = 0
        self.register_buffer("_lgammas", torch.zeros(n_fits, n_genes), persistent=False)

    @torch.no_grad()
    def start(self, fit: int, theta: Tensor, largest_count: float) -> None:
        """Dispersions theta (n_genes,) of one fit, and the largest count of its training cells."""
        self.parameter[fit] = theta.clamp(_LEAST_THETA, _MOST_THETA).log()
        # keeps exp() finite; no mean comes near it in a fit that is not diverging
        self.most_log_mean = max(self.most_log_mean, math.log1p(largest_count) + 3)

    def target(self, batch: Batch) -> Tensor:
        assert batch.counts is not None
        return with_fits(batch.counts)

    def cell_offset(self, batch: Batch) -> Tensor:
        assert batch.log_library is not None
        return with_fits(batch.log_library)

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        n_cells = predictor.shape[1]
        theta = self.parameter.detach()[:, None, genes].exp()
        log_mean = predictor.clamp_(_LEAST_LOG_MEAN, self.most_log_mean)
        mean = log_mean.exp()
        total = mean + theta
        log_total = total.log()
        # for each gene: sums over cells
        per_gene = ((target + theta).mul_(log_total)).sum(1) - torch.linalg.vecdot(target, log_mean, dim=1)
        per_gene -= n_cells * (theta * theta.log())[:, 0]
        in_parameter = None
        if self._in_full():
            seen = _Seen.of(target, theta)
            self._lgammas[:, genes] = seen.lgammas() / n_cells
            if self.training:
                in_theta = (log_total - theta.log() - 1).sum(1) + ((target + theta) / total).sum(1)
                in_parameter = (in_theta + seen.digammas()) * theta[:, 0] / n_cells
        value = (per_gene / n_cells + self._lgammas[:, genes]).sum(1)
        in_predictor = mean.sub_(target).div_(total).mul_(theta / n_cells)
        return value, in_predictor, in_parameter

    def _in_full(self) -> bool:
        """Whether this step computes what needs lgamma and digamma, the slow part.

        Always in evaluation. In training the dispersions move, and the loss is told to the last digit, in
        one of so many steps; between them the loss takes these terms, constant but for the dispersions and
        the cells of the batch, from the last of these steps. No other gradient needs them.
        """
        return not self.training or self._step % _STEPS_PER_DISPERSION == 0

    def prior_loss(self) -> Tensor:
        return self.parameter.detach().new_zeros(len(self.parameter))

    def begin_epoch(self) -> None:
        self._step = 0

    @torch.no_grad()
    def after_step(self) -> None:
        self._step += 1
        self.parameter.clamp_(math.log(_LEAST_THETA), math.log(_MOST_THETA))


@dataclass(frozen=True)
class _Seen:
    """Where counts are not zero, which is all that lgamma and digamma are needed for.

    ``places`` are the coordinates (n,) of the counts (n_fits, n_cells, n_genes), ``count`` and ``theta`` (n,)
    the values there; ``shape`` is (n_fits, n_genes).
    """

    places: tuple[Tensor, ...]
    count: Tensor
    theta: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, counts: Tensor, theta: Tensor) -> "_Seen":
        places = counts.nonzero(as_tuple=True)
        at = theta[places[0], 0, places[2]]
        return cls(places, counts[places], at, (counts.shape[0], counts.shape[2]))

    def lgammas(self) -> Tensor:
        """Sum over cells of log(count! gamma(theta) / gamma(count + theta)), (n_fits, n_genes)."""
        count, theta = self.count, self.theta
        return self._by_gene(torch.lgamma(count + 1) + torch.lgamma(theta) - torch.lgamma(count + theta))

    def digammas(self) -> Tensor:
        """Its derivative by theta, (n_fits, n_genes)."""
        return self._by_gene(torch.digamma(self.theta) - torch.digamma(self.count + self.theta))

    def _by_gene(self, values: Tensor) -> Tensor:
        sums = values.new_zeros(self.shape)
        return sums.index_put_((self.places[0], self.places[2]), values, accumulate=True)


class _ElementwiseLoss(torch.autograd.Function):
    """A likelihood after a predictor that is there already; its derivatives are made on the way."""

    @staticmethod
    def forward(ctx: Any, predictor: Tensor, parameter: Tensor, target: Tensor, terms: Likelihood) -> Tensor:
        value, in_predictor, in_parameter = terms.terms(predictor.clone(), target, slice(None))
        ctx.save_for_backward(in_predictor, in_parameter)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        in_predictor, in_parameter = ctx.saved_tensors
        in_parameter = None if in_parameter is None else in_parameter * gradient[:, None]
        return in_predictor * gradient[:, None, None], in_parameter, None, None


def with_fits(values: Tensor) -> Tensor:
    """(n_fits, n_cells, n) from these or from a lone fit's (n_cells, n)."""
    return values if values.dim() == 3 else values[None]
