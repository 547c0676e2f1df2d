"""The shared network of a Sparse VAE on masked latents, a few genes at a time, gradients by hand.

For gene j and cell i the network is ``heads_j . relu(second relu(first (w_j * z_i)) + bias)``. Multiplying
latents by weights first would need (n_cells, n_genes, n_factors); instead weights and first layer are
multiplied into one matrix (n_factors, genes of the chunk x n_hidden), so the first layer of a whole chunk is
one matrix product, and so is the second.

All tensors carry a leading axis of fits (n_fits, 1 for a lone fit), which makes the products batched. A lone
fit's leave it out on the way, because a plain matrix product is the faster one.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# activations (fits x cells x genes x hidden units) made at a time. On a CPU 1 MB of float32 for each of
# three buffers; a GPU is kept busy by large products only.
CHUNK_ACTIVATIONS = 2**18
CHUNK_ACTIVATIONS_GPU = 2**26


class Network(NamedTuple):
    """Parameters of the network: first (n_fits, n_hidden, n_factors), second (n_fits, n_hidden, n_hidden),
    bias (n_fits, n_hidden), heads (n_fits, n_genes, n_hidden)."""

    first: Tensor
    second: Tensor
    bias: Tensor
    heads: Tensor


class Likelihood(Protocol):
    """A distribution of each value given its predictor, with one parameter per gene."""

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        """Negative log-likelihood of some genes and its derivatives.

        Parameters
        ----------
        predictor, target
            (n_fits, n_cells, genes); the predictor may be overwritten.
        genes
            Which genes these are.

        Returns
        -------
        Sum over genes of the mean over cells, (n_fits,); its derivatives by the predictor,
        (n_fits, n_cells, genes), and by the parameter, (n_fits, genes), or None where it is not learned.
        """


@torch.no_grad()
def network_mean(
    z: Tensor, weights: Tensor, network: Network, precision: torch.dtype = torch.float32
) -> Tensor:
    """The network's output (n_fits, n_cells, n_genes); keeps no activations, has no gradients.

    Parameters
    ----------
    z
        (n_fits, n_cells, n_factors).
    weights
        (n_fits, n_genes, n_factors).
    network, precision
        As for :class:`FusedLoss`.
    """
    means = z.new_empty(*z.shape[:2], weights.shape[1])
    for chunk in (sweep := _Sweep(z, weights, network, precision)).chunks():
        means[:, :, chunk.genes] = sweep.mean(chunk)[0]
    return means


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16, without which they only cost time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # not in every torch that the library allows
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class FusedLoss(torch.autograd.Function):
    """Negative log-likelihood of ``base + network``, with all gradients made in the forward pass.

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
        parameter: Tensor,
        target: Tensor,
        likelihood: Likelihood,
        precision: torch.dtype,
    ) -> Tensor:
        """Sum over genes, mean over cells, (n_fits,).

        Parameters
        ----------
        base, target
            (n_fits, n_cells, n_genes): the part of the predictor that is not the network's; the values.
        z, weights
            (n_fits, n_cells, n_factors), (n_fits, n_genes, n_factors).
        first, second, bias, heads
            As in :class:`Network`.
        likelihood, parameter
            The distribution, and its parameter (n_fits, n_genes) for autograd to follow.
        precision
            bfloat16 rounds the factors of the products of hidden with hidden units and what these give for
            a chunk; parameters, sums over chunks and all else keep their type. Any other: no rounding. Worth
            it where :func:`multiplies_bfloat16` says so.
        """
        sweep = _Sweep(z, weights, Network(first, second, bias, heads), precision)
        gradients = _Gradients(sweep)
        losses, in_base, in_parameter = [], [], []
        bases, targets = (values.split(sweep.chunk_size, 2) for values in (base, target))
        for chunk, chunk_base, chunk_target in zip(sweep.chunks(), bases, targets, strict=True):
            mean, layer2_by_gene = sweep.mean(chunk)
            value, in_mean, in_chunk = likelihood.terms(mean.add_(chunk_base), chunk_target, chunk.genes)
            losses.append(value)
            in_base.append(in_mean)
            if in_chunk is not None:
                in_parameter.append(in_chunk)
            gradients.add(chunk, in_mean, layer2_by_gene)
        ctx.save_for_backward(
            torch.cat(in_base, 2),
            *gradients.finished(),
            torch.cat(in_parameter, 1) if in_parameter else None,
        )
        return torch.stack(losses).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (
            None if saved is None else saved * gradient.view(-1, *(1,) * (saved.dim() - 1))
            for saved in ctx.saved_tensors
        )
        return (*scaled, None, None, None)


