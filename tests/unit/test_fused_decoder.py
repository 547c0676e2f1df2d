"""The fused decoder against autograd through a loop over fits and genes; its rounding and its memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latentree.models import fused_decoder
from latentree.models.fused_decoder import FusedLoss, Network, multiplies_bfloat16, network_mean


class _Gaussian:
    """Standard deviations exp(parameter); without the constant."""

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        log_sigma = self.parameter.detach()[:, None, genes]
        standardised = predictor.sub_(target) * torch.exp(-log_sigma)
        squares = standardised.square().mean(1)
        value = (0.5 * squares + log_sigma[:, 0]).sum(1)
        return value, standardised.mul_(torch.exp(-log_sigma) / target.shape[1]), 1 - squares

    def plain(self, predictor: Tensor, target: Tensor) -> Tensor:
        noise = torch.distributions.Normal(predictor, self.parameter.exp()[:, None])
        constant = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=target.dtype))
        return -(noise.log_prob(target) + constant).mean(1).sum(1)


class _LogCosh:
    """Differences' log cosh, which has no parameter to learn: another shape, bounded derivatives."""

    def __init__(self, parameter: Tensor) -> None:
        pass

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        difference = predictor - target
        return difference.cosh().log().mean(1).sum(1), difference.tanh() / target.shape[1], None

    def plain(self, predictor: Tensor, target: Tensor) -> Tensor:
        return (predictor - target).cosh().log().mean(1).sum(1)


class _Poisson:
    """Counts with log mean predictor + parameter, so that the parameter's derivative is not a square."""

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        log_mean = predictor + self.parameter.detach()[:, None, genes]
        value = (log_mean.exp() - target * log_mean).mean(1).sum(1)
        in_predictor = (log_mean.exp() - target) / target.shape[1]
        return value, in_predictor, in_predictor.sum(1)

    def plain(self, predictor: Tensor, target: Tensor) -> Tensor:
        log_mean = predictor + self.parameter[:, None]
        return torch.nn.functional.poisson_nll_loss(log_mean, target, reduction="none").mean(1).sum(1)


_LIKELIHOODS = [_Gaussian, _LogCosh, _Poisson]
# base, z, weights, first, second, bias, heads, parameter, target
_N_INPUTS = 8


def _problem(
    n_fits: int,
    n_cells: int = 9,
    n_genes: int = 11,
    n_factors: int = 4,
    n_hidden: int = 6,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (n_cells, n_genes),
        (n_cells, n_factors),
        (n_genes, n_factors),
        (n_hidden, n_factors),
        (n_hidden, n_hidden),
        (n_hidden,),
        (n_genes, n_hidden),
        (n_genes,),
        (n_cells, n_genes),
    ]
    tensors = [torch.randn(n_fits, *shape, generator=generator, dtype=dtype) for shape in shapes]
    # as after selection: a gene without factors, zeros among the others
    tensors[2][:, 0] = 0
    tensors[2][torch.rand(tensors[2].shape, generator=generator) < 0.3] = 0
    for scaled in (4, 6, 7):
        tensors[scaled] *= 0.5
    return [*(t.requires_grad_() for t in tensors[:_N_INPUTS]), tensors[_N_INPUTS]]


def _loss(tensors: list[Tensor], likelihood, precision: torch.dtype = torch.float32) -> Tensor:
    return FusedLoss.apply(*tensors, likelihood(tensors[7]), precision)


def _plain_mean(
    z: Tensor, weights: Tensor, first: Tensor, second: Tensor, bias: Tensor, heads: Tensor
) -> Tensor:
    """The paper's decoder, fit by fit and gene by gene."""
    fits = []
    for s in range(len(z)):
        columns = []
        for j in range(weights.shape[1]):
            hidden = torch.relu((z[s] * weights[s, j]) @ first[s].T)
            hidden = torch.relu(hidden @ second[s].T + bias[s])
            columns.append(hidden @ heads[s, j])
        fits.append(torch.stack(columns, 1))
    return torch.stack(fits)


def _plain_loss(tensors: list[Tensor], likelihood) -> Tensor:
    predictor = tensors[0] + _plain_mean(*tensors[1:7])
    return likelihood(tensors[7]).plain(predictor, tensors[8])


