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


def normal_log_density(y: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(y; mean, diag exp(log_var)) of each cell, (n_cells,); all (n_cells, n_factors)."""
    return -0.5 * ((y - mean) ** 2 * (-log_var).exp() + log_var + math.log(2 * math.pi)).sum(dim=1)


class StackedLinear(nn.Module):
    """``nn.Linear`` for several fits at once: (n_fits, n_cells, n_in) to (n_fits, n_cells, n_out).

    Parameters
    ----------
    n_fits, n_in, n_out
        Sizes; weight (n_fits, n_out, n_in), bias (n_fits, n_out).
    generator
        Source of the starting parameters, which have torch's default distribution.
    bias
        Whether there is one.
    """

    def __init__(
        self, n_fits: int, n_in: int, n_out: int, generator: torch.Generator, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform((n_fits, n_out, n_in), n_in, generator))
        self.bias = nn.Parameter(uniform((n_fits, n_out), n_in, generator)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return x @ self.weight.transpose(1, 2)
        return torch.baddbmm(self.bias[:, None], x, self.weight.transpose(1, 2))


def uniform(shape: tuple[int, ...], n_in: int, generator: torch.Generator) -> Tensor:
    """Starting weights of a layer of ``n_in`` inputs, as torch's own layers have them."""
    bound = 1 / math.sqrt(n_in)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
