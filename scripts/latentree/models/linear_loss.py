"""Likelihood of predictors linear in known features, with hand-written gradients, by blocks of genes.

Nothing of size n_cells x n_genes is kept: a block's predictor, its likelihood and its share of the gradients
are made while they are in the cache.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from latentree.models.likelihoods import Likelihood

BLOCK_VALUES = 2**16
"""Values (n_fits * n_cells * genes) of a block: with a likelihood's temporaries they fit into an L2 cache."""


class LinearLoss(torch.autograd.Function):
    """Negative log-likelihood of ``offset_j + cell_offset_i + features_i . weights_j``."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weights: Tensor,
        offset: Tensor,
        parameter: Tensor,
        cell_offset: Tensor | None,
        target: Tensor,
        likelihood: Likelihood,
    ) -> Tensor:
        """Sum over genes, mean over cells, (n_fits,).

        Parameters
        ----------
        features
            (n_fits, n_cells, n_features).
        weights
            (n_fits, n_genes, n_features).
        offset, parameter
            (n_fits, n_genes); ``parameter`` is the likelihood's, handed in for its gradient.
        cell_offset
            (n_fits, n_cells, 1 or n_genes) or None; one per gene has a gradient.
        target
            (n_fits, n_cells, n_genes).
        """
        value = features.new_zeros(len(features))
        in_features = torch.zeros_like(features)
        in_weights, in_offset, in_parameter = map(torch.empty_like, (weights, offset, parameter))
        in_cells = torch.empty_like(target) if _by_gene(cell_offset) else None
        learned = True
        for genes in gene_blocks(features.shape[0] * features.shape[1], weights.shape[1]):
            predictor = predicted(
                features, weights[:, genes], offset[:, genes], _of_genes(cell_offset, genes)
            )
            terms, in_predictor, in_block = likelihood.terms(predictor, target[:, :, genes], genes)
            value += terms
            in_offset[:, genes] = in_predictor.sum(1)
            in_weights[:, genes] = in_predictor.transpose(1, 2) @ features
            in_features.baddbmm_(in_predictor, weights[:, genes])
            if in_cells is not None:
                in_cells[:, :, genes] = in_predictor
            learned = in_block is not None
            if in_block is not None:
                in_parameter[:, genes] = in_block
        learned_parameter = in_parameter if learned else None
        ctx.save_for_backward(in_features, in_weights, in_offset, learned_parameter, in_cells)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        in_features, in_weights, in_offset, in_parameter, in_cells = ctx.saved_tensors
        each, matrix = gradient[:, None], gradient[:, None, None]
        return (
            in_features * matrix,
            in_weights * matrix,
            in_offset * each,
            None if in_parameter is None else in_parameter * each,
            None if in_cells is None else in_cells * matrix,
            None,
            None,
        )


def predicted(features: Tensor, weights: Tensor, offset: Tensor, cell_offset: Tensor | None) -> Tensor:
    """The linear predictor, (n_fits, n_cells, n_genes); arguments as in :class:`LinearLoss`."""
    predictor = torch.baddbmm(offset[:, None], features, weights.transpose(1, 2))
    return predictor if cell_offset is None else predictor.add_(cell_offset)


def _by_gene(cell_offset: Tensor | None) -> bool:
    return cell_offset is not None and cell_offset.shape[2] > 1


def _of_genes(cell_offset: Tensor | None, genes: slice) -> Tensor | None:
    return cell_offset[:, :, genes] if cell_offset is not None and _by_gene(cell_offset) else cell_offset


def gene_blocks(n_rows: int, n_genes: int) -> list[slice]:
    """Slices over the genes such that a block of ``n_rows`` cells holds about ``BLOCK_VALUES``."""
    size = max(16, BLOCK_VALUES // max(1, n_rows))
    return [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]
