"""The sparse selector of InteL-VAE: a gate on each latent, and what closes most gates (Miao et al. 2022).

The paper's text takes the entropy of the averaged raw gates, its code that of the averaged normalised gates;
here it is the latter, which makes the regulariser minus a Jensen-Shannon divergence.
"""

import torch
from torch import Tensor, nn

from latentree.models.intel_mappings import Mapping
from latentree.models.layers import linear

_HIDDEN = 10
# keeps a row without any open gate, and the logarithm of a share of 0, finite
_TINY = 1e-8


class SparseSelector(Mapping):
    """z = y * d(y) with gates d = sigmoid(MLP(y)) between 0 and 1, MLP n_factors-10-10-n_factors (Eq. 7).

    The released code's gates end at .2 and its regulariser sees |z|; the text's close, and it sees them.

    Parameters
    ----------
    n_factors
        Number of latents.
    penalise_codes
        Whether R is taken of |z| (the released code) instead of the gates (the text).
    generator
        Source of the starting weights.
    """

    has_penalty = True

    def __init__(self, n_factors: int, penalise_codes: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.penalise_codes = penalise_codes
        self.selector = nn.Sequential(
            linear(n_factors, _HIDDEN, generator),
            nn.ReLU(),
            linear(_HIDDEN, _HIDDEN, generator),
            nn.ReLU(),
            linear(_HIDDEN, n_factors, generator),
        )

    def gates(self, y: Tensor) -> Tensor:
        """(n_cells, n_factors) between 0 and 1."""
        return torch.sigmoid(self.selector(y))

    def forward(self, y: Tensor) -> Tensor:
        return y * self.gates(y)

    def penalty(self, y: Tensor) -> Tensor:
        return entropy_gap(self(y).abs() if self.penalise_codes else self.gates(y))


def entropy_gap(sizes: Tensor) -> Tensor:
    """R = mean_i H(p_i) - H(mean_i p_i) of rows p_i = sizes_i / sum_k sizes_ik; to be minimised (Eq. 7).

    Lowest, -log min(n_cells, n_factors), where each cell uses one latent and all are used equally often; 0
    where all cells use the same latents in the same proportions.

    Parameters
    ----------
    sizes
        (n_cells, n_factors), not negative.
    """
    shares = sizes / (sizes.sum(dim=1, keepdim=True) + _TINY)
    return _entropy(shares).mean() - _entropy(shares.mean(dim=0))


def _entropy(shares: Tensor) -> Tensor:
    return -(shares * (shares + _TINY).log()).sum(dim=-1)
