"""Encoder of a Sparse VAE: a normal posterior for each cell, its mean started at known factor scores."""

import torch
from torch import Tensor, nn

from latentree.models.layers import linear


class ScoreEncoder(nn.Module):
    """q(z | x) = N(x @ scores @ mixing + network mean, diag exp(network log-variance)).

    The scores stay as they were given; what is learned is how they mix. So the factors can become
    correlated, which no rotation allows, and the span of the latents is still that of the scores: with a
    few thousand cells, a matrix of genes x factors that moves freely over-fits (measured on zheng2017).

    Parameters
    ----------
    n_genes, n_factors, n_hidden
        Sizes; the network has two hidden layers (Moran et al. 2022).
    has_scores
        The first term is there. The network's outputs then start at zero mean and a constant variance.
    network_mean
        The second term is there. Without it the network gives the variance alone.
    generator
        Source of the starting parameters.
    """

    scores: Tensor

    def __init__(
        self,
        n_genes: int,
        n_factors: int,
        n_hidden: int,
        has_scores: bool,
        network_mean: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.hidden1 = linear(n_genes, n_hidden, generator)
        self.hidden2 = linear(n_hidden, n_hidden, generator)
        self.log_variance = linear(n_hidden, n_factors, generator)
        self.mean = linear(n_hidden, n_factors, generator) if network_mean else None
        self.mixing: nn.Parameter | None = None
        if has_scores:
            self.mixing = nn.Parameter(torch.eye(n_factors))
            self.register_buffer("scores", torch.zeros(n_genes, n_factors))
            nn.init.zeros_(self.log_variance.weight)
            if self.mean is not None:
                nn.init.zeros_(self.mean.weight)
                nn.init.zeros_(self.mean.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and log-variance, (n_cells, n_factors) each, of cells (n_cells, n_genes)."""
        hidden = torch.relu(self.hidden2(torch.relu(self.hidden1(x))))
        mean = x.new_zeros(()) if self.mean is None else self.mean(hidden)
        if self.mixing is not None:
            mean = mean + x @ self.scores @ self.mixing
        return mean, self.log_variance(hidden)

    @torch.no_grad()
    def start_at(self, scores: Tensor, posterior_variance: Tensor) -> None:
        """Take over scores (n_genes, n_factors), and start the variance at (n_factors,)."""
        if self.mixing is not None:
            self.scores.copy_(scores)
            self.log_variance.bias.copy_(posterior_variance.log())

    def mixing_distance(self) -> Tensor:
        """Squared distance of the mixing matrix from none at all; a scalar, 0 without scores."""
        if self.mixing is None:
            return self.hidden1.weight.new_zeros(())
        identity = torch.eye(len(self.mixing), dtype=self.mixing.dtype, device=self.mixing.device)
        return (self.mixing - identity).square().sum()
