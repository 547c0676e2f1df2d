"""How far the aggregate posterior of a batch of cells is from a prior (Mathieu et al. 2019, equation 7)."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

KERNEL_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""s of the kernels C / (C + d^2), C = 2s: the paper's code."""

# pairs of values at a time: few enough to stay in a processor's cache
_CHUNK_PAIRS = 2**17


class Density(Protocol):
    """What is needed of a prior."""

    def log_density(self, z: Tensor) -> Tensor:
        """(n,) of (n, n_factors)."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, n_factors)."""


def kl_to_aggregate(
    prior: Density, mean: Tensor, log_var: Tensor, generator: torch.Generator, n_draws: int | None = None
) -> Tensor:
    """KL(p(z) || q(z)) in nats, where q(z) is the mixture of the batch's posteriors; a scalar.

    The mean over draws z ~ p of log p(z) - log(1/B sum_i q(z | x_i)). Gradients go to the posteriors only: a
    learned prior is not moved towards them. A batch's mixture is not that of all cells, so the estimate is
    too large on average, less so in large batches.

    Parameters
    ----------
    prior
        p.
    mean, log_var
        (B, n_factors) of the posteriors of the batch.
    generator
        Source of the draws.
    n_draws
        How many; None: B, as the paper's code has it.
    """
    n_cells = len(mean)
    with torch.no_grad():
        z = prior.sample(n_draws or n_cells, generator).to(mean.device)
        log_p = prior.log_density(z)
    # a product of matrices instead of all differences, which takes a quarter of the time; in single precision
    # it would round away the distance to a narrow posterior
    z, mean, log_var = z.double(), mean.double(), log_var.double()
    precision = (-log_var).exp()
    constants = -0.5 * (mean.square() * precision + log_var + math.log(2 * math.pi)).sum(dim=1)
    of_draws, of_cells = torch.cat([-0.5 * z.square(), z], 1), torch.cat([precision, mean * precision], 1)
    log_q = torch.addmm(constants, of_draws, of_cells.T)
    return (log_p - log_q.logsumexp(dim=1) + math.log(n_cells)).mean().to(log_p.dtype)


def marginal_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Squared maximum mean discrepancies of each latent's two samples, summed over latents and kernels.

    Inverse multiquadratic kernels C / (C + d^2) on one latent at a time, so that how latents depend on each
    other does not count. The unbiased estimate, so it may be below 0. Not averaged over latents or kernels.

    Parameters
    ----------
    x
        (n, n_factors) draws from the prior; get no gradients.
    y
        (m, n_factors) draws from the posteriors.

    Returns
    -------
    A scalar; 0 where there are fewer than two of either.
    """
    if min(len(x), len(y)) < 2:
        return y.sum() * 0
    value: Tensor = _MarginalMMD.apply(x, y)
    return value


class _MarginalMMD(torch.autograd.Function):
    """The derivatives by hand, on the way: a graph of six kernels of all pairs is large and slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        n, m = len(x), len(y)
        among_x, _ = _sums(x, x)
        among_y, slope_y = _sums(y, y)
        across, slope_x = _sums(y, x)
        # a value is no pair with itself
        n_own = len(KERNEL_SCALES) * x.shape[1]
        own_x, own_y = (among_x - n * n_own) / (n * (n - 1)), (among_y - m * n_own) / (m * (m - 1))
        ctx.save_for_backward(2 * slope_y / (m * (m - 1)) - 2 * slope_x / (n * m))
        return own_x + own_y - 2 * across / (n * m)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        (slopes,) = ctx.saved_tensors
        return None, gradient * slopes


def _sums(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of all kernels of all pairs of a (n, K) and b (m, K), and its derivative by a as one argument."""
    total = a.new_zeros(())
    slopes = torch.empty_like(a)
    step = max(1, _CHUNK_PAIRS // (len(a) * len(b)))
    for start in range(0, a.shape[1], step):
        columns = slice(start, start + step)
        # (columns, n, m)
        apart = a.T[columns, :, None] - b.T[columns, None]
        squares = apart.square()
        slope = torch.zeros_like(squares)
        for scale in KERNEL_SCALES:
            kernel = (squares + 2 * scale).reciprocal_()
            total += 2 * scale * kernel.sum()
            # of C / (C + d^2) by d: -2 d C / (C + d^2)^2
            slope.addcmul_(kernel, kernel, value=-4 * scale)
        slopes[:, columns] = slope.mul_(apart).sum(dim=2).T
    return total, slopes
