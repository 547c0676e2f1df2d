"""Hoyer sparsity of latents and its Gaussian floor, against the method note's values and a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentree.metrics import gaussian_hoyer, latent_hoyer


def test_equals_a_plain_loop_over_cells_without_centring():
    z = np.random.default_rng(0).gamma(1.0, size=(40, 5)) * [1, 10, 0.1, 3, 7]
    sd = [np.sqrt(np.mean((z[:, k] - z[:, k].mean()) ** 2)) for k in range(5)]
    values = []
    for cell in z:
        scaled = [abs(v / s) for v, s in zip(cell, sd, strict=True)]
        ratio = sum(scaled) / np.sqrt(sum(v**2 for v in scaled))
        values.append((np.sqrt(5) - ratio) / (np.sqrt(5) - 1))
    found = latent_hoyer(z)
    assert found.value == pytest.approx(np.mean(values))
    assert (found.n_factors, found.n_dropped) == (5, 0)


def test_one_factor_on_in_each_cell_scores_1_and_all_alike_0():
    assert latent_hoyer(np.tile(np.eye(4), (5, 1))).value == pytest.approx(1)
    signs = np.tile([[1.0], [-1.0]], (6, 3))
    assert latent_hoyer(signs).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("n_factors", "published"),
    [(5, 0.294), (10, 0.266), (15, 0.254), (20, 0.248), (50, 0.231), (128, 0.220)],
)
def test_the_floor_is_what_gaussian_latents_score(n_factors, published):
    assert gaussian_hoyer(n_factors) == pytest.approx(published, abs=0.003)
    z = np.random.default_rng(0).normal(size=(20_000, n_factors))
    assert latent_hoyer(z).value == pytest.approx(gaussian_hoyer(n_factors), abs=0.005)


def test_the_floor_of_two_factors_is_an_integral_over_the_circle():
    angle = (np.arange(100_000) + 0.5) / 100_000 * 2 * np.pi
    ratio = np.mean(np.abs(np.cos(angle)) + np.abs(np.sin(angle)))
    assert gaussian_hoyer(2) == pytest.approx((np.sqrt(2) - ratio) / (np.sqrt(2) - 1))
    assert np.isnan(gaussian_hoyer(1))


def test_dead_factors_and_empty_cells_are_left_out_and_counted():
    z = np.random.default_rng(0).normal(size=(30, 4))
    z[:3] = 0
    padded = np.column_stack([z, np.full(30, 7.0), 1e-10 * np.arange(30)])
    found = latent_hoyer(padded)
    assert (found.n_factors, found.n_dropped) == (4, 3)
    assert found == latent_hoyer(z)


def test_nothing_to_say_is_nan():
    for z in (np.zeros((5, 3)), np.random.default_rng(0).normal(size=(5, 1)), np.zeros((0, 3))):
        assert np.isnan(latent_hoyer(z).value)


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_it_lies_in_0_1_and_ignores_scale_sign_and_order(seed, n_factors):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(25, n_factors)) * (rng.random((25, n_factors)) < 0.5)
    found = latent_hoyer(z)
    changed = (z * rng.choice([-1, 1], n_factors) * rng.uniform(0.01, 100, n_factors))[:, ::-1]
    assert 0 <= found.value <= 1 + 1e-12
    assert latent_hoyer(changed).value == pytest.approx(found.value)
    assert latent_hoyer(changed).n_dropped == found.n_dropped
