"""Mappings g of InteL-VAE (Miao et al. 2022) that bend the prior: identity, circle, two holes, hierarchy.

A mapping sends the intermediary code y ~ N(0, I) to the latents z = g(y), both (n_cells, n_factors). It is
continuous and its gradient is finite everywhere, at 0 too. Sectors and the sparse selector have files of
their own.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from latentree.models.layers import linear

# added to squared lengths: the gradient of a square root at 0 is not a number
_TINY = 1e-6


class Mapping(nn.Module):
    """The base of all mappings, and the identity, with which InteL-VAE is a VAE."""

    least_factors: int = 1
    """Coordinates that the mapping needs."""

    has_penalty: bool = False
    """Whether :meth:`penalty` says anything."""

    about_zero: bool = False
    """Whether codes are told apart by their direction from 0, around which the encoder must start."""

    steep: bool = False
    """Whether slopes are so large somewhere that gradients must be clipped."""

    def forward(self, y: Tensor) -> Tensor:
        """z = g(y), (n_cells, n_factors)."""
        return y

    def penalty(self, y: Tensor) -> Tensor:
        """The regulariser R of a batch of codes (n_cells, n_factors), a scalar to be minimised."""
        return y.new_zeros(())

    def facts(self) -> dict[str, Any]:
        """What was learned, for people: numbers and lists of numbers by name."""
        return {}


class Circle(Mapping):
    """The first two coordinates on the unit circle (section 6.1); the others pass through.

    y / sqrt(|y|^2 + 1e-6): the paper's y / (|y| + eps) has no gradient at 0.
    """

    least_factors = 2
    about_zero = True

    def forward(self, y: Tensor) -> Tensor:
        return torch.cat([_on_circle(y[:, :2]), y[:, 2:]], dim=1)


class TwoHoles(Mapping):
    """The circle with its points (0, 1) and (0, -1) glued together at 0: a figure of eight (Eq. 5).

    The second coordinate of the circle is multiplied by r = sqrt(4/3 - (1 - |c1|)^2) - 1/sqrt(3), which is 0
    where c1 = 0. The paper's text has lost the bracket around r; without it nothing is glued.
    """

    least_factors = 2
    about_zero = True

    def forward(self, y: Tensor) -> Tensor:
        first, second = _on_circle(y[:, :2]).split(1, dim=1)
        pinch = (4 / 3 - (1 - first.abs()) ** 2).sqrt() - 3**-0.5
        return torch.cat([first, second * pinch, y[:, 2:]], dim=1)


class Hierarchy(Mapping):
    """Blocks of coordinates, each built on the one before (Appendix B).

    z_0 = y_0 and z_i = relu(NN_i([z_{i-1}, y_i])) with one layer NN_i. Nothing forces the first block to be
    the coarse one.

    Parameters
    ----------
    blocks
        Sizes of the blocks; their sum is n_factors.
    slope
        Slope of the activation below 0; 0 is the paper's ReLU, whose units can die.
    generator
        Source of the starting weights.
    """

    def __init__(self, blocks: Sequence[int], slope: float, generator: torch.Generator) -> None:
        super().__init__()
        self.blocks, self.slope = list(blocks), slope
        self.least_factors = sum(self.blocks)
        self.steps = nn.ModuleList(
            linear(below + size, size, generator) for below, size in pairwise(self.blocks)
        )

    def forward(self, y: Tensor) -> Tensor:
        first, *rest = y.split(self.blocks, dim=1)
        levels = [first]
        for step, block in zip(self.steps, rest, strict=True):
            hidden = step(torch.cat([levels[-1], block], dim=1))
            levels.append(nn.functional.leaky_relu(hidden, self.slope))
        return torch.cat(levels, dim=1)


def _on_circle(plane: Tensor) -> Tensor:
    """(n_cells, 2) brought to length 1; 0 stays 0."""
    return plane / (plane.square().sum(dim=1, keepdim=True) + _TINY).sqrt()
