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
