"""Prior of the latent factors: N(0, I), or N(0, C) with a correlation matrix C learned from the fit."""

import math

import torch
from torch import Tensor, nn

# C follows the average posterior slowly, and keeps away from singular matrices
_KEEP = 0.98
_SHRINK = 0.05


class FactorPrior(nn.Module):
    """z ~ N(0, C) with unit variances; all tensors carry a leading axis of fits.

    Parameters
    ----------
    n_fits, n_factors
        Sizes.
    learned
        True: C is the running average of the posterior's second moments, scaled to a unit diagonal and
        shrunk 5% towards the identity. Without it correlated programs are forced apart, and random starts
        disagree more (docs/sparse_vae.md). False: C stays the identity.
    """

    second_moment: Tensor
    correlation: Tensor
    precision: Tensor
    log_determinant: Tensor

    def __init__(self, n_fits: int, n_factors: int, learned: bool) -> None:
        super().__init__()
        self.learned = learned
        identity = torch.eye(n_factors).repeat(n_fits, 1, 1)
        for name in ("second_moment", "correlation", "precision"):
            self.register_buffer(name, identity.clone())
        self.register_buffer("log_determinant", torch.zeros(n_fits))

    @torch.no_grad()
    def start_at(self, fit: int, correlation: Tensor) -> None:
        """Let one fit start from the correlation (n_factors, n_factors) of its factors."""
        self.second_moment[fit] = correlation
        if self.learned:
            self._follow(self.correlation.new_ones(self.correlation.shape[:2]))

    def divergence(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """KL(N(mean, diag(exp(log_variance))) || N(0, C)) averaged over the cells, (n_fits,) in nats.

        Parameters
        ----------
        mean, log_variance
            (n_fits, n_cells, n_factors); both 0 for an emptied factor, which then counts nothing.
        """
        variance = log_variance.exp()
        quadratic = torch.linalg.vecdot(mean @ self.precision, mean) if self.learned else mean.square().sum(2)
        diagonal = self.precision.diagonal(dim1=1, dim2=2)[:, None]
        own = (variance * diagonal - log_variance).sum(2)
        return 0.5 * ((quadratic + own).mean(1) + self.log_determinant - mean.shape[2])

    def log_density(self, z: Tensor) -> Tensor:
        """log N(z; 0, C) of each cell, (n_fits, n_cells); z (n_fits, n_cells, n_factors)."""
        quadratic = torch.linalg.vecdot(z @ self.precision, z)
        return -0.5 * (quadratic + self.log_determinant[:, None] + z.shape[2] * math.log(2 * math.pi))

    @torch.no_grad()
    def update(self, mean: Tensor, log_variance: Tensor, alive: Tensor) -> None:
        """Follow the second moments of a batch's posterior, (n_fits, n_cells, n_factors) each, and move C.

        ``alive`` (n_fits, n_factors) bool: an emptied factor is independent of the others.
        """
        moment = mean.transpose(1, 2) @ mean / mean.shape[1]
        moment.diagonal(dim1=1, dim2=2).add_(log_variance.exp().mean(1))
        self.second_moment.lerp_(moment, 1 - _KEEP)
        if self.learned:
            self._follow(alive)

    def _follow(self, alive: Tensor) -> None:
        """C and what is computed from it, from the second moments."""
        scale = self.second_moment.diagonal(dim1=1, dim2=2).rsqrt() * alive
        correlation = self.second_moment * (scale[:, :, None] * scale[:, None]).mul_(1 - _SHRINK)
        correlation.diagonal(dim1=1, dim2=2).fill_(1.0)
        factor = torch.linalg.cholesky(correlation)
        self.correlation.copy_(correlation)
        self.precision.copy_(torch.cholesky_inverse(factor))
        self.log_determinant.copy_(2 * factor.diagonal(dim1=1, dim2=2).log().sum(1))
