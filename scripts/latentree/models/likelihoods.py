"""What a gene's value is, given its predictor: a normal, a Laplace or a Bernoulli distribution.

A likelihood owns one parameter per gene and knows its value and its derivatives element by element, so that
every decoder can be followed by any of them. All tensors carry a leading axis of fits (n_fits, 1 for a lone
fit); batches without it are given one.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from latentree.batches import Batch

_LEAST_SIGMA = 0.02
_LOG_2PI = math.log(2 * math.pi)
# laplace: the standard deviation is sqrt(2) times the scale
_ROOT2 = math.sqrt(2)
# larger scaled-back values than this say that a gene is seen, whatever the rounding
_SEEN = 1e-3


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
    def log_prob(self, predictor: Tensor, target: Tensor) -> Tensor:
        """Log-density of each value, (n_fits, n_cells, n_genes), with all its constants."""

    def mean(self, predictor: Tensor) -> Tensor:
        """What the predictor (..., n_genes) says of a cell, on the scale that latents are read back on."""
        return predictor

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
        value = (0.5 * squares + log_sigma + 0.5 * _LOG_2PI).sum(1)
        return value, residual.mul_((precision / n_cells)[:, None]), 1 - squares

    def log_prob(self, predictor: Tensor, target: Tensor) -> Tensor:
        log_sigma = self.parameter[:, None]
        return -0.5 * ((target - predictor) * (-log_sigma).exp()) ** 2 - log_sigma - 0.5 * _LOG_2PI

    def prior_loss(self) -> Tensor:
        precision = (-2 * self.parameter).exp()
        scale = self.prior_scale[:, None]
        log_prior = (self.DF + 2) * self.parameter + 0.5 * self.DF * scale * precision
        return log_prior.sum(1) / self.n_train

    @torch.no_grad()
    def after_step(self) -> None:
        self.parameter.clamp_(min=math.log(_LEAST_SIGMA))


class LaplaceLikelihood(Likelihood):
    """x_j ~ Laplace(predictor, scale_j): errors that are often small and sometimes large.

    ``parameter`` is log scale_j; its prior is flat above a least scale.
    """

    @torch.no_grad()
    def start(self, fit: int, sd: Tensor) -> None:
        """Scales of one fit from the standard deviations (n_genes,) of its genes."""
        self.parameter[fit] = (sd / _ROOT2).clamp(min=_LEAST_SIGMA).log()

    def target(self, batch: Batch) -> Tensor:
        return with_fits(batch.x)

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        n_cells = predictor.shape[1]
        log_scale = self.parameter.detach()[:, genes]
        rate = (-log_scale).exp() / n_cells
        residual = predictor.sub_(target)
        sizes = residual.abs().sum(1) * rate
        value = (sizes + log_scale + math.log(2)).sum(1)
        return value, residual.sign_().mul_(rate[:, None]), 1 - sizes

    def log_prob(self, predictor: Tensor, target: Tensor) -> Tensor:
        log_scale = self.parameter[:, None]
        return -(target - predictor).abs() * (-log_scale).exp() - log_scale - math.log(2)

    def prior_loss(self) -> Tensor:
        return self.parameter.detach().new_zeros(len(self.parameter))

    @torch.no_grad()
    def after_step(self) -> None:
        self.parameter.clamp_(min=math.log(_LEAST_SIGMA))


class BernoulliLikelihood(Likelihood):
    """value_j ~ Bernoulli(sigmoid(predictor)): of values in [0, 1], or of whether a gene is seen at all.

    Values between 0 and 1 count as shares (the cross-entropy). ``parameter`` is there for the interface
    and has no gradient.
    """

    centre: Tensor
    scale: Tensor
    sees: Tensor

    def __init__(self, n_fits: int, n_genes: int) -> None:
        super().__init__(n_fits, n_genes)
        self.register_buffer("centre", torch.zeros(n_fits, n_genes))
        self.register_buffer("scale", torch.ones(n_fits, n_genes))
        self.register_buffer("sees", torch.zeros(n_fits, dtype=torch.bool))

    @torch.no_grad()
    def start(self, fit: int, centre: Tensor, scale: Tensor, sees: bool) -> None:
        """How one fit's values follow from the scaled ones: value = scaled * scale + centre, (n_genes,) each.

        ``sees``: the value is then whether that is above 0.
        """
        self.centre[fit], self.scale[fit], self.sees[fit] = centre, scale, sees

    def target(self, batch: Batch) -> Tensor:
        values = with_fits(batch.x) * self.scale[:, None] + self.centre[:, None]
        return torch.where(self.sees[:, None, None], (values > _SEEN).float(), values.clamp(0, 1))

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        n_cells = predictor.shape[1]
        value = -self.log_prob(predictor, target).sum((1, 2)) / n_cells
        return value, predictor.sigmoid_().sub_(target).div_(n_cells), None

    def log_prob(self, predictor: Tensor, target: Tensor) -> Tensor:
        return target * predictor - nn.functional.softplus(predictor)

    def mean(self, predictor: Tensor) -> Tensor:
        return predictor.sigmoid()

    def prior_loss(self) -> Tensor:
        return self.parameter.detach().new_zeros(len(self.parameter))

    def after_step(self) -> None:
        """Nothing is learned."""


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
