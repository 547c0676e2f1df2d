"""Decoders against a plain loop over genes, autograd and torch's own densities; and their memory."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latentree.models import fused_decoder
from latentree.models.decoders import Decoder, LinearDecoder, SharedMLPDecoder


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _plain_mean(decoder: SharedMLPDecoder, z: Tensor, weights: Tensor) -> Tensor:
    """The paper's decoder, gene by gene."""
    columns = []
    for j in range(len(weights)):
        masked = z * weights[j]
        hidden = torch.relu(masked @ decoder.first.weight.T)
        hidden = torch.relu(hidden @ decoder.second.weight.T + decoder.second.bias)
        column = hidden @ decoder.heads[j] + decoder.offset[j]
        columns.append(column + masked.sum(1) if decoder.residual else column)
    return torch.stack(columns, 1)


def _plain_loss(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    return -torch.distributions.Normal(mean, log_sigma.exp()).log_prob(x).sum(1).mean()


def _problem(residual: bool, dtype: torch.dtype = torch.float64):
    """A decoder away from its start, and x, z, weights, log_sigma with gradients where they have any."""
    n_cells, n_genes, n_factors, n_hidden = 9, 11, 4, 6
    generator = _generator()
    decoder = SharedMLPDecoder(n_genes, n_factors, n_hidden, residual, generator).to(dtype)
    with torch.no_grad():
        decoder.heads.normal_(generator=generator)
        decoder.offset.normal_(generator=generator)
    shapes = [(n_cells, n_genes), (n_cells, n_factors), (n_genes, n_factors), (n_genes,)]
    x, z, weights, log_sigma = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    weights[3] = 0
    weights[5, 1:] = 0
    return decoder, x, z.requires_grad_(), weights.requires_grad_(), log_sigma.requires_grad_()


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("genes_per_chunk", [1, 4, 11])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_loss_and_gradients_are_those_of_a_loop_over_genes(
    residual, genes_per_chunk, dtype, tolerance, monkeypatch
):
    monkeypatch.setattr(fused_decoder, "CHUNK_ACTIVATIONS", 9 * 6 * genes_per_chunk)
    decoder, x, z, weights, log_sigma = _problem(residual, dtype)
    inputs = [z, weights, log_sigma, *decoder.parameters()]
    assert len(inputs) == 3 + 5
    fused = decoder.negative_log_likelihood(x, z, weights, log_sigma)
    plain = _plain_loss(x, _plain_mean(decoder, z, weights), log_sigma)
    torch.testing.assert_close(fused, plain, rtol=tolerance, atol=0)
    # a factor on the loss stands for the other users of autograd's graph
    found = torch.autograd.grad(3 * fused, inputs)
    for ours, theirs in zip(found, torch.autograd.grad(3 * plain, inputs), strict=True):
        assert float((ours - theirs).abs().max()) <= tolerance * float(theirs.abs().max())


@pytest.mark.parametrize("residual", [True, False])
def test_mean_and_effects_are_those_of_a_loop_over_genes(residual, monkeypatch):
    monkeypatch.setattr(fused_decoder, "CHUNK_ACTIVATIONS", 9 * 6 * 4)
    decoder, _, z, weights, _ = _problem(residual)
    plain = _plain_mean(decoder, z, weights)
    torch.testing.assert_close(decoder.mean(z, weights), plain.detach())
    effects = decoder.effects(z, weights)
    for k in range(z.shape[1]):
        without = z.detach().clone()
        without[:, k] = without[:, k].mean()
        change = (plain - _plain_mean(decoder, without, weights)).detach().numpy()
        for j in range(len(weights)):
            # a line through the average of the factor, where it does nothing by definition
            centred = z[:, k].detach().numpy() - float(z[:, k].detach().mean())
            slope = float(np.linalg.lstsq(centred[:, None], change[:, j], rcond=None)[0][0])
            assert float(effects[j, k]) == pytest.approx(slope, abs=1e-9)
    # where a weight is zero the factor has no effect at all
    assert not effects[weights == 0].any()


def test_effects_tell_of_the_few_cells_that_use_a_factor():
    decoder = SharedMLPDecoder(1, 1, 2, residual=True, generator=_generator()).double()
    with torch.no_grad():
        # nothing below 1, a steep rise above
        decoder.first.weight.fill_(1.0)
        decoder.second.weight.copy_(torch.eye(2))
        decoder.second.bias.fill_(-1.0)
        decoder.heads.fill_(5.0)
    z = torch.cat([torch.linspace(-0.5, 0.5, 95), torch.linspace(3, 5, 5)])[:, None].double()
    weights = torch.full((1, 1), 0.01).double()
    weights_used = torch.ones(1, 1).double()
    assert float(decoder.effects(z, weights_used)) > 4
    assert float(decoder.effects(z, weights)) == pytest.approx(0.01)


def test_linear_decoder_is_a_factor_model():
    decoder, generator = LinearDecoder(5).double(), _generator()
    shapes = [(7, 5), (7, 2), (5, 2), (5,), (5,)]
    x, z, weights, log_sigma, offset = (torch.randn(s, generator=generator).double() for s in shapes)
    decoder.offset.data.copy_(offset)
    mean = z @ weights.T + offset
    torch.testing.assert_close(decoder.mean(z, weights).detach(), mean)
    loss = decoder.negative_log_likelihood(x, z, weights, log_sigma)
    torch.testing.assert_close(loss, _plain_loss(x, mean, log_sigma))
    assert torch.equal(decoder.effects(z, weights), weights)
    assert decoder.ridge().item() == 0


def test_residual_decoder_starts_linear_and_keeps_unit_columns():
    decoder = SharedMLPDecoder(6, 3, 8, residual=True, generator=_generator())
    z, weights = torch.randn(5, 3, generator=_generator(1)), torch.randn(6, 3, generator=_generator(2))
    torch.testing.assert_close(decoder.mean(z, weights), z @ weights.T)
    decoder.first.weight.data *= 7
    decoder.after_step()
    torch.testing.assert_close(decoder.first.weight.norm(dim=0), torch.ones(3))
    decoder.heads.data += 2
    assert decoder.ridge().item() == pytest.approx(4 * 6 * 8)


def test_the_papers_decoder_leaves_the_first_layer_alone():
    decoder = SharedMLPDecoder(6, 3, 8, residual=False, generator=_generator())
    before = decoder.first.weight.detach().clone()
    decoder.after_step()
    assert torch.equal(decoder.first.weight, before)
    assert decoder.heads.abs().sum() > 0


class _LiveBytes(TorchDispatchMode):
    """Peak of the bytes of all storages above 16 kB that were made under it and are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[int, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().nbytes() > 16_384:
                self._count(leaf.untyped_storage())
        return outputs

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self.live:
            return
        expired = [key for key, (ref, _) in self.live.items() if torch.UntypedStorage._expired(ref)]
        for key in expired:
            torch.UntypedStorage._free_weak_ref(self.live.pop(key)[0])
        self.live[storage._cdata] = (storage._weak_ref(), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))


def _peak_of_a_step(decoder: Decoder, loss_of, n_cells: int, n_genes: int, n_factors: int) -> int:
    generator = _generator()
    shapes = [(n_cells, n_genes), (n_cells, n_factors), (n_genes, n_factors), (n_genes,)]
    x, z, weights, log_sigma = (torch.randn(s, generator=generator) for s in shapes)
    for leaf in (z, weights, log_sigma):
        leaf.requires_grad_()
    with _LiveBytes() as bytes_seen:
        loss_of(decoder, x, z, weights, log_sigma).backward()
    assert weights.grad is not None
    return bytes_seen.peak


def test_a_step_keeps_nothing_of_cells_by_genes_by_hidden():
    n_genes, n_factors, n_hidden = 2000, 15, 64
    decoder = SharedMLPDecoder(n_genes, n_factors, n_hidden, residual=True, generator=_generator())
    peak = _peak_of_a_step(decoder, SharedMLPDecoder.negative_log_likelihood, 512, n_genes, n_factors)
    assert peak <= 100e6
    assert peak >= 512 * n_genes * 4  # the counter has seen at least one matrix of cells by genes


def test_the_memory_counter_sees_what_a_loop_over_genes_keeps():
    n_cells, n_genes, n_hidden = 128, 50, 64
    decoder = SharedMLPDecoder(n_genes, 5, n_hidden, residual=False, generator=_generator())
    peak = _peak_of_a_step(
        decoder, lambda d, x, z, w, s: _plain_loss(x, _plain_mean(d, z, w), s), n_cells, n_genes, 5
    )
    assert peak >= 2 * n_cells * n_genes * n_hidden * 4
