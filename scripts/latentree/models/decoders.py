"""Decoders of a Sparse VAE: the mean of each gene given the factors that its weights let through.

A decoder answers three questions: the mean of all genes for some latents, what each factor does to it, and
the Gaussian negative log-likelihood of a batch with its gradients.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from latentree.models.fused_decoder import FusedGaussianLoss, Network, network_mean
from latentree.models.layers import linear

# of a normal density, per gene
_NORMALISER = 0.5 * math.log(2 * math.pi)


class Decoder(nn.Module, ABC):
    """Gene means from latents z (n_cells, n_factors) and weights (n_genes, n_factors)."""

    offset: nn.Parameter

    @abstractmethod
    def mean(self, z: Tensor, weights: Tensor) -> Tensor:
        """(n_cells, n_genes)."""

    @abstractmethod
    def negative_log_likelihood(self, x: Tensor, z: Tensor, weights: Tensor, log_sigma: Tensor) -> Tensor:
        """Sum over genes, mean over cells, of -log N(x; mean, exp(log_sigma)^2).

        Parameters
        ----------
        x
            (n_cells, n_genes).
        z
            (n_cells, n_factors).
        weights
            (n_genes, n_factors).
        log_sigma
            (n_genes,).

        Returns
        -------
        A scalar with gradients to z, weights, log_sigma and the decoder's parameters.
        """

    @torch.no_grad()
    def effects(self, z: Tensor, weights: Tensor) -> Tensor:
        """Change of each gene's mean per unit of each factor over the cells z: (n_genes, n_factors).

        What a factor does in a cell is the mean there less the mean with that factor at its average; the
        effect is the least-squares slope of that on the factor. So cells that use a factor count for it,
        however few they are, where an average of derivatives would mostly tell of those that do not.
        Exactly zero where the weight is; the weight itself where the mean is linear.
        """
        mean = self.mean(z, weights)
        deviations = z - z.mean(0)
        effects = torch.zeros_like(weights)
        for k in range(z.shape[1]):
            without = z.clone()
            without[:, k] = z[:, k].mean()
            square = deviations[:, k].square().sum()
            if square > 0:
                effects[:, k] = (mean - self.mean(without, weights)).T @ deviations[:, k] / square
        return effects.masked_fill(weights == 0, 0)

    def after_step(self) -> None:
        """Restore what an optimiser step may break; by default nothing."""

    def ridge(self) -> Tensor:
        """Sum of the squared parameters that make the decoder non-linear; a scalar."""
        return self.offset.new_zeros(())


class LinearDecoder(Decoder):
    """mean_j = offset_j + w_j . z."""

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(n_genes))

    def mean(self, z: Tensor, weights: Tensor) -> Tensor:
        return torch.addmm(self.offset, z, weights.T)

    def negative_log_likelihood(self, x: Tensor, z: Tensor, weights: Tensor, log_sigma: Tensor) -> Tensor:
        standardised = (x - self.mean(z, weights)) * torch.exp(-log_sigma)
        return 0.5 * standardised.square().sum(1).mean() + log_sigma.sum() + _NORMALISER * len(log_sigma)

    def effects(self, z: Tensor, weights: Tensor) -> Tensor:
        return weights


class SharedMLPDecoder(Decoder):
    """mean_j = offset_j + [w_j . z] + head_j . relu(second relu(first (w_j * z)) + bias).

    One network for all genes (Moran et al. 2022); only the heads and the weights belong to a gene. The
    first layer has no bias: a gene without weights is constant.

    Parameters
    ----------
    n_genes, n_factors, n_hidden
        Sizes.
    residual
        True: the linear path in brackets is there, the heads start at zero (the fit starts as a linear
        factor model) and the columns of ``first`` keep length 1, so that the size of a weight means
        something. False: the paper's form.
    generator
        Source of the starting parameters.
    """

    def __init__(
        self, n_genes: int, n_factors: int, n_hidden: int, residual: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.residual = residual
        self.first = linear(n_factors, n_hidden, generator, bias=False)
        self.second = linear(n_hidden, n_hidden, generator)
        # one head per gene; the offset is its bias
        self.heads = linear(n_hidden, n_genes, generator, bias=False).weight
        self.offset = nn.Parameter(torch.zeros(n_genes))
        if residual:
            nn.init.zeros_(self.heads)
            self.after_step()

    @torch.no_grad()
    def after_step(self) -> None:
        if self.residual:
            self.first.weight /= self.first.weight.norm(dim=0, keepdim=True).clamp_min(1e-12)

    def ridge(self) -> Tensor:
        return self.heads.square().sum()

    @torch.no_grad()
    def mean(self, z: Tensor, weights: Tensor) -> Tensor:
        return self._base(z, weights) + network_mean(z, weights, self._network())

    def negative_log_likelihood(self, x: Tensor, z: Tensor, weights: Tensor, log_sigma: Tensor) -> Tensor:
        network = self._network()
        loss: Tensor = FusedGaussianLoss.apply(
            self._base(z, weights),
            z,
            weights,
            network.first,
            network.second,
            network.bias,
            network.heads,
            log_sigma,
            x,
        )
        return loss + _NORMALISER * len(log_sigma)

    def _network(self) -> Network:
        return Network(self.first.weight, self.second.weight, self.second.bias, self.heads)

    def _base(self, z: Tensor, weights: Tensor) -> Tensor:
        if self.residual:
            return torch.addmm(self.offset, z, weights.T)
        return self.offset.expand(z.shape[0], -1)
