"""The decoder of groups against a plain loop over groups, and its steps on W against their definition."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentree.adam import Adam
from latentree.models.group_decoder import GroupDecoder
from latentree.models.spike_slab import group_soft_threshold

MEMBER = torch.tensor([2, 0, 0, 1, 2, 2, 0])


def _decoder(curved: bool = True, width: int = 2, seed: int = 0) -> GroupDecoder:
    decoder = GroupDecoder(MEMBER, 3, 4, width, curved, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in (decoder.bias, *([decoder.shift] if curved else [])):
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return decoder


@pytest.mark.parametrize("curved", [True, False])
def test_decoder_is_a_small_network_for_each_group(curved):
    decoder = _decoder(curved)
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    expected = torch.empty(5, len(MEMBER))
    for j, group in enumerate(MEMBER.tolist()):
        inputs = z @ decoder.weights[group]
        if decoder.shift is not None:
            inputs = torch.tanh(inputs + decoder.shift[group])
        expected[:, j] = inputs @ decoder.heads[j] + decoder.bias[j]
    torch.testing.assert_close(decoder(z), expected)


def test_a_column_of_zeros_means_no_influence():
    decoder = _decoder()
    with torch.no_grad():
        decoder.weights[2, 1] = 0
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    moved = z.clone()
    moved[:, 1] += 3
    changed = (decoder(moved) != decoder(z)).any(0)
    assert changed.tolist() == (MEMBER != 2).tolist()


@given(norm=st.floats(0.01, 3), eta=st.floats(0.01, 0.5), lam=st.floats(0.01, 5))
def test_a_proximal_step_takes_exactly_eta_lam_or_all(norm, eta, lam):
    column = torch.tensor([0.6, -0.8], dtype=torch.float64) * norm
    found = group_soft_threshold(column, torch.tensor(eta * lam, dtype=torch.float64))
    if norm <= eta * lam:
        assert (found == 0).all()
    else:
        assert float(found.norm()) == pytest.approx(norm - eta * lam, abs=1e-12)
        torch.testing.assert_close(found / found.norm(), column / norm)


def test_sgd_step_is_a_gradient_step_and_then_the_proximal_one():
    decoder = _decoder()
    before = decoder.weights.detach().clone()
    decoder(torch.ones(1, 4)).square().sum().backward()
    penalty = torch.tensor([[0.5], [50.0], [0.0]]).expand(-1, 4)
    decoder.sgd_step(0.1, penalty)
    moved = before - 0.1 * decoder.weights.grad
    for group in range(3):
        for factor in range(4):
            w = moved[group, factor]
            shrunken = w * max(0.0, 1 - 0.1 * float(penalty[group, factor]) / float(w.norm()))
            torch.testing.assert_close(decoder.weights[group, factor].detach(), shrunken)
    assert (decoder.norms()[1] == 0).all()
    assert (decoder.norms()[2] > 0).all()


def test_penalty_of_nothing_leaves_no_zeros_in_either_kind_of_step():
    decoder = _decoder()
    optimizer = Adam([{"params": [decoder.weights]}], lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        decoder(torch.ones(1, 4)).square().sum().backward()
        optimizer.step()
        decoder.adam_prox(optimizer.state[decoder.weights], optimizer.param_groups[0], torch.zeros(3, 4))
        decoder.sgd_step(0.01, torch.zeros(3, 4))
    assert (decoder.weights != 0).all()


@pytest.mark.parametrize("width", [1, 2, 4])
def test_heads_start_at_the_principal_components_of_their_groups(width):
    decoder = _decoder(width=width)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, len(MEMBER))) @ rng.normal(size=(len(MEMBER), len(MEMBER)))
    random = decoder.heads.detach().clone()
    decoder.start_heads(torch.from_numpy(x).float())
    for group in range(3):
        genes = (group == MEMBER).numpy()
        centred = x[:, genes] - x[:, genes].mean(0)
        _, lengths, axes = np.linalg.svd(centred / np.sqrt(50), full_matrices=False)
        n_axes = min(width, int(genes.sum()))
        found = decoder.heads[genes].detach().numpy()
        np.testing.assert_allclose(
            np.abs(found[:, :n_axes].T), np.abs(axes * lengths[:, None])[:n_axes], atol=1e-4
        )
        np.testing.assert_array_equal(found[:, n_axes:], random[genes][:, n_axes:])


def test_theta_loss_is_the_normal_prior_of_heads_and_shifts():
    decoder = _decoder()
    normal = torch.distributions.Normal(0.0, 1.0)
    theta = torch.cat([decoder.heads.flatten(), decoder.shift.flatten()])
    expected = -(normal.log_prob(theta) - normal.log_prob(torch.zeros(()))).sum()
    torch.testing.assert_close(decoder.theta_loss(), expected)