def _assert_gradients_agree(tensors: list[Tensor], likelihood, tolerance: float) -> None:
    fused, plain = _loss(tensors, likelihood), _plain_loss(tensors, likelihood)
    torch.testing.assert_close(fused, plain, rtol=tolerance, atol=tolerance)
    # each fit's loss weighs differently in what autograd is asked for
    share = torch.linspace(0.5, -2, len(fused), dtype=fused.dtype)
    inputs = tensors[:_N_INPUTS]
    found, expected = (
        torch.autograd.grad((share * loss).sum(), inputs, allow_unused=True) for loss in (fused, plain)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert ours.shape == theirs.shape
            assert float((ours - theirs).abs().max()) <= tolerance * max(float(theirs.abs().max()), 1e-3)


@pytest.mark.parametrize("n_fits", [1, 3])
@pytest.mark.parametrize("genes_per_chunk", [1, 4, 11])
@pytest.mark.parametrize("likelihood", _LIKELIHOODS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_loss_and_gradients_are_autograds(n_fits, genes_per_chunk, likelihood, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(fused_decoder, "CHUNK_ACTIVATIONS", n_fits * 9 * 6 * genes_per_chunk)
    _assert_gradients_agree(_problem(n_fits, dtype=dtype), likelihood, tolerance)


@settings(max_examples=60, deadline=None)
@given(
    n_fits=st.integers(1, 3),
    n_cells=st.integers(1, 7),
    n_genes=st.integers(1, 9),
    n_factors=st.integers(1, 5),
    n_hidden=st.integers(1, 6),
    limit=st.integers(1, 500),
    likelihood=st.sampled_from(_LIKELIHOODS),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_any_chunk(n_fits, n_cells, n_genes, n_factors, n_hidden, limit, likelihood, seed):
    tensors = _problem(n_fits, n_cells, n_genes, n_factors, n_hidden, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_decoder, "CHUNK_ACTIVATIONS", limit)
        _assert_gradients_agree(tensors, likelihood, 1e-9)
        network = Network(*tensors[3:7])
        means = network_mean(tensors[1], tensors[2], network)
    torch.testing.assert_close(means, _plain_mean(*tensors[1:7]).detach(), rtol=1e-9, atol=1e-9)
    assert not means.requires_grad


@pytest.mark.parametrize("n_genes", [7, 8, 11])
def test_chunks_cover_all_genes_and_are_of_nearly_the_same_size(n_genes, monkeypatch):
    monkeypatch.setattr(fused_decoder, "CHUNK_ACTIVATIONS", 9 * 6 * 4)
    asked: list[slice] = []

    class Recorder(_Gaussian):
        def terms(self, predictor, target, genes):
            assert predictor.shape == target.shape == (1, 9, genes.stop - genes.start)
            asked.append(genes)
            return super().terms(predictor, target, genes)

    _loss(_problem(1, n_genes=n_genes), Recorder)
    assert [j for genes in asked for j in range(n_genes)[genes]] == list(range(n_genes))
    sizes = [genes.stop - genes.start for genes in asked]
    assert len(sizes) == -(-n_genes // 4)
    assert max(sizes) - min(sizes) <= len(sizes) - 1


def test_inputs_that_are_views_or_expanded():
    tensors = _problem(2)
    offset = torch.randn(2, 1, 11, dtype=torch.float64, requires_grad=True)
    stacked = torch.stack([tensors[2], tensors[2]], -1)
    views = [offset.expand(2, 9, 11), tensors[1], stacked[..., 0], *tensors[3:]]
    fused, plain = _loss(views, _Gaussian), _plain_loss(views, _Gaussian)
    inputs = [offset, tensors[2]]
    found, expected = (torch.autograd.grad(loss.sum(), inputs) for loss in (fused, plain))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("n_fits", [1, 3])
def test_stacked_fits_are_the_fits_one_by_one(n_fits):
    tensors = _problem(n_fits)
    together = _loss(tensors, _Poisson)
    for s in range(n_fits):
        alone = _loss([t[s : s + 1] for t in tensors], _Poisson)
        torch.testing.assert_close(alone[0], together[s], rtol=1e-12, atol=0)


@pytest.mark.parametrize("n_fits", [1, 2])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_same_bits_each_time(n_fits, precision):
    tensors = _problem(n_fits, n_cells=64, n_genes=40, n_factors=5, n_hidden=16, dtype=torch.float32)
    runs = []
    for _ in range(2):
        loss = _loss(tensors, _Gaussian, precision)
        runs.append([loss, *torch.autograd.grad(loss.sum(), tensors[:_N_INPUTS])])
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("n_fits", [1, 2])
@pytest.mark.parametrize("genes_per_chunk", [3, 40])
def test_bfloat16_rounds_and_no_more(n_fits, genes_per_chunk, monkeypatch):
    monkeypatch.setattr(fused_decoder, "CHUNK_ACTIVATIONS", n_fits * 64 * 16 * genes_per_chunk)
    tensors = _problem(n_fits, n_cells=64, n_genes=40, n_factors=5, n_hidden=16, dtype=torch.float32)
    exact, rounded = (_loss(tensors, _Gaussian, p) for p in (torch.float32, torch.bfloat16))
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=0)
    assert not torch.equal(rounded, exact)
    grads = [torch.autograd.grad(loss.sum(), tensors[:_N_INPUTS]) for loss in (exact, rounded)]
    for wanted, found in zip(*grads, strict=True):
        assert found.dtype is torch.float32
        assert float((found - wanted).norm()) <= 0.03 * float(wanted.norm())


def test_bfloat16_is_advised_only_where_the_processor_multiplies_it(monkeypatch):
    cpu = torch.device("cpu")
    for capabilities, advised in [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({}, False)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert multiplies_bfloat16(cpu) is advised
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert multiplies_bfloat16(cpu) is False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_processor_gives():
    tensors = _problem(2, n_cells=64, n_genes=40, n_factors=5, n_hidden=16)
    moved = [t.detach().cuda().requires_grad_(t.requires_grad) for t in tensors]
    losses = [_loss(tensors, _Gaussian), _loss(moved, _Gaussian)]
    torch.testing.assert_close(losses[1].cpu(), losses[0])
    grads = [
        torch.autograd.grad(loss.sum(), inputs[:_N_INPUTS])
        for loss, inputs in zip(losses, [tensors, moved], strict=True)
    ]
    for ours, theirs in zip(grads[1], grads[0], strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)
