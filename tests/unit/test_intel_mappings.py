"""The mappings of InteL-VAE against values by hand, loops and the acceptance tests of their specification."""

import math

import numpy as np
import pytest
import torch

from latentree.models.intel_mappings import Circle, Hierarchy, Mapping, TwoHoles
from latentree.models.intel_sectors import Sectors, sectors_by_plane
from latentree.models.intel_selector import SparseSelector, entropy_gap


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _codes(n_cells: int, n_factors: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_cells, n_factors, generator=_generator(seed))


def _with_shares(shares: list[float]) -> Sectors:
    mapping = Sectors(len(shares), True)
    with torch.no_grad():
        mapping.logits[0].copy_(torch.tensor(shares).log())
    return mapping


def _all_mappings() -> list[Mapping]:
    return [
        Mapping(),
        Circle(),
        TwoHoles(),
        Sectors(2, True),
        Sectors(7, True),
        Sectors(9, True),
        _with_shares([0.7, 0.1, 0.2]),
        SparseSelector(5, False, _generator()),
        SparseSelector(5, True, _generator()),
        Hierarchy([2, 3], 0.0, _generator()),
    ]


@pytest.mark.parametrize("mapping", _all_mappings(), ids=lambda mapping: type(mapping).__name__)
def test_gradients_are_finite_everywhere(mapping):
    # 0, the points that are glued, edges of sectors, and far away
    special = torch.tensor([[0.0, 0.0], [0, 1], [0, -1], [1, 0], [-1, 0], [1e-20, 1e-20], [30, -40]])
    y = torch.cat([torch.cat([special, torch.zeros(len(special), 3)], dim=1), _codes(50, 5)])
    y = y.requires_grad_()
    z = mapping(y)
    assert z.shape == y.shape
    (z.sum() + mapping.penalty(y)).backward()
    assert torch.isfinite(z).all()
    for values in (y, *(p for p in mapping.parameters() if p.requires_grad)):
        assert values.grad is not None
        assert torch.isfinite(values.grad).all()


def test_circle_has_radius_one_and_lets_the_rest_pass():
    y = _codes(100, 4)
    z = Circle()(y)
    torch.testing.assert_close(z[:, :2].norm(dim=1), torch.ones(100), atol=1e-3, rtol=0)
    torch.testing.assert_close(z[:, 0] * y[:, 1], z[:, 1] * y[:, 0])
    assert torch.equal(z[:, 2:], y[:, 2:])


def test_two_holes_glues_the_poles():
    points = torch.tensor([[0.0, 2.0], [0.0, -0.5], [3.0, 0.0], [-1.0, 0.0], [0.6, 0.8]])
    glued = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.6, 0.405]])
    torch.testing.assert_close(TwoHoles()(points), glued, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("n_clusters", "planes"), [(2, (2,)), (7, (7,)), (9, (3, 3)), (10, (5, 2)), (11, (11,)), (30, (6, 5))]
)
def test_clusters_are_split_over_planes(n_clusters, planes):
    assert sectors_by_plane(n_clusters) == planes


@pytest.mark.parametrize("shares", [[0.3, 0.7], [0.2] * 5, [0.7, 0.1, 0.2], [0.05, 0.6, 0.15, 0.2]])
def test_a_sectors_share_of_the_prior_is_its_softmax(shares):
    mapping = _with_shares(shares)
    labels = mapping.labels(_codes(200_000, 2))
    found = torch.bincount(labels, minlength=len(shares)) / len(labels)
    # five standard errors of a share at 2e5 samples
    np.testing.assert_allclose(found, shares, atol=5 * 0.5 / math.sqrt(2e5))
    np.testing.assert_allclose(mapping.facts()["cluster_shares"][0], shares, rtol=1e-5)


def test_labels_of_several_planes_are_the_cells_of_a_grid():
    labels = Sectors(10, False).labels(_codes(100_000, 5))
    counts = torch.bincount(labels)
    np.testing.assert_allclose(counts / 1e5, np.full(10, 0.1), atol=0.005)


def test_sectors_are_the_papers_formula():
    """Eq. 6 point by point with angles, sectors wider than pi included."""
    shares = [0.7, 0.1, 0.2]
    y = _codes(300, 3)
    expected = y.numpy().astype(np.float64)
    edges = 2 * np.pi * np.concatenate([[0], np.cumsum(shares)])
    for point in expected:
        angle = math.atan2(point[1], point[0]) % (2 * math.pi)
        i = int(np.searchsorted(edges, angle, side="right")) - 1
        to_edge = min(angle - edges[i], edges[i + 1] - angle, math.pi / 2)
        distance = math.hypot(*point[:2]) * math.sin(to_edge)
        push = 5 * ((distance + 1e-4) ** 0.2 - 1e-4**0.2)
        middle = (edges[i] + edges[i + 1]) / 2
        point[:2] += push * np.array([math.cos(middle), math.sin(middle)])
    np.testing.assert_allclose(_with_shares(shares)(y).detach(), expected, atol=1e-4)


