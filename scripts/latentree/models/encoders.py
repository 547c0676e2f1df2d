"""Encoder of a Sparse VAE: a normal posterior for each cell, its mean started at known factor scores."""

from typing import Literal

import torch
from torch import Tensor, nn

from latentree.models.layers import StackedLinear

# log-variance at the start where there are no scores. A posterior as wide as the prior shows the decoder
# only noise, and the weights are at zero before the network wakes up: 5 of 6 fits of the paper's recipe died
_NARROW = -6.0


class ScoreEncoder(nn.Module):
    """q(z | x) = N(x @ scores [@ mixing] [+ network mean], diag exp(network log-variance)).

    The scores stay as they were given; what may be learned is how they mix. So the factors can become more
    correlated than they started, and the span of the latents is still that of the scores: with a few
    thousand cells, a matrix of genes x factors that moves freely over-fits (measured on zheng2017).
    All tensors carry a leading axis of fits.

    Parameters
    ----------
    n_fits, n_genes, n_factors, n_hidden
        Sizes; the network has two hidden layers (Moran et al. 2022).
    has_scores
        The first term is there. The network's outputs then start at zero mean and a constant variance.
    mean
        "scores": the scores as they are. "linear": mixed. "mlp": mixed, and the network's term is there,
        which sees the genes. Without it the network gives the variance alone and sees the scores, of which
        a cell's step then needs nothing else.
    generator
        Source of the starting parameters.
    """

    scores: Tensor

    def __init__(
        self,
        n_fits: int,
        n_genes: int,
        n_factors: int,
        n_hidden: int,
        has_scores: bool,
        mean: Literal["scores", "linear", "mlp"],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.has_scores, self.sees_genes = has_scores, mean == "mlp"
        self.hidden1 = StackedLinear(n_fits, n_genes if self.sees_genes else n_factors, n_hidden, generator)
        self.hidden2 = StackedLinear(n_fits, n_hidden, n_hidden, generator)
        self.log_variance = StackedLinear(n_fits, n_hidden, n_factors, generator)
        self.mean = StackedLinear(n_fits, n_hidden, n_factors, generator) if self.sees_genes else None
        self.mixing: nn.Parameter | None = None
        if not has_scores:
            assert self.log_variance.bias is not None
            nn.init.constant_(self.log_variance.bias, _NARROW)
        if has_scores:
            if mean != "scores":
                self.mixing = nn.Parameter(torch.eye(n_factors).repeat(n_fits, 1, 1))
            self.register_buffer("scores", torch.zeros(n_fits, n_genes, n_factors))
            nn.init.zeros_(self.log_variance.weight)
            if self.mean is not None:
                for parameter in self.mean.parameters():
                    nn.init.zeros_(parameter)

    def scores_of(self, x: Tensor) -> Tensor | None:
        """The first term before it is mixed, (n_fits, n_cells, n_factors), of cells x; fixed in a fit."""
        return x @ self.scores if self.has_scores else None

    def forward(self, x: Tensor, scores: Tensor | None) -> tuple[Tensor, Tensor]:
        """Posterior mean and log-variance, (n_fits, n_cells, n_factors) each.

        Parameters
        ----------
        x
            (n_fits, n_cells, n_genes); not looked at without a network mean.
        scores
            :meth:`scores_of` these cells.
        """
        seen = x if self.sees_genes else scores
        assert seen is not None
        hidden = torch.relu(self.hidden2(torch.relu(self.hidden1(seen))))
        log_variance = self.log_variance(hidden)
        mean = log_variance.new_zeros(()) if self.mean is None else self.mean(hidden)
        if scores is not None:
            mean = mean + (scores if self.mixing is None else scores @ self.mixing)
        return mean, log_variance

    @torch.no_grad()
    def start_at(self, fit: int, scores: Tensor, posterior_variance: Tensor) -> None:
        """Let one fit take over scores (n_genes, n_factors), its variance starting at (n_factors,)."""
        if self.has_scores:
            assert self.log_variance.bias is not None
            self.scores[fit] = scores
            self.log_variance.bias[fit] = posterior_variance.log()

    def mixing_distance(self) -> Tensor:
        """Squared distance of each fit's mixing matrix from none at all, (n_fits,); 0 without one."""
        if self.mixing is None:
            return self.hidden1.weight.new_zeros(len(self.hidden1.weight))
        identity = torch.eye(self.mixing.shape[1], dtype=self.mixing.dtype, device=self.mixing.device)
        return (self.mixing - identity).square().sum((1, 2))
