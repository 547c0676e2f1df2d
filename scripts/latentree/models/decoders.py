"""Decoders of a Sparse VAE: each gene's predictor from the factors that its weights let through.

Weights are (n_fits, n_genes, n_factors, n_terms): the last axis holds the terms of one factor's effect on a
gene, which come and go together (one term, but for the additive decoder). All tensors carry a leading axis
of fits, 1 for a lone fit.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from latentree.models.fused_decoder import FusedLoss, Network, network_mean
from latentree.models.layers import StackedLinear, uniform
from latentree.models.likelihoods import Likelihood
from latentree.models.linear_loss import LinearLoss, predicted


class Decoder(nn.Module, ABC):
    """Predictors from latents z (n_fits, n_cells, n_factors) and weights."""

    offset: nn.Parameter
    n_terms: int = 1

    @abstractmethod
    def predictor(self, z: Tensor, weights: Tensor) -> Tensor:
        """(n_fits, n_cells, n_genes), without what is known of a cell beforehand."""

    @abstractmethod
    def loss(
        self, z: Tensor, weights: Tensor, likelihood: Likelihood, target: Tensor, cell_offset: Tensor | None
    ) -> Tensor:
        """Sum over genes, mean over cells of the negative log-likelihood, (n_fits,).

        With gradients to z, weights, the likelihood's and the decoder's parameters.

        Parameters
        ----------
        z
            (n_fits, n_cells, n_factors).
        weights
            (n_fits, n_genes, n_factors, n_terms).
        target
            (n_fits, n_cells, n_genes).
        cell_offset
            (n_fits, n_cells, 1), added to the predictor of all genes, or (n_fits, n_cells, n_genes), which
            has a gradient; or None.
        """

    @torch.no_grad()
    def effects(self, z: Tensor, weights: Tensor) -> Tensor:
        """Change of each predictor per unit of each factor over the cells z: (n_fits, n_genes, n_factors).

        What a factor does in a cell is the predictor there less that with the factor at its average; the
        effect is the least-squares slope of that on the factor. So cells that use a factor count for it,
        however few they are, where an average of derivatives would mostly tell of those that do not.
        Exactly zero where the weights are; the weight itself where the predictor is linear.
        """
        predictor = self.predictor(z, weights)
        deviations = z - z.mean(1, keepdim=True)
        effects = torch.zeros_like(weights[..., 0])
        for k in range(z.shape[2]):
            without = z.clone()
            without[..., k] = z[..., k].mean(1, keepdim=True)
            along = deviations[..., k, None]
            change = (predictor - self.predictor(without, weights)).transpose(1, 2) @ along
            effects[..., k] = change[..., 0] / along.square().sum(1).clamp_min(1e-12)
        return effects.masked_fill((weights == 0).all(-1), 0)

    def after_step(self) -> None:
        """Restore what an optimiser step may break; by default nothing."""

    def ridge(self) -> Tensor:
        """Sum of the squared parameters that make the decoder non-linear, (n_fits,)."""
        return self.offset.new_zeros(len(self.offset))


class LinearDecoder(Decoder):
    """predictor_j = offset_j + w_j . z."""

    def __init__(self, n_fits: int, n_genes: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(n_fits, n_genes))

    def terms(self, z: Tensor) -> Tensor:
        """(n_fits, n_cells, n_factors * n_terms): what the weights are multiplied with."""
        return z

    def predictor(self, z: Tensor, weights: Tensor) -> Tensor:
        return predicted(self.terms(z), weights.flatten(2), self.offset, None)

    def loss(
        self, z: Tensor, weights: Tensor, likelihood: Likelihood, target: Tensor, cell_offset: Tensor | None
    ) -> Tensor:
        value: Tensor = LinearLoss.apply(
            self.terms(z),
            weights.flatten(2),
            self.offset,
            likelihood.parameter,
            cell_offset,
            target,
            likelihood,
        )
        return value

    def effects(self, z: Tensor, weights: Tensor) -> Tensor:
        return weights[..., 0]


class AdditiveDecoder(LinearDecoder):
    """predictor_j = offset_j + sum_k (w_jk z_k + sum_p u_jkp relu(z_k - knot_p)).

    A curve of each factor and no interactions: another estimator than the paper's. A factor's terms on a
    gene are penalised by their joint length, so that they are zero together.

    Parameters
    ----------
    n_fits, n_genes
        Sizes.
    n_hinges
        Kinks of a curve, evenly spaced from -1 to 1: z has about unit variance.
    """

    knots: Tensor

    def __init__(self, n_fits: int, n_genes: int, n_hinges: int) -> None:
        super().__init__(n_fits, n_genes)
        self.n_terms = 1 + n_hinges
        self.register_buffer("knots", torch.linspace(-1, 1, n_hinges) if n_hinges > 1 else torch.zeros(1))

    def terms(self, z: Tensor) -> Tensor:
        hinges = torch.relu(z[..., None] - self.knots)
        return torch.cat([z[..., None], hinges], dim=3).flatten(2)

    def effects(self, z: Tensor, weights: Tensor) -> Tensor:
        return Decoder.effects(self, z, weights)


class SharedMLPDecoder(Decoder):
    """predictor_j = offset_j + [w_j . z] + head_j . relu(second relu(first (w_j * z)) + bias).

    One network for all genes (Moran et al. 2022); only the heads and the weights belong to a gene. The
    first layer has no bias: a gene without weights is constant.

    Parameters
    ----------
    n_fits, n_genes, n_factors, n_hidden
        Sizes.
    residual
        True: the linear path in brackets is there, the heads start at zero (the fit starts as a linear
        factor model) and the columns of ``first`` keep length 1, so that the size of a weight means
        something. False: the paper's form.
    precision
        Of the large products.
    generator
        Source of the starting parameters.
    """

    def __init__(
        self,
        n_fits: int,
        n_genes: int,
        n_factors: int,
        n_hidden: int,
        residual: bool,
        precision: torch.dtype,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.residual, self.precision = residual, precision
        self.first = StackedLinear(n_fits, n_factors, n_hidden, generator, bias=False)
        self.second = StackedLinear(n_fits, n_hidden, n_hidden, generator)
        # one head per gene; the offset is its bias
        self.heads = nn.Parameter(uniform((n_fits, n_genes, n_hidden), n_hidden, generator))
        self.offset = nn.Parameter(torch.zeros(n_fits, n_genes))
        if residual:
            nn.init.zeros_(self.heads)
            self.after_step()

    @torch.no_grad()
    def after_step(self) -> None:
        if self.residual:
            weight = self.first.weight
            weight.div_(weight.norm(dim=1, keepdim=True).clamp_min(1e-12))

    def ridge(self) -> Tensor:
        return self.heads.square().sum((1, 2))

    @torch.no_grad()
    def start_heads(
        self, fit: int, z: Tensor, weights: Tensor, target: Tensor, variance: Tensor, ridge: float
    ) -> None:
        """Least-squares heads and offsets of one fit, for what its lines leave where it has lines.

        Parameters
        ----------
        z
            (n_cells, n_factors).
        weights
            (n_genes, n_factors).
        target
            (n_cells, n_genes).
        variance
            (n_genes,) of the noise.
        ridge
            Weight of the squared heads in the objective.
        """
        first, second, bias = self.first.weight[fit], self.second.weight[fit], self.second.bias
        assert bias is not None
        identity = torch.eye(len(second), dtype=torch.float64)
        rest = (target - z @ weights.T if self.residual else target).double()
        for gene in torch.nonzero((weights != 0).any(1)).flatten().tolist():
            hidden = torch.relu((z * weights[gene]) @ first.T) @ second.T + bias[fit]
            hidden = torch.relu(hidden).double()
            centre, level = hidden.mean(0), rest[:, gene].mean()
            hidden -= centre
            gram = hidden.T @ hidden / len(z) + (2 * ridge * float(variance[gene]) + 1e-4) * identity
            head = torch.linalg.solve(gram, hidden.T @ (rest[:, gene] - level) / len(z))
            self.heads[fit, gene] = head.float()
            self.offset[fit, gene] = float(level - centre @ head)

    @torch.no_grad()
    def predictor(self, z: Tensor, weights: Tensor) -> Tensor:
        network = network_mean(z, weights[..., 0], self._network())
        return network.add_(self._base(z, weights, None))

    def loss(
        self, z: Tensor, weights: Tensor, likelihood: Likelihood, target: Tensor, cell_offset: Tensor | None
    ) -> Tensor:
        network = self._network()
        value: Tensor = FusedLoss.apply(
            self._base(z, weights, cell_offset),
            z,
            weights[..., 0],
            network.first,
            network.second,
            network.bias,
            network.heads,
            likelihood.parameter,
            target,
            likelihood,
            self.precision,
        )
        return value

    def _network(self) -> Network:
        bias = self.second.bias
        assert bias is not None
        return Network(self.first.weight, self.second.weight, bias, self.heads)

    def _base(self, z: Tensor, weights: Tensor, cell_offset: Tensor | None) -> Tensor:
        if self.residual:
            return predicted(z, weights[..., 0], self.offset, cell_offset)
        base = self.offset[:, None].expand(-1, z.shape[1], -1)
        return base if cell_offset is None else base + cell_offset
