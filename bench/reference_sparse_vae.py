"""The Sparse VAE as its reference code computes it: a loop over genes. A baseline of speed, nothing else.

Written from the paper (Moran, Sridhar, Wang, Blei 2022) and a description of its code: one network for all
genes on the masked latents, a head and a column write per gene, averages where the paper has sums, the
spike-and-slab's expectation after every step. Kept out of the graph here, where the original keeps it in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ReferencePriors:
    """Rates of spike and slab, the Beta prior of the slabs' shares, the scale of the noise's prior."""

    lambda0: float = 10.0
    lambda1: float = 1.0
    a: float = 1.0
    degrees: float = 3.0
    scale: float = 0.05


class ReferenceSparseVAE(nn.Module):
    """Encoder n_genes-H-H, decoder n_factors-H-H-1 for one gene at a time."""

    def __init__(self, n_genes: int, n_factors: int, n_hidden: int, batch_size: int) -> None:
        super().__init__()
        self.priors, self.batch_size = ReferencePriors(), batch_size
        self.encoder = nn.Sequential(
            nn.Linear(n_genes, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_hidden), nn.ReLU()
        )
        self.z_mean, self.z_log_var = nn.Linear(n_hidden, n_factors), nn.Linear(n_hidden, n_factors)
        self.generator = nn.Sequential(
            nn.Linear(n_factors, n_hidden, bias=False), nn.ReLU(), nn.Linear(n_hidden, n_hidden), nn.ReLU()
        )
        self.column_means = nn.ModuleList(nn.Linear(n_hidden, 1) for _ in range(n_genes))
        self.weights = nn.Parameter(torch.randn(n_genes, n_factors))
        self.log_sigmas = nn.Parameter(torch.zeros(n_genes))
        self.p_star = torch.full((n_genes, n_factors), 0.5)
        self.thetas = torch.rand(n_factors)

    def decode(self, z: Tensor) -> Tensor:
        """(n_cells, n_genes), gene by gene."""
        means = torch.zeros(len(z), len(self.weights))
        for j, head in enumerate(self.column_means):
            means[:, j] = head(self.generator(z * self.weights[j])).squeeze(1)
        return means

    def loss(self, x: Tensor) -> Tensor:
        """The objective with the reference's scalings."""
        hidden = self.encoder(x)
        mean, log_var = self.z_mean(hidden), self.z_log_var(hidden)
        means = self.decode(mean + torch.randn_like(mean) * (0.5 * log_var).exp())
        priors, n_cells = self.priors, self.batch_size
        misfit = 0.5 * ((x - means) / self.log_sigmas.exp()).square().mean()
        divergence = -0.5 * (1 + log_var - mean.square() - log_var.exp()).mean()
        precisions = (-2 * self.log_sigmas).exp().sum()
        sigma = (n_cells + priors.degrees + 2) * self.log_sigmas.sum()
        sigma = (sigma + 0.5 * priors.degrees * priors.scale * precisions) / n_cells
        rates = priors.lambda1 * self.p_star + priors.lambda0 * (1 - self.p_star)
        return misfit + divergence + sigma + (rates * self.weights.abs()).sum() / n_cells

    @torch.no_grad()
    def expectation(self) -> None:
        """Memberships and the slabs' shares, as the reference has them (the densities' factors left out)."""
        priors, size = self.priors, self.weights.abs()
        slab = self.thetas * torch.exp(-priors.lambda1 * size)
        spike = (1 - self.thetas) * torch.exp(-priors.lambda0 * size)
        self.p_star = slab / (slab + spike)
        n_genes = len(self.weights)
        shares = (self.p_star.sum(0) + priors.a - 1) / (priors.a + n_genes + n_genes - 2)
        self.thetas = shares.clamp_min(1e-10)


class ReferenceFit:
    """Steps of Adam on minibatches of x (n_cells, n_genes) float32, in random order."""

    def __init__(self, x: Tensor, n_factors: int, n_hidden: int, batch_size: int, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.module = ReferenceSparseVAE(x.shape[1], n_factors, n_hidden, batch_size)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-2)
        self.x, self.batch_size = x, batch_size

    def step(self) -> float:
        """One step; its loss."""
        loss = self.module.loss(self.x[torch.randperm(len(self.x))[: self.batch_size]])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.module.expectation()
        return float(loss.detach())
