"""Shares of genes in latents against closed forms: linear maps, completeness, components."""

import numpy as np
import pytest
import torch

from latentree.leading_axes import LeadingAxes
from latentree.tbr.attribution import gene_shares, gene_table, path_gradients
from latentree.tbr.phi import Phi


def network(kind: str, n_inputs: int, n_latents: int = 2) -> Phi:
    """A random network whose inputs have odd means and scales."""
    rng = np.random.default_rng(0)
    phi = Phi(kind, rng.normal(size=n_inputs), rng.uniform(0.5, 2, n_inputs), n_latents, torch.Generator())
    with torch.no_grad():
        for layer in phi.hidden:
            layer.weight.mul_(4)
    return phi.requires_grad_(False)


@pytest.fixture(name="X")
def inputs():
    return np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)


@pytest.mark.parametrize("kind", ["linear", "small", "large"])
def test_shares_add_up_to_the_difference_of_the_latent(kind, X):
    phi = network(kind, X.shape[1])
    reference = X.mean(axis=0)
    gradients = path_gradients(phi, X, reference, n_steps=600)
    total = (gradients * (X - reference)).sum(axis=2).T
    expected = phi.latents(X) - phi.latents(np.broadcast_to(reference, X.shape))
    np.testing.assert_allclose(total, expected, atol=2e-3 * np.abs(expected).max())


def test_a_network_that_is_linear_has_the_gradients_of_its_map(X):
    """A hidden layer whose units are all on is a linear map, whatever the way to a cell."""
    phi = network("small", X.shape[1])
    with torch.no_grad():
        phi.hidden[0].bias.fill_(1e3)
    weights = (phi.last.weight @ phi.hidden[0].weight / phi.scale).numpy()
    gradients = path_gradients(phi, X, X.mean(axis=0), n_steps=3)
    np.testing.assert_allclose(gradients, np.broadcast_to(weights[:, None, :], gradients.shape), rtol=1e-4)


def test_a_linear_map_gives_its_weights(X):
    phi = network("linear", X.shape[1])
    weights = (phi.last.weight / phi.scale).numpy()
    reference = X.mean(axis=0)
    shares = gene_shares(phi, X, X, reference)
    np.testing.assert_allclose(shares.slope, weights * X.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        shares.importance, np.abs(weights) * np.abs(X - reference).mean(axis=0), rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["linear", "small"])
def test_components_are_taken_back_to_genes(kind, X):
    """The same function of genes, written with components as inputs or with genes, has the same shares."""
    centre = X.mean(axis=0)
    axes = LeadingAxes.fit(X - centre, 3, seed=0).axes.astype(np.float64)
    of_components = network(kind, 3)
    # standardising the components and the first layer are one linear map of genes
    first = of_components.hidden[0] if kind == "small" else of_components.last
    matrix = (first.weight / of_components.scale).numpy() @ axes.T
    shift = first.bias.numpy() - (first.weight / of_components.scale).numpy() @ (
        of_components.centre.numpy() + centre @ axes
    )
    of_genes = Phi(kind, np.zeros(6), np.ones(6), 2, torch.Generator())
    target = of_genes.hidden[0] if kind == "small" else of_genes.last
    with torch.no_grad():
        target.weight.copy_(torch.from_numpy(matrix))
        target.bias.copy_(torch.from_numpy(shift))
        if kind == "small":
            of_genes.last.weight.copy_(of_components.last.weight)
    types = np.arange(30) % 2
    reference = np.stack([X[types == t].mean(axis=0) for t in types])
    scores = ((X - centre) @ axes).astype(np.float32)
    found = gene_shares(of_components, scores, X, reference, axes)
    expected = gene_shares(of_genes, X, X, reference)
    np.testing.assert_allclose(found.slope, expected.slope, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.importance, expected.importance, rtol=1e-3, atol=1e-5)


def test_the_table_ranks_by_importance_and_keeps_the_sign(X):
    phi = network("linear", X.shape[1])
    with torch.no_grad():
        phi.last.weight.zero_()
        phi.last.weight[0, 2], phi.last.weight[0, 4] = -3.0, 1.0
    table = gene_table(gene_shares(phi, X, X, X.mean(axis=0)), list("abcdef"), ["latent1", "latent2"], 5)
    assert table["gene"].tolist() == ["c", "e"]
    assert table["rank"].tolist() == [1, 2]
    assert table["weight"].iloc[0] < 0 < table["weight"].iloc[1]
    assert set(table["latent"]) == {"latent1"}
