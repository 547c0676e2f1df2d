"""The shared network of a Sparse VAE on masked latents, a few genes at a time, gradients by hand.

For gene j and cell i the network is ``heads_j . relu(second relu(first (w_j * z_i)) + bias)``. Multiplying
latents by weights first would need (n_cells, n_genes, n_factors); instead weights and first layer are
multiplied into one matrix (n_factors, genes of the chunk x hidden units), so the first layer of a whole chunk
is one matrix product, and so is the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# activations (cells x genes x hidden units) made at a time: 1 MB of float32, which stays in a core's
# cache; measured best between 2**17 and 2**19 for 16 to 100 hidden units
CHUNK_ACTIVATIONS = 2**18


@dataclass(frozen=True)
class Network:
    """Parameters of the network: first (n_hidden, n_factors), second (n_hidden, n_hidden), bias (n_hidden,),
    heads (n_genes, n_hidden)."""

    first: Tensor
    second: Tensor
    bias: Tensor
    heads: Tensor


@dataclass(frozen=True)
class _Activations:
    """Of one chunk: entry (n_factors, genes * n_hidden), the first layer with the weights multiplied in;
    layer1, layer2 (n_cells * genes, n_hidden) after the rectifiers; mean (n_cells, genes)."""

    entry: Tensor
    layer1: Tensor
    layer2: Tensor
    mean: Tensor


def network_mean(z: Tensor, weights: Tensor, network: Network) -> Tensor:
    """The network's output (n_cells, n_genes); keeps no activations.

    Parameters
    ----------
    z
        (n_cells, n_factors).
    weights
        (n_genes, n_factors).
    network
        Its parameters.
    """
    mean = z.new_empty(z.shape[0], weights.shape[0])
    for genes in _gene_chunks(z, network):
        mean[:, genes] = _forward(z, weights[genes], network, genes).mean
    return mean


class FusedGaussianLoss(torch.autograd.Function):
    """Gaussian negative log-likelihood of ``base + network``, with all gradients made in the forward pass.

    The derivative of the likelihood by a chunk's mean is known as soon as the mean is, so that a chunk's
    gradients are finished while its activations are in the cache: three matrix products per layer, where
    recomputing them later would take four and storing them n_cells x n_genes x n_hidden floats.
    """

    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor,
        z: Tensor,
        weights: Tensor,
        first: Tensor,
        second: Tensor,
        bias: Tensor,
        heads: Tensor,
        log_sigma: Tensor,
        x: Tensor,
    ) -> Tensor:
        """Sum over genes, mean over cells, without the constant; a scalar.

        Parameters
        ----------
        base, x
            (n_cells, n_genes): the part of the mean that is not the network's; the values.
        z, weights, log_sigma
            (n_cells, n_factors), (n_genes, n_factors), (n_genes,).
        first, second, bias, heads
            As in :class:`Network`.
        """
        network = Network(first, second, bias, heads)
        precision = torch.exp(-2 * log_sigma)
        in_base, in_weights, in_heads = map(torch.empty_like, (base, weights, heads))
        in_z, in_first, in_second, in_bias = map(torch.zeros_like, (z, first, second, bias))
        for genes in _gene_chunks(z, network):
            done = _forward(z, weights[genes], network, genes)
            in_mean = (base[:, genes] + done.mean - x[:, genes]) * (precision[genes] / z.shape[0])
            at_layer2, at_layer1 = _backward(in_mean, done, network, genes)
            n_hidden = len(bias)
            in_base[:, genes] = in_mean
            in_heads[genes] = (done.layer2.view(len(z), -1, n_hidden) * in_mean.unsqueeze(2)).sum(0)
            in_bias += at_layer2.sum(0)
            in_second.addmm_(at_layer2.T, done.layer1)
            in_entry = (z.T @ at_layer1).view(z.shape[1], -1, n_hidden)
            in_weights[genes] = torch.einsum("kjh,hk->jk", in_entry, first)
            in_first += torch.einsum("kjh,jk->hk", in_entry, weights[genes])
            in_z.addmm_(at_layer1, done.entry.T)
        # the residual is in_base * sigma^2 * n_cells, so its weighted square needs no array of its own
        squares = (in_base.square().sum(0) / precision).mul_(z.shape[0])
        ctx.save_for_backward(in_base, in_z, in_weights, in_first, in_second, in_bias, in_heads, 1 - squares)
        return 0.5 * squares.sum() + log_sigma.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * saved for saved in ctx.saved_tensors), None)


def _gene_chunks(z: Tensor, network: Network) -> Iterator[slice]:
    """Slices over the genes whose activations are at most ``CHUNK_ACTIVATIONS``."""
    n_genes, n_hidden = network.heads.shape
    size = max(1, CHUNK_ACTIVATIONS // (z.shape[0] * n_hidden))
    for start in range(0, n_genes, size):
        yield slice(start, min(start + size, n_genes))


def _forward(z: Tensor, weights: Tensor, network: Network, genes: slice) -> _Activations:
    """Activations of some genes; ``weights`` are theirs, (genes, n_factors)."""
    n_hidden = len(network.bias)
    entry = (weights.T.unsqueeze(2) * network.first.T.unsqueeze(1)).reshape(z.shape[1], -1)
    layer1 = (z @ entry).relu_().view(-1, n_hidden)
    layer2 = torch.addmm(network.bias, layer1, network.second.T).relu_()
    mean = (layer2.view(len(z), -1, n_hidden) * network.heads[genes]).sum(2)
    return _Activations(entry, layer1, layer2, mean)


def _backward(in_mean: Tensor, done: _Activations, network: Network, genes: slice) -> tuple[Tensor, Tensor]:
    """Gradients before the rectifiers: (n_cells * genes, n_hidden) and (n_cells, genes * n_hidden)."""
    n_hidden = len(network.bias)
    at_layer2 = (in_mean.unsqueeze(2) * network.heads[genes]).view(-1, n_hidden)
    at_layer2 = torch.ops.aten.threshold_backward(at_layer2, done.layer2, 0)
    at_layer1 = torch.ops.aten.threshold_backward(at_layer2 @ network.second, done.layer1, 0)
    return at_layer2, at_layer1.view(len(in_mean), -1)