class _Room(NamedTuple):
    """Memory for the activations of a chunk of genes, and then for their gradients.

    Each is (.., n_cells * genes, n_hidden), or the same memory seen as _wide (.., n_cells, genes * n_hidden)
    or as _split (n_fits, n_cells, genes, n_hidden). Those that end in _factor are what the products of
    hidden with hidden units take: the same memory, or copies that are rounded.
    """

    layer1: Tensor
    layer1_wide: Tensor
    layer1_factor: Tensor
    layer2: Tensor
    layer2_split: Tensor
    layer2_factor: Tensor
    scratch: Tensor
    scratch_wide: Tensor
    scratch_split: Tensor
    scratch_factor: Tensor


class _Chunk(NamedTuple):
    """Some genes: weights (n_fits * n_factors, 1, genes), heads (n_fits * genes, 1, n_hidden) and the first
    layer with the weights multiplied in, entry (.., n_factors, genes * n_hidden)."""

    genes: slice
    weights: Tensor
    heads: Tensor
    entry: Tensor
    room: _Room


class _Sweep:
    """The network over all genes, chunk by chunk; ".." in shapes is n_fits, or nothing for a lone fit."""

    def __init__(self, z: Tensor, weights: Tensor, network: Network, precision: torch.dtype) -> None:
        self.n_fits, self.n_cells, _ = z.shape
        self.n_genes, self.n_hidden = network.heads.shape[1:]
        factor = precision if precision is torch.bfloat16 else z.dtype
        self.z, self.heads = _lone(z), network.heads
        # each factor of each fit by itself
        self.weights = weights.mT.reshape(-1, 1, self.n_genes)
        self.first = network.first.mT.reshape(-1, 1, self.n_hidden)
        self.second = _lone(network.second).to(factor)
        self.second_t = self.second.mT
        self.bias = _lone(network.bias).unsqueeze(-2).to(factor)
        limit = CHUNK_ACTIVATIONS_GPU if z.is_cuda else CHUNK_ACTIVATIONS
        most = max(1, limit // (self.n_fits * self.n_cells * self.n_hidden))
        # as few chunks as that allows, of nearly the same size
        self.chunk_size = -(-self.n_genes // -(-self.n_genes // most))
        n_activations = self.n_fits * self.n_cells * self.chunk_size * self.n_hidden
        self._exact = z.new_empty(3, n_activations)
        self._factors = self._exact if factor is z.dtype else z.new_empty(3, n_activations, dtype=factor)

    def chunks(self) -> Iterator[_Chunk]:
        """All genes; the chunks use the same room, one after the other."""
        weights, heads = self.weights.split(self.chunk_size, 2), self.heads.split(self.chunk_size, 1)
        start, room = 0, self._room(self.chunk_size)
        for chunk_weights, chunk_heads in zip(weights, heads, strict=True):
            size = chunk_weights.shape[2]
            if size < self.chunk_size:
                room = self._room(size)
            entry = (chunk_weights.mT * self.first).view(*self.z.shape[:-2], -1, size * self.n_hidden)
            by_gene = chunk_heads.reshape(-1, 1, self.n_hidden)
            yield _Chunk(slice(start, start + size), chunk_weights, by_gene, entry, room)
            start += size

    def mean(self, chunk: _Chunk) -> tuple[Tensor, Tensor]:
        """Output (n_fits, n_cells, genes), and the second layer (n_fits * genes, n_cells, n_hidden)."""
        room = chunk.room
        torch.matmul(self.z, chunk.entry, out=room.layer1_wide).clamp_min_(0)
        _copy(room.layer1_factor, room.layer1)
        affine = torch.addmm if self.n_fits == 1 else torch.baddbmm
        affine(self.bias, room.layer1_factor, self.second_t, out=room.layer2_factor).clamp_min_(0)
        _copy(room.layer2, room.layer2_factor)
        layer2_by_gene = room.layer2_split.transpose(1, 2).flatten(0, 1)
        # this order of the factors, because products with one column are slow
        mean = torch.bmm(chunk.heads, layer2_by_gene.mT)
        return mean.view(self.n_fits, -1, self.n_cells).mT, layer2_by_gene

    def _room(self, size: int) -> _Room:
        """For so many genes."""
        n_cells, n_hidden = self.n_cells, self.n_hidden
        lead = () if self.n_fits == 1 else (self.n_fits,)
        n_activations = self.n_fits * n_cells * size * n_hidden
        exact = [buffer[:n_activations] for buffer in self._exact]
        flat = [buffer.view(*lead, n_cells * size, n_hidden) for buffer in exact]
        wide = [buffer.view(*lead, n_cells, size * n_hidden) for buffer in exact]
        split = [buffer.view(self.n_fits, n_cells, size, n_hidden) for buffer in exact]
        factors = [buffer[:n_activations].view_as(flat[0]) for buffer in self._factors]
        if self._factors is self._exact:
            factors = flat
        return _Room(
            flat[0], wide[0], factors[0],
            flat[1], split[1], factors[1],
            flat[2], wide[2], split[2], factors[2],
        )  # fmt: skip


class _Gradients:
    """Sums over the chunks of the gradients by what a sweep is given; ".." as there."""

    def __init__(self, sweep: _Sweep) -> None:
        self._sweep = sweep
        self._z_t = sweep.z.mT.contiguous()
        self._in_z_t = torch.zeros_like(self._z_t)
        # by the first layer with the weights multiplied in; all of it, because small sums are slow
        self._in_entry = sweep.z.new_empty(*self._z_t.shape[:-1], sweep.n_genes * sweep.n_hidden)
        self._in_second = torch.zeros_like(sweep.second, dtype=sweep.z.dtype)
        self._in_bias = torch.zeros_like(sweep.bias.squeeze(-2), dtype=sweep.z.dtype)
        self._in_heads: list[Tensor] = []

    def add(self, chunk: _Chunk, in_mean: Tensor, layer2_by_gene: Tensor) -> None:
        """A chunk's share, from the derivative by its mean (n_fits, n_cells, genes) and its layers."""
        room, n_fits, n_hidden = chunk.room, len(in_mean), self._sweep.n_hidden
        in_heads = torch.bmm(in_mean.mT.reshape(-1, 1, self._sweep.n_cells), layer2_by_gene)
        self._in_heads.append(in_heads.view(n_fits, -1, n_hidden))
        # gradient before the second rectifier, in the place of what came after it
        torch.mul(in_mean.unsqueeze(3), chunk.heads.view(n_fits, 1, -1, n_hidden), out=room.scratch_split)
        _rectified(room.scratch, room.layer2, out=room.layer2)
        self._in_bias += room.layer2.sum(-2)
        _copy(room.layer2_factor, room.layer2)
        _add_product(self._in_second, room.layer2_factor.mT, room.layer1_factor)
        torch.matmul(room.layer2_factor, self._sweep.second, out=room.scratch_factor)
        _copy(room.scratch, room.scratch_factor)
        _rectified(room.scratch, room.layer1, out=room.scratch)
        # this way round, because products with a few columns are slow
        _add_product(self._in_z_t, chunk.entry, room.scratch_wide.mT)
        columns = slice(chunk.genes.start * n_hidden, chunk.genes.stop * n_hidden)
        self._in_entry[..., columns] = torch.matmul(self._z_t, room.scratch_wide)

    def finished(self) -> Iterator[Tensor]:
        """By z, weights, first, second, bias and heads, in the shapes that these came in."""
        n_fits, n_factors = self._sweep.n_fits, self._z_t.shape[-2]
        in_entry = self._in_entry.view(n_fits * n_factors, -1, self._sweep.n_hidden)
        yield self._in_z_t.view(n_fits, n_factors, -1).mT
        yield torch.bmm(self._sweep.first, in_entry.mT).view(n_fits, n_factors, -1).mT
        yield torch.bmm(self._sweep.weights, in_entry).view(n_fits, n_factors, -1).mT
        yield self._in_second.view(n_fits, *self._in_second.shape[-2:])
        yield self._in_bias.view(n_fits, -1)
        yield torch.cat(self._in_heads, 1)


def _lone(values: Tensor) -> Tensor:
    """Without the axis of fits if there is one fit only."""
    return values[0] if len(values) == 1 else values


def _copy(target: Tensor, source: Tensor) -> None:
    """Round or widen, where the two are not the same memory anyway."""
    if target is not source:
        target.copy_(source)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right; a total of another type takes the product after its rounding."""
    if total.dtype is not left.dtype:
        total += torch.matmul(left, right)
    elif total.dim() == 2:
        total.addmm_(left, right)
    else:
        total.baddbmm_(left, right)


def _rectified(gradient: Tensor, activations: Tensor, out: Tensor) -> None:
    """The gradient where the activations are above zero, and zero elsewhere."""
    torch.ops.aten.threshold_backward.grad_input(gradient, activations, 0, grad_input=out)
