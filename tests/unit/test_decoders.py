"""Decoders against a plain loop over genes, autograd and torch's own densities; and their memory."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latentree.models.decoders import AdditiveDecoder, Decoder, LinearDecoder, SharedMLPDecoder
from latentree.models.likelihoods import GaussianLikelihood, Likelihood
from latentree.models.nb_likelihood import NegativeBinomialLikelihood

N_FITS, N_CELLS, N_GENES, N_FACTORS, N_HIDDEN = 2, 9, 11, 4, 6


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _mlp(n_fits: int, n_genes: int, n_factors: int, n_hidden: int, *, residual: bool) -> SharedMLPDecoder:
    return SharedMLPDecoder(n_fits, n_genes, n_factors, n_hidden, residual, torch.float32, _generator())


def _decoder(kind: str) -> Decoder:
    """Away from its start, float64."""
    if kind == "linear":
        decoder: Decoder = LinearDecoder(N_FITS, N_GENES)
    elif kind == "additive":
        decoder = AdditiveDecoder(N_FITS, N_GENES, n_hinges=3)
    else:
        decoder = _mlp(N_FITS, N_GENES, N_FACTORS, N_HIDDEN, residual=kind == "mlp")
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=_generator(parameter.dim())))
    return decoder.double()


KINDS = ["linear", "additive", "mlp", "mlp of the paper"]


def _plain_predictor(decoder: Decoder, z: Tensor, weights: Tensor) -> Tensor:
    """As the classes' docstrings say it, fit by fit and gene by gene."""
    fits = []
    for s in range(len(z)):
        columns = []
        for j in range(weights.shape[1]):
            column = decoder.offset[s, j] + torch.zeros(z.shape[1], dtype=z.dtype)
            if isinstance(decoder, SharedMLPDecoder):
                masked = z[s] * weights[s, j, :, 0]
                hidden = torch.relu(masked @ decoder.first.weight[s].T)
                hidden = torch.relu(hidden @ decoder.second.weight[s].T + decoder.second.bias[s])
                column = column + hidden @ decoder.heads[s, j]
                column = column + masked.sum(1) if decoder.residual else column
            else:
                knots = [-1, 0, 1] if isinstance(decoder, AdditiveDecoder) else []
                for k in range(z.shape[2]):
                    column = column + weights[s, j, k, 0] * z[s, :, k]
                    for place, knot in enumerate(knots, start=1):
                        column = column + weights[s, j, k, place] * torch.relu(z[s, :, k] - knot)
            columns.append(column)
        fits.append(torch.stack(columns, 1))
    return torch.stack(fits)


def _inputs(decoder: Decoder) -> tuple[Tensor, Tensor]:
    """Latents and weights, some of them zero, with gradients."""
    generator = _generator(7)
    z = torch.randn(N_FITS, N_CELLS, N_FACTORS, generator=generator, dtype=torch.float64)
    shape = (N_FITS, N_GENES, N_FACTORS, decoder.n_terms)
    weights = 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    weights[:, 3] = 0
    weights[0, 5, 1:] = 0
    return z.requires_grad_(), weights.requires_grad_()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood_class", [GaussianLikelihood, NegativeBinomialLikelihood])
