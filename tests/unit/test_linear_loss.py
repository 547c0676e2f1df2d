"""The loss of linear predictors against autograd through the whole matrix at once."""

import pytest
import torch
from torch import Tensor

from latentree.models import linear_loss
from latentree.models.likelihoods import GaussianLikelihood, Likelihood
from latentree.models.linear_loss import LinearLoss, gene_blocks, predicted
from latentree.models.nb_likelihood import NegativeBinomialLikelihood

N_FITS, N_CELLS, N_GENES, N_FEATURES = 3, 8, 50, 4


def _problem(likelihood: Likelihood, has_cell_offset: bool) -> tuple[list[Tensor], Tensor | None, Tensor]:
    """Leaves (features, weights, offset, the likelihood's parameter), cell offset, target; float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    likelihood.double()
    with torch.no_grad():
        likelihood.parameter.copy_(0.5 * draw(N_FITS, N_GENES))
    features, weights = draw(N_FITS, N_CELLS, N_FEATURES), 0.5 * draw(N_FITS, N_GENES, N_FEATURES)
    leaves = [features.requires_grad_(), weights.requires_grad_(), draw(N_FITS, N_GENES).requires_grad_()]
    cell_offset = draw(N_FITS, N_CELLS, 1) if has_cell_offset else None
    target = draw(N_FITS, N_CELLS, N_GENES)
    if isinstance(likelihood, NegativeBinomialLikelihood):
        target = torch.poisson(target.exp(), generator=generator)
    return [*leaves, likelihood.parameter], cell_offset, target


@pytest.mark.parametrize("kind", [GaussianLikelihood, NegativeBinomialLikelihood])
@pytest.mark.parametrize("has_cell_offset", [False, True])
@pytest.mark.parametrize("block_values", [1, 17 * N_FITS * N_CELLS, 2**16])
def test_value_and_gradients_are_those_of_autograd(kind, has_cell_offset, block_values, monkeypatch):
    monkeypatch.setattr(linear_loss, "BLOCK_VALUES", block_values)
    n_blocks = len(gene_blocks(N_FITS * N_CELLS, N_GENES))
    assert n_blocks == {1: 4, 17 * N_FITS * N_CELLS: 3, 2**16: 1}[block_values]
    likelihood = kind(N_FITS, N_GENES)
    leaves, cell_offset, target = _problem(likelihood, has_cell_offset)
    features, weights, offset, parameter = leaves
    found = LinearLoss.apply(features, weights, offset, parameter, cell_offset, target, likelihood)

    predictor = torch.einsum("sbk,sgk->sbg", features, weights) + offset[:, None]
    predictor = predictor if cell_offset is None else predictor + cell_offset
    if kind is GaussianLikelihood:
        density = torch.distributions.Normal(predictor, parameter.exp()[:, None])
    else:
        odds = predictor - parameter[:, None]
        density = torch.distributions.NegativeBinomial(parameter.exp()[:, None], logits=odds)
    expected = -density.log_prob(target).sum(2).mean(1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(predicted(features, weights, offset, cell_offset), predictor)

    # each fit's loss with a weight of its own, as other users of autograd's graph would have it
    scale = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    ours = torch.autograd.grad((found * scale).sum(), leaves)
    theirs = torch.autograd.grad((expected * scale).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_no_gradient_reaches_dispersions_in_the_steps_between():
    likelihood = NegativeBinomialLikelihood(N_FITS, N_GENES)
    leaves, _, target = _problem(likelihood, False)
    likelihood.after_step()
    features, weights, offset, parameter = leaves
    loss = LinearLoss.apply(features, weights, offset, parameter, None, target, likelihood)
    loss.sum().backward()
    assert parameter.grad is None
    assert all(leaf.grad is not None and leaf.grad.any() for leaf in leaves[:3])


def test_blocks_cover_every_gene_once():
    blocks = gene_blocks(10_000, 100)
    assert [gene for block in blocks for gene in range(100)[block]] == list(range(100))
    assert max(block.stop - block.start for block in blocks) == 16
    assert gene_blocks(1, 100) == [slice(0, 100)]
