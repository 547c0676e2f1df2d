"""Small pieces that the torch models share. All random numbers come from a generator that is handed in."""

import math

import torch
from torch import Tensor, nn


def linear(n_in: int, n_out: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """``nn.Linear`` with torch's own default initialisation, drawn from ``generator``.

    Torch's constructor draws from the global generator, which a library must leave alone.
    """
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=bias)
    bound = 1 / math.sqrt(n_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        if bias:
            layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def noise(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal numbers, drawn on the generator's device (the CPU): every device sees the same."""
    return torch.randn(shape, generator=generator, device=generator.device).to(device)


def dropout(x: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """x with a share ``rate`` of its values set to zero and the others divided by 1 - rate."""
    if rate == 0:
        return x
    kept = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device) >= rate
    return x * kept / (1 - rate)


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_var)) || N(0, I)) of each cell, (n_cells,); inputs (n_cells, n_factors)."""
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(dim=1)


class GaussianNoise(nn.Module):
    """x ~ N(mean, sigma_j^2) with one learned noise level per gene and its inverse-gamma prior.

    The prior is that of Moran et al. (2022): sigma_j^2 ~ InvGamma(df/2, df * scale/2) with df = 3 and scale
    such that P(sigma_j < the 5% quantile of the genes' standard deviations) = .9.
    """

    DF = 3.0
    # the .1 quantile of chi-squared with 3 degrees of freedom
    CHI2_QUANTILE = 0.5843743741551833

    log_sigma: Tensor
    prior_scale: Tensor
    n_train: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.zeros(n_genes))
        self.register_buffer("prior_scale", torch.ones(()))
        self.register_buffer("n_train", torch.ones(()))

    @torch.no_grad()
    def start(self, sd: Tensor, n_train: int) -> None:
        """Noise levels and prior from the training cells.

        Parameters
        ----------
        sd
            (n_genes,) standard deviations of the scaled genes.
        n_train
            Number of training cells; the prior is counted once for all of them.
        """
        self.log_sigma.copy_(sd.clamp(min=1e-3).log())
        estimate = torch.quantile(sd, 0.05).clamp(min=1e-3)
        self.prior_scale.copy_(estimate**2 * self.CHI2_QUANTILE / self.DF)
        self.n_train.fill_(n_train)

    def negative_log_likelihood(self, x: Tensor, mean: Tensor) -> Tensor:
        """Sum over genes of each cell, (n_cells,); x and mean (n_cells, n_genes)."""
        residual = (x - mean) * (-self.log_sigma).exp()
        constant = self.log_sigma.sum() + 0.5 * math.log(2 * math.pi) * x.shape[1]
        return 0.5 * (residual**2).sum(dim=1) + constant

    def prior_loss(self) -> Tensor:
        """Minus the log prior of all noise levels per training cell, up to a constant; a scalar."""
        precision = (-2 * self.log_sigma).exp()
        log_prior = (self.DF + 2) * self.log_sigma + 0.5 * self.DF * self.prior_scale * precision
        return log_prior.sum() / self.n_train
