"""Muon (Jordan et al. 2024): momentum made orthogonal, for the matrices inside a network.

Torch's own works in bfloat16, which is slow on most CPUs, and loads torch's compiler (see adam.py).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

# the quintic whose iteration drives all singular values towards 1 (Jordan et al. 2024)
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon:
    """Steps on matrices along their orthogonalised momentum.

    Parameters
    ----------
    groups
        Each with "params", matrices, and whatever else its user keeps there; "lr" is filled in and may be
        changed between steps.
    lr
        Step size; every singular value of the step is about this large, times the root of
        rows / columns where there are more rows.
    momentum
        Decay of the mean gradient (Nesterov's form).
    n_iterations
        Newton-Schulz iterations; 3 train TBR's network as well as the usual 5.
    """

    def __init__(
        self,
        groups: Iterable[Mapping[str, Any]],
        lr: float = 1e-2,
        momentum: float = 0.95,
        n_iterations: int = 3,
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": lr, **group} for group in groups]
        self.momentum, self.n_iterations = momentum, n_iterations
        self.state: dict[Tensor, Tensor] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move each matrix against its orthogonalised mean gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group["lr"])

    def _move(self, parameter: Tensor, gradient: Tensor, rate: float) -> None:
        mean = self.state.setdefault(parameter, torch.zeros_like(parameter))
        mean.lerp_(gradient, 1 - self.momentum)
        direction = orthogonalised(gradient.lerp(mean, self.momentum), self.n_iterations)
        rows, columns = parameter.shape
        parameter.add_(direction, alpha=-rate * max(1.0, rows / columns) ** 0.5)


def orthogonalised(matrix: Tensor, n_iterations: int) -> Tensor:
    """A matrix of the same shape and singular vectors, with singular values driven towards 1."""
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(n_iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
