"""Matched correlation against a search over all permutations."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentree.metrics import chance_agreement, matched_correlation


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=30)
def test_the_mean_is_the_best_over_all_permutations(seed, n_factors):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 30, n_factors))
    r = np.abs(np.corrcoef(a.T, b.T)[:n_factors, n_factors:])
    best = max(r[range(n_factors), p].mean() for p in map(list, permutations(range(n_factors))))
    assert matched_correlation(a, b).mean == pytest.approx(best)


def test_order_sign_and_scale_do_not_matter():
    z = np.random.default_rng(0).normal(size=(50, 4))
    found = matched_correlation(z, (z * [1, -2, 3e3, -4] + 5)[:, [2, 0, 3, 1]])
    assert found.mean == pytest.approx(1)
    assert found.per_factor == pytest.approx(np.ones(4))
    assert found.partner.tolist() == [1, 3, 0, 2]


def test_a_live_factor_that_the_other_fit_lacks_counts_as_0():
    z = np.random.default_rng(0).normal(size=(50, 3))
    alive = np.array([True, True, False])
    found = matched_correlation(z, z, None, alive)
    assert found.per_factor == pytest.approx([1, 1, 0])
    assert found.partner.tolist() == [0, 1, -1]
    assert found.mean == pytest.approx(2 / 3)
    # the same seen from the other fit: its dead factor has no value, the mean is the same
    back = matched_correlation(z, z, alive, None)
    assert np.isnan(back.per_factor[2])
    assert back.mean == pytest.approx(2 / 3)


def test_a_factor_dead_in_both_fits_does_not_count():
    z = np.random.default_rng(0).normal(size=(50, 3))
    alive = np.array([True, False, True])
    assert matched_correlation(z, z, alive, alive).mean == pytest.approx(1)
    assert np.isnan(matched_correlation(z, z, np.zeros(3, bool), np.zeros(3, bool)).mean)


def test_a_constant_factor_agrees_with_nothing():
    z = np.random.default_rng(0).normal(size=(50, 2))
    flat = z.copy()
    flat[:, 1] = 0.1
    assert matched_correlation(flat, z).per_factor == pytest.approx([1, 0])


def test_chance_is_what_factors_without_a_rotation_of_their_own_agree_by():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(4000, 6))
    # independent factors of the same span: the best match of a random rotation, the same in every call
    chance = chance_agreement(latents, latents)
    assert 0.5 < chance < 0.75
    assert chance == chance_agreement(latents, latents)
    assert matched_correlation(latents, latents).mean == pytest.approx(1)
    # factors that correlate agree by chance more, factors of other cells less
    shared = latents + 2 * rng.normal(size=(4000, 1))
    assert chance_agreement(shared, shared) > chance + 0.05
    assert chance_agreement(latents, rng.normal(size=(4000, 6))) < 0.1
