"""Prior of the latent factors: N(0, I), or N(0, C) with a correlation matrix C learned from the fit."""

import torch
from torch import Tensor, nn

# C follows the average posterior slowly, and keeps away from singular matrices
_KEEP = 0.98
_SHRINK = 0.05


class FactorPrior(nn.Module):
    """z ~ N(0, C) with unit variances.

    Parameters
    ----------
    n_factors
        Number of factors.
    learned
        True: C is the running average of the posterior's second moments, scaled to a unit diagonal and
        shrunk 5% towards the identity. Without it correlated programs are forced apart, and random starts
        disagree more (docs/methods.md). False: C stays the identity.
    """

    second_moment: Tensor
    correlation: Tensor

    def __init__(self, n_factors: int, learned: bool) -> None:
        super().__init__()
        self.learned = learned
        self.register_buffer("second_moment", torch.eye(n_factors))
        self.register_buffer("correlation", torch.eye(n_factors))

    def divergence(self, mean: Tensor, log_variance: Tensor, alive: Tensor) -> Tensor:
        """KL(N(mean, diag(exp(log_variance))) || N(0, C)) averaged over the cells; a scalar in nats.

        Parameters
        ----------
        mean, log_variance
            (n_cells, n_factors).
        alive
            (n_factors,) bool; the others follow the prior and count nothing.
        """
        mean, log_variance = mean[:, alive], log_variance[:, alive]
        if not self.learned:
            return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        correlation = self.correlation[alive][:, alive]
        factor = torch.linalg.cholesky(correlation)
        precision = torch.cholesky_inverse(factor)
        log_determinant = 2 * factor.diagonal().log().sum()
        quadratic = ((mean @ precision) * mean).sum(1)
        trace = log_variance.exp() @ precision.diagonal()
        return 0.5 * ((quadratic + trace - log_variance.sum(1)).mean() + log_determinant - mean.shape[1])

    @torch.no_grad()
    def update(self, mean: Tensor, log_variance: Tensor) -> None:
        """Follow the second moments of a batch's posterior, (n_cells, n_factors) each, and move C along."""
        moment = mean.T @ mean / mean.shape[0] + torch.diag(log_variance.exp().mean(0))
        self.second_moment.lerp_(moment, 1 - _KEEP)
        if not self.learned:
            return
        scale = self.second_moment.diagonal().rsqrt()
        correlation = self.second_moment * scale[:, None] * scale
        identity = torch.eye(len(scale), dtype=correlation.dtype, device=correlation.device)
        self.correlation.copy_(torch.lerp(correlation, identity, _SHRINK))
