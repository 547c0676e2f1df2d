"""The spike-and-slab lasso against direct densities, grids and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentree.models.spike_slab import (
    PenaltySchedule,
    Rates,
    expected_rates,
    group_sizes,
    group_soft_threshold,
    inclusion_probability,
    proximal_step,
    update_eta,
)

weights = st.floats(-3, 3)
slabs = st.floats(0.01, 5)


def _tensor(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@given(w=weights, eta=st.floats(0.001, 0.999), slab=slabs, ratio=st.floats(1, 20))
def test_inclusion_is_the_posterior_of_the_two_laplace_densities(w, eta, slab, ratio):
    spike = slab * ratio
    of_slab = eta * slab / 2 * math.exp(-slab * abs(w))
    of_spike = (1 - eta) * spike / 2 * math.exp(-spike * abs(w))
    found = inclusion_probability(
        _tensor(abs(w)), torch.tensor([eta], dtype=torch.float64), Rates(spike, slab)
    )
    assert float(found) == pytest.approx(of_slab / (of_slab + of_spike), rel=1e-9)


def test_inclusion_is_finite_at_rates_of_a_large_atlas():
    w = torch.tensor([[0.0, 1e-4, 5.0]])
    found = inclusion_probability(w, torch.full((3,), 1e-10), Rates(spike=8e4, slab=2e4))
    assert torch.isfinite(found).all()
    assert found[0, 0] < 1e-9
    assert found[0, 2] == 1


def test_expected_rates_mix_spike_and_slab():
    inclusion = torch.tensor([[0.0, 0.25, 1.0]])
    assert expected_rates(inclusion, Rates(spike=8, slab=4)).tolist() == [[8, 7, 4]]


def test_eta_is_the_mode_of_its_beta_posterior():
    inclusion = torch.tensor([[0.9, 0.0], [0.6, 0.0], [0.8, 0.3]], dtype=torch.float64)
    grid = np.linspace(1e-4, 1 - 1e-4, 100_000)
    a, b = 1.5, 4.0
    found = update_eta(inclusion, a, b)
    for factor in range(2):
        p = inclusion[:, factor].numpy()
        log_posterior = (p.sum() + a - 1) * np.log(grid) + ((1 - p).sum() + b - 1) * np.log(1 - grid)
        assert float(found[factor]) == pytest.approx(grid[log_posterior.argmax()], abs=2e-5)


def test_eta_of_a_factor_without_genes_is_tiny_and_not_zero():
    eta = update_eta(torch.zeros(5, 2), a=1, b=5)
    assert (eta > 0).all()
    assert (eta < 1e-9).all()


def test_every_fit_has_its_own_memberships_and_shares():
    generator = torch.Generator().manual_seed(0)
    sizes, eta = torch.rand(2, 5, 3, generator=generator), torch.rand(2, 3, generator=generator)
    rates = Rates(spike=4, slab=1)
    together = inclusion_probability(sizes, eta, rates)
    for fit in range(2):
        alone = inclusion_probability(sizes[fit], eta[fit], rates)
        torch.testing.assert_close(together[fit], alone)
        torch.testing.assert_close(update_eta(together, 1, 5)[fit], update_eta(alone, 1, 5))


@given(value=weights, threshold=st.floats(0, 2))
def test_soft_threshold_of_a_number_minimises_its_objective(value, threshold):
    grid = np.linspace(-3.5, 3.5, 70_001)
    best = grid[(0.5 * (grid - value) ** 2 + threshold * abs(grid)).argmin()]
    found = float(group_soft_threshold(_tensor(value), torch.tensor([threshold], dtype=torch.float64)))
    assert found == pytest.approx(best, abs=1e-4)
    assert (found == 0) == (abs(value) <= threshold)


@given(first=weights, second=weights, threshold=st.floats(0, 2))
def test_group_soft_threshold_minimises_its_objective(first, second, threshold):
    group = torch.tensor([[first, second]], dtype=torch.float64)
    found = group_soft_threshold(group, torch.tensor([threshold], dtype=torch.float64))[0]

    def objective(point: np.ndarray) -> np.ndarray:  # (..., 2)
        distance = ((point - group[0].numpy()) ** 2).sum(-1)
        return 0.5 * distance + threshold * np.linalg.norm(point, axis=-1)

    axis = np.linspace(-3.2, 3.2, 129)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    assert float(objective(found.numpy())) <= objective(grid).min() + 1e-9
    # all terms of a group are zero together
    length = math.hypot(first, second)
    if abs(length - threshold) > 1e-9:
        assert bool((found == 0).all()) == (length < threshold or length == 0)


def test_sizes_are_the_lengths_of_the_groups():
    assert group_sizes(torch.tensor([[[3.0, -4.0], [0.0, 0.0]]])).tolist() == [[5, 0]]
    assert group_sizes(torch.tensor([[[-2.0], [0.5]]])).tolist() == [[2, 0.5]]


def test_one_proximal_step_is_adams_step_followed_by_the_minimiser_on_a_grid():
    # one gene, three factors of one term each
    w = torch.tensor([[[0.5], [-0.02], [0.3]]], dtype=torch.float64, requires_grad=True)
    start, gradient = w.detach().clone(), torch.tensor([[[0.7], [-0.1], [2.0]]], dtype=torch.float64)
    penalty = torch.tensor([[0.3, 0.2, 5.0]], dtype=torch.float64)
    adam = torch.optim.Adam([w], lr=0.05)
    w.grad = gradient.clone()
    adam.step()
    proximal_step(w, adam.state[w], adam.param_groups[0], penalty)
    # after one step Adam's corrected moments are the gradient and its square
    step_size = 0.05 / (gradient.abs() + 1e-8)
    grid = np.linspace(-1, 1, 2_000_001)
    for k in range(3):
        s, g, p = float(step_size[0, k]), float(gradient[0, k]), float(penalty[0, k])
        moved = float(start[0, k]) - s * g
        best = grid[((grid - moved) ** 2 / (2 * s) + p * abs(grid)).argmin()]
        assert float(w[0, k].detach()) == pytest.approx(best, abs=2e-6)


def test_a_group_is_thresholded_by_the_step_size_of_its_mean_curvature():
    w = torch.tensor([[[0.5, 0.4]]], dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.05)
    w.grad = torch.tensor([[[3.0, 4.0]]], dtype=torch.float64)
    adam.step()
    moved = w.detach().clone()
    proximal_step(w, adam.state[w], adam.param_groups[0], torch.tensor([[2.0]], dtype=torch.float64))
    threshold = 0.05 * 2 / math.sqrt((9 + 16) / 2)
    expected = moved * (1 - threshold / float(moved.norm()))
    torch.testing.assert_close(w.detach(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_terms", [1, 2])
def test_proximal_adam_solves_a_separable_lasso_with_exact_zeros(n_terms):
    centre = torch.tensor([[2.0, -0.8, 0.3, -0.05, 0.0]], dtype=torch.float64)[..., None]
    # terms of one size, so that Adam's step sizes within a group are one: else there is no closed form
    signs = torch.tensor([1.0, -1.0][:n_terms], dtype=torch.float64)
    centre = centre * signs / math.sqrt(n_terms)
    curvature = torch.tensor([[1.0, 4.0, 0.5, 2.0, 1.0]], dtype=torch.float64)
    penalty = torch.full_like(curvature, 0.4)
    w = (torch.ones_like(centre) * signs).requires_grad_()
    adam = torch.optim.Adam([w], lr=0.02)
    for _ in range(3000):
        adam.zero_grad()
        (0.5 * curvature[..., None] * (w - centre) ** 2).sum().backward()
        adam.step()
        proximal_step(w, adam.state[w], adam.param_groups[0], penalty)
    length = centre.norm(dim=-1)
    shrunk = (length - penalty / curvature).clamp(min=0)
    solution = centre * (shrunk / length.clamp_min(1e-9))[..., None]
    zero = shrunk == 0
    assert (group_sizes(w.detach()) == 0).equal(zero)
    torch.testing.assert_close(w.detach(), solution, atol=1e-3, rtol=0)


SCHEDULE = PenaltySchedule(spike=0.4, slab=0.1, n_rungs=8, refit_from=0.8)


def test_the_ladder_climbs_geometrically_from_slab_to_spike():
    spikes = [SCHEDULE.rates(progress).spike for progress in np.linspace(0, 0.999, 2000)]
    rungs = sorted(set(spikes))
    assert len(rungs) == 8
    assert spikes == sorted(spikes)
    assert rungs[0] == pytest.approx(0.1)
    assert rungs[-1] == pytest.approx(0.4)
    ratios = np.divide(rungs[1:], rungs[:-1])
    np.testing.assert_allclose(ratios, 4 ** (1 / 7), rtol=1e-9)
    assert SCHEDULE.rates(0.1).spike == pytest.approx(0.1)
    assert SCHEDULE.rates(0.7).spike == pytest.approx(0.4)


def test_the_penalty_ramps_in_and_ends_with_the_refit():
    assert [SCHEDULE.strength(p) for p in (0, 0.05, 0.1, 0.9)] == [0, 0.5, 1, 1]
    assert [SCHEDULE.refitting(p) for p in (0, 0.79, 0.8, 0.99)] == [False, False, True, True]


def test_one_rung_means_full_penalty_from_the_first_step():
    schedule = PenaltySchedule(spike=10, slab=1, n_rungs=1, refit_from=1)
    assert schedule.rates(0) == schedule.rates(0.99) == Rates(10, 1)
    assert schedule.strength(0) == 1
    assert not schedule.refitting(0.999)
