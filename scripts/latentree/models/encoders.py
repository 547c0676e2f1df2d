"""Encoder of a Sparse VAE: a normal posterior for each cell, its mean started at known factor scores."""

import torch
from torch import Tensor, nn

from latentree.models.layers import linear


class ScoreEncoder(nn.Module):
    """q(z | x) = N(x @ scores + network mean, diag exp(network log-variance)).

    Parameters
    ----------
    n_genes, n_factors, n_hidden
        Sizes; the network has two hidden layers (Moran et al. 2022).
    linear_mean
        The first term is there and its matrix ``scores`` starts at a factor model's posterior scores;
        the network's outputs then start at zero mean and a constant variance.
    network_mean
        The second term is there. Without it the network gives the variance alone.
    generator
        Source of the starting parameters.
    """

    start_scores: Tensor

    def __init__(
        self,
        n_genes: int,
        n_factors: int,
        n_hidden: int,
        linear_mean: bool,
        network_mean: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.hidden1 = linear(n_genes, n_hidden, generator)
        self.hidden2 = linear(n_hidden, n_hidden, generator)
        self.log_variance = linear(n_hidden, n_factors, generator)
        self.mean = linear(n_hidden, n_factors, generator) if network_mean else None
        self.scores: nn.Parameter | None = None
        if linear_mean:
            self.scores = nn.Parameter(torch.zeros(n_genes, n_factors))
            self.register_buffer("start_scores", torch.zeros(n_genes, n_factors))
            nn.init.zeros_(self.log_variance.weight)
            if self.mean is not None:
                nn.init.zeros_(self.mean.weight)
                nn.init.zeros_(self.mean.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and log-variance, (n_cells, n_factors) each, of cells (n_cells, n_genes)."""
        hidden = torch.relu(self.hidden2(torch.relu(self.hidden1(x))))
        mean = x.new_zeros(()) if self.mean is None else self.mean(hidden)
        if self.scores is not None:
            mean = mean + x @ self.scores
        return mean, self.log_variance(hidden)

    @torch.no_grad()
    def start_at(self, scores: Tensor, posterior_variance: Tensor) -> None:
        """Start the linear mean at ``scores`` (n_genes, n_factors) and the variance at (n_factors,)."""
        if self.scores is not None:
            self.scores.copy_(scores)
            self.start_scores.copy_(scores)
            self.log_variance.bias.copy_(posterior_variance.log())

    def distance_from_start(self) -> Tensor:
        """Squared distance of the linear mean's matrix from its start; a scalar, 0 without one."""
        if self.scores is None:
            return self.hidden1.weight.new_zeros(())
        return (self.scores - self.start_scores).square().sum()