def test_two_sectors_are_the_papers_formula_on_a_line():
    y = torch.linspace(-2, 2, 9)[:, None]
    push = 5 * ((y.abs() + 1e-4) ** 0.2 - 1e-4**0.2)
    torch.testing.assert_close(Sectors(2, False)(y), y + y.sign() * push)


@pytest.mark.parametrize("n_clusters", [3, 4, 7])
def test_sectors_are_continuous_across_edges(n_clusters):
    # in double precision: the slope on an edge is 1585, so single precision would show its rounding
    mapping = Sectors(n_clusters, False).double()
    angles = 2 * math.pi * torch.arange(n_clusters, dtype=torch.float64) / n_clusters
    for radius in (0.01, 1.0, 3.0):
        sides = [radius * torch.stack([(angles + d).cos(), (angles + d).sin()], 1) for d in (1e-8, -1e-8)]
        jump = (mapping(sides[0]) - mapping(sides[1])).abs().max()
        assert float(jump) < 1e-4 * max(radius, 1)
        on_edge = radius * torch.stack([angles.cos(), angles.sin()], 1)
        torch.testing.assert_close(mapping(on_edge), on_edge, atol=1e-4, rtol=0)


def test_proportions_are_fixed_unless_learned():
    assert not any(p.requires_grad for p in Sectors(6, False).parameters())
    mapping = _with_shares([0.5, 0.3, 0.2])
    mapping(_codes(20, 2)).square().sum().backward()
    assert float(mapping.logits[0].grad.abs().min()) > 0


def test_entropy_gap_has_its_limits():
    n_factors = 50
    row = torch.rand(1, n_factors, generator=_generator())
    assert float(entropy_gap(row.expand(200, -1))) == pytest.approx(0, abs=1e-5)
    one_each = torch.eye(n_factors).repeat(4, 1)
    assert float(entropy_gap(one_each)) == pytest.approx(-math.log(n_factors), abs=1e-4)
    # fewer cells than latents: only so many can be used
    assert float(entropy_gap(one_each[:10])) == pytest.approx(-math.log(10), abs=1e-4)
    random = torch.rand(100, n_factors, generator=_generator())
    assert -math.log(n_factors) < float(entropy_gap(random)) < 0
    torch.testing.assert_close(entropy_gap(3 * random), entropy_gap(random))


def test_entropy_gap_is_minus_the_jensen_shannon_divergence():
    sizes = torch.rand(7, 4, generator=_generator(), dtype=torch.float64)
    shares = (sizes / sizes.sum(1, keepdim=True)).numpy()
    middle = shares.mean(axis=0)
    divergence = np.mean([(p * np.log(p / middle)).sum() for p in shares])
    assert float(entropy_gap(sizes)) == pytest.approx(-divergence, abs=1e-6)


def test_selector_multiplies_codes_by_gates():
    y = _codes(30, 5)
    mapping = SparseSelector(5, False, _generator())
    gates = mapping.gates(y)
    assert 0 < float(gates.detach().min()) <= float(gates.detach().max()) < 1
    assert torch.equal(mapping(y), y * gates)
    torch.testing.assert_close(mapping.penalty(y), entropy_gap(gates))
    of_codes = SparseSelector(5, True, _generator())
    torch.testing.assert_close(of_codes.penalty(y), entropy_gap((y * gates).abs()))


def test_the_first_block_passes_and_each_later_one_sees_the_one_before():
    y = _codes(6, 6).requires_grad_()
    mapping = Hierarchy([1, 2, 3], 0.1, _generator())
    z = mapping(y)
    assert torch.equal(z[:, :1], y[:, :1])
    hidden = mapping.steps[0](y[:, :3])
    expected = torch.where(hidden > 0, hidden, 0.1 * hidden)
    torch.testing.assert_close(z[:, 1:3], expected)
    # the last block reaches down to the first, the first not up to the last
    assert float(torch.autograd.grad(z[:, 3:].sum(), y, retain_graph=True)[0][:, 0].abs().max()) > 0
    assert float(torch.autograd.grad(z[:, :1].sum(), y)[0][:, 3:].abs().max()) == 0
    assert float(Hierarchy([1, 5], 0.0, _generator())(y).detach()[:, 1:].min()) >= 0
