"""Decoder of groups of genes (oi-VAE, Ainsworth et al. 2018), all groups at once.

Group g of ``n_g`` genes sees the latents only through ``W^(g) z``, ``W^(g)`` of shape (width, n_factors). A
column ``W^(g)_.j`` of zeros means that factor j does not touch the group; the group lasso makes such columns
exactly zero. In code ``W`` is (n_groups, n_factors, width), so the paper's columns are rows here.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latentree.models.layers import noise
from latentree.models.spike_slab import group_soft_threshold, proximal_step

_CPU = torch.device("cpu")


class GroupDecoder(nn.Module):
    """x_j = bias_j + heads_j . f(W^(g) z) for gene j of group g; f is tanh(. + shift_g) or the identity.

    Parameters
    ----------
    member
        (n_genes,) int64 group of each gene.
    n_groups, n_factors, width
        Sizes.
    curved
        True: tanh; False: a group-sparse linear factor model.
    generator
        Source of the starting parameters.
    """

    member: Tensor

    def __init__(
        self,
        member: Tensor,
        n_groups: int,
        n_factors: int,
        width: int,
        curved: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.register_buffer("member", member)
        # linear: above where W ends, so that latents tell cells apart before the group lasso empties any
        size = 1.0 if curved else 2.0
        self.weights = nn.Parameter(size * _orthogonal(n_groups, n_factors, width, generator))
        self.shift = nn.Parameter(torch.zeros(n_groups, width)) if curved else None
        self.heads = nn.Parameter(noise((len(member), width), generator, _CPU) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(len(member)))

    def forward(self, z: Tensor) -> Tensor:
        """(n_cells, n_genes) from latents (n_cells, n_factors)."""
        # groups first, so that genes pick whole rows
        inputs = self.weights.transpose(1, 2) @ z.T
        if self.shift is not None:
            inputs = torch.tanh(inputs + self.shift[:, :, None])
        genes = (inputs[self.member] * self.heads[:, :, None]).sum(1)
        return genes.T + self.bias

    def theta_loss(self) -> Tensor:
        """-log N(theta; 0, I) up to a constant: without it W shrinks while the networks of the groups grow.

        Biases are left out, because they cannot stand in for W.
        """
        loss = 0.5 * self.heads.square().sum()
        return loss if self.shift is None else loss + 0.5 * self.shift.square().sum()

    def norms(self) -> Tensor:
        """(n_groups, n_factors) ||W^(g)_.j||_2, without gradients."""
        return torch.linalg.vector_norm(self.weights.detach(), dim=2)

    @torch.no_grad()
    def start_heads(self, x: Tensor) -> None:
        """Let each group's inputs stand for its principal components among cells x (n_cells, n_genes).

        Random heads cancel each other's gradients, and the group lasso empties W before they agree.
        """
        centred = x - x.mean(0)
        width = self.heads.shape[1]
        for group in range(len(self.weights)):
            genes = (self.member == group).nonzero().flatten()
            values, axes = torch.linalg.eigh(centred[:, genes].T @ centred[:, genes] / len(x))
            # eigh sorts upwards; a group of fewer genes than inputs keeps random heads for the others
            n_axes = min(width, len(genes))
            lengths = values.clamp(min=0).sqrt()
            self.heads[genes, :n_axes] = (axes * lengths)[:, -n_axes:].flip(1)

    @torch.no_grad()
    def sgd_step(self, step_size: float, penalty: Tensor) -> None:
        """Plain gradient step on W and the proximal step of the group lasso (the paper's Algorithm 1).

        ``penalty`` (n_groups, n_factors): weights of the norms.
        """
        assert self.weights.grad is not None
        moved = self.weights - step_size * self.weights.grad
        self.weights.copy_(group_soft_threshold(moved, step_size * penalty))

    def adam_prox(self, state: Mapping[str, Tensor], group: Mapping[str, Any], penalty: Tensor) -> None:
        """The proximal step in Adam's own metric, after Adam has moved W."""
        proximal_step(self.weights, state, group, penalty)


def _orthogonal(n_groups: int, n_factors: int, width: int, generator: torch.Generator) -> Tensor:
    """Random W (n_groups, n_factors, width) whose factors are orthogonal, inputs of variance 1.

    Of independent random columns some are nearly alike, and the group lasso empties one of them for good.
    """
    n_inputs = n_groups * width
    shape = (max(n_inputs, n_factors), min(n_inputs, n_factors))
    axes = torch.linalg.qr(noise(shape, generator, _CPU)).Q
    axes = (axes if n_inputs >= n_factors else axes.T) * math.sqrt(n_inputs / shape[1])
    return axes.reshape(n_groups, width, n_factors).transpose(1, 2).contiguous()