@pytest.mark.parametrize("has_cell_offset", [False, True])
def test_loss_and_gradients_are_those_of_a_loop_over_genes(kind, likelihood_class, has_cell_offset):
    decoder, generator = _decoder(kind), _generator(2)
    z, weights = _inputs(decoder)
    likelihood: Likelihood = likelihood_class(N_FITS, N_GENES).double()
    with torch.no_grad():
        likelihood.parameter.normal_(generator=generator).mul_(0.3)
    offset = torch.randn(N_FITS, N_CELLS, 1, generator=generator).double() if has_cell_offset else None
    target = torch.poisson(torch.rand(N_FITS, N_CELLS, N_GENES, generator=generator) * 4, generator=generator)
    target = target.double()

    loss = decoder.loss(z, weights, likelihood, target, offset)
    predictor = _plain_predictor(decoder, z, weights)
    predictor = predictor if offset is None else predictor + offset
    size = likelihood.parameter.exp()[:, None]
    if likelihood_class is GaussianLikelihood:
        density: torch.distributions.Distribution = torch.distributions.Normal(predictor, size)
    else:
        density = torch.distributions.NegativeBinomial(size, logits=predictor - size.log())
    plain = -density.log_prob(target).sum(2).mean(1)
    torch.testing.assert_close(loss, plain, rtol=1e-6, atol=0)

    inputs = [z, weights, likelihood.parameter, *decoder.parameters()]
    scale = torch.tensor([3.0, -0.5], dtype=torch.float64)
    found = torch.autograd.grad((scale * loss).sum(), inputs)
    for ours, theirs in zip(found, torch.autograd.grad((scale * plain).sum(), inputs), strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-6 * float(theirs.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_predictor_and_effects_are_those_of_a_loop_over_genes(kind):
    decoder = _decoder(kind)
    z, weights = (values.detach() for values in _inputs(decoder))
    plain = _plain_predictor(decoder, z, weights).detach()
    torch.testing.assert_close(decoder.predictor(z, weights).detach(), plain)
    effects = decoder.effects(z, weights)
    assert effects.shape == (N_FITS, N_GENES, N_FACTORS)
    for k in range(N_FACTORS):
        without = z.clone()
        without[..., k] = without[..., k].mean(1, keepdim=True)
        change = (plain - _plain_predictor(decoder, without, weights)).detach().numpy()
        for s in range(N_FITS):
            # a line through the average of the factor, where it does nothing by definition
            centred = z[s, :, k].numpy() - float(z[s, :, k].mean())
            slopes = np.linalg.lstsq(centred[:, None], change[s], rcond=None)[0][0]
            np.testing.assert_allclose(effects[s, :, k].detach().numpy(), slopes, atol=1e-9)
    # where a weight is zero the factor has no effect at all
    assert not effects[(weights == 0).all(-1)].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_of_a_stack_is_what_it_is_alone(kind):
    decoder = _decoder(kind)
    z, weights = (values.detach() for values in _inputs(decoder))
    together = decoder.predictor(z, weights)
    for s in range(N_FITS):
        alone = _decoder(kind)
        for (_, module), (_, source) in zip(alone.named_modules(), decoder.named_modules(), strict=True):
            for name, value in source.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(value.detach()[s : s + 1]))
        found = alone.predictor(z[s : s + 1], weights[s : s + 1])
        torch.testing.assert_close(found[0], together[s])


def test_effects_tell_of_the_few_cells_that_use_a_factor():
    decoder = _mlp(1, 1, 1, 2, residual=True).double()
    with torch.no_grad():
        # nothing below 1, a steep rise above
        decoder.first.weight.fill_(1.0)
        decoder.second.weight.copy_(torch.eye(2))
        decoder.second.bias.fill_(-1.0)
        decoder.heads.fill_(5.0)
    z = torch.cat([torch.linspace(-0.5, 0.5, 95), torch.linspace(3, 5, 5)])[None, :, None].double()
    unused = torch.full((1, 1, 1, 1), 0.01).double()
    assert float(decoder.effects(z, torch.ones_like(unused))) > 4
    assert float(decoder.effects(z, unused)) == pytest.approx(0.01)


def test_linear_effects_are_the_weights():
    decoder = _decoder("linear")
    z, weights = _inputs(decoder)
    assert torch.equal(decoder.effects(z, weights), weights[..., 0])


@pytest.mark.parametrize("kind", ["linear", "additive"])
def test_decoders_without_heads_have_no_ridge_and_nothing_to_restore(kind):
    decoder = _decoder(kind)
    before = [parameter.detach().clone() for parameter in decoder.parameters()]
    assert decoder.ridge().tolist() == [0, 0]
    decoder.after_step()
    assert all(torch.equal(old, new) for old, new in zip(before, decoder.parameters(), strict=True))


@pytest.mark.parametrize(("n_hinges", "knots"), [(1, [0]), (2, [-1, 1]), (5, [-1, -0.5, 0, 0.5, 1])])
def test_curves_bend_at_their_knots_alone(n_hinges, knots):
    decoder = AdditiveDecoder(1, 1, n_hinges).double()
    weights = torch.arange(1.0, 2 + n_hinges, dtype=torch.float64).view(1, 1, 1, -1)
    z = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    curve = decoder.predictor(z[None, :, None], weights)[0, :, 0].detach().numpy()
    bends = np.diff(curve, n=2)
    found = z[1:-1].numpy()[np.abs(bends) > 1e-9]
    # at a knot that is a point of the grid the bend is all in one place
    np.testing.assert_allclose(found, knots, atol=1.1e-3)
    slopes = np.interp(np.array([-1.5, *(np.array(knots) + 0.1)]), z[1:], np.diff(curve) / 1e-3)
    np.testing.assert_allclose(slopes, np.cumsum(np.arange(1.0, 2 + n_hinges)), atol=1e-6)


def test_residual_decoder_starts_linear_and_keeps_unit_columns():
    decoder = _mlp(2, 6, 3, 8, residual=True)
    z, weights = (
        torch.randn(2, 5, 3, generator=_generator(1)),
        torch.randn(2, 6, 3, 1, generator=_generator(2)),
    )
    torch.testing.assert_close(decoder.predictor(z, weights), z @ weights[..., 0].transpose(1, 2))
    decoder.first.weight.data *= 7
    decoder.after_step()
    torch.testing.assert_close(decoder.first.weight.norm(dim=1), torch.ones(2, 3))
    decoder.heads.data[1] += 2
    assert decoder.ridge().tolist() == pytest.approx([0, 4 * 6 * 8])


def test_the_papers_decoder_leaves_the_first_layer_alone():
    decoder = _mlp(2, 6, 3, 8, residual=False)
    before = decoder.first.weight.detach().clone()
    decoder.after_step()
    assert torch.equal(decoder.first.weight, before)
    assert decoder.heads.abs().sum() > 0


@pytest.mark.parametrize("residual", [True, False])
def test_heads_start_at_the_ridge_regression_of_what_lines_leave(residual):
    decoder = _mlp(2, 5, 2, 6, residual=residual)
    before = {name: value.detach().clone() for name, value in decoder.named_parameters()}
    rng = np.random.default_rng(0)
    z = rng.standard_normal((200, 2))
    weights = np.array([[1.5, 0], [0, -1], [0.7, 0.7], [0, 0], [1, 0]])
    target = z @ weights.T + np.abs(z[:, :1]) + 3 + 0.1 * rng.standard_normal((200, 5))
    variance, ridge = np.linspace(0.1, 0.5, 5), 0.05
    tensors = [torch.from_numpy(values).float() for values in (z, weights, target, variance)]
    decoder.start_heads(1, *tensors, ridge=ridge)

    first, second, bias = (
        before[name][1].double().numpy() for name in ("first.weight", "second.weight", "second.bias")
    )
    for gene in (0, 1, 2, 4):
        hidden = np.maximum((z * weights[gene]) @ first.T, 0)
        hidden = np.maximum(hidden @ second.T + bias, 0)
        rest = target[:, gene] - (z @ weights[gene] if residual else 0)
        # least squares of mean squares plus penalty, as one design: the offset is not penalised
        penalty = np.sqrt(200 * (2 * ridge * variance[gene] + 1e-4))
        design = np.vstack([np.c_[hidden, np.ones(200)], np.c_[penalty * np.eye(6), np.zeros(6)]])
        expected = np.linalg.lstsq(design, np.r_[rest, np.zeros(6)], rcond=None)[0]
        np.testing.assert_allclose(decoder.heads[1, gene].detach().numpy(), expected[:6], atol=2e-4)
        assert float(decoder.offset[1, gene].detach()) == pytest.approx(expected[6], abs=5e-4)
    # nothing else moves: a gene without weights is a constant, and the other fit is another's
    for name, value in decoder.named_parameters():
        assert torch.equal(value[0], before[name][0]), name
        if name in ("heads", "offset"):
            assert torch.equal(value[1, 3], before[name][1, 3]), name
        else:
            assert torch.equal(value, before[name]), name


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


def _peak_of_a_step(loss_of, n_cells: int, n_genes: int, n_factors: int) -> int:
    generator = _generator()
    target = torch.randn(1, n_cells, n_genes, generator=generator)
    z = torch.randn(1, n_cells, n_factors, generator=generator, requires_grad=True)
    weights = torch.randn(1, n_genes, n_factors, 1, generator=generator, requires_grad=True)
    likelihood = GaussianLikelihood(1, n_genes)
    with _LiveBytes() as bytes_seen:
        loss_of(z, weights, likelihood, target).sum().backward()
    assert weights.grad is not None
    return bytes_seen.peak


def test_a_step_keeps_nothing_of_cells_by_genes_by_hidden():
    n_genes, n_factors = 2000, 15
    decoder = _mlp(1, n_genes, n_factors, 64, residual=True)
    peak = _peak_of_a_step(lambda z, w, p, x: decoder.loss(z, w, p, x, None), 512, n_genes, n_factors)
    assert peak <= 100e6
    assert peak >= 512 * n_genes * 4  # the counter has seen at least one matrix of cells by genes


@pytest.mark.parametrize("likelihood_class", [GaussianLikelihood, NegativeBinomialLikelihood])
def test_a_step_of_a_linear_decoder_keeps_nothing_of_cells_by_genes(likelihood_class):
    n_cells, n_genes = 512, 2000
    decoder = LinearDecoder(1, n_genes)

    def loss(z: Tensor, weights: Tensor, _: Likelihood, target: Tensor) -> Tensor:
        return decoder.loss(z, weights, likelihood_class(1, n_genes), target.abs().round_(), None)

    # the counts, made under the counter, and a few blocks
    assert _peak_of_a_step(loss, n_cells, n_genes, 15) <= 2.5 * n_cells * n_genes * 4


def test_the_memory_counter_sees_what_a_loop_over_genes_keeps():
    n_cells, n_genes, n_hidden = 128, 50, 64
    decoder = _mlp(1, n_genes, 5, n_hidden, residual=False)

    def loss(z: Tensor, weights: Tensor, likelihood: Likelihood, target: Tensor) -> Tensor:
        return likelihood.loss(_plain_predictor(decoder, z, weights), target)

    assert _peak_of_a_step(loss, n_cells, n_genes, 5) >= 2 * n_cells * n_genes * n_hidden * 4
