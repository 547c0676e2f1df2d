"""Kim and Mnih's score against a plain loop of votes and cases whose score is known."""

import numpy as np
import pytest
from scipy import stats

from latentree.metrics import kim_mnih, student_t_to_gaussian


def _grid(*sizes: int) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_one_latent_for_each_factor_scores_1_whatever_order_and_scale():
    factors = _grid(3, 4, 5)
    latents = factors[:, [2, 0, 1]] * [-1, 50, 0.5] + 3
    assert kim_mnih(latents, factors, _rng()) == 1


def test_latents_without_the_factors_score_by_chance():
    factors = _grid(4, 4, 4)
    factors = np.repeat(factors, 40, axis=0)
    latents = _rng().normal(size=(len(factors), 3))
    assert 1 / 3 <= kim_mnih(latents, factors, _rng(), n_items=20, n_votes=2000) < 0.45


def test_equals_a_plain_loop_of_votes():
    rng = np.random.default_rng(1)
    factors = rng.integers(0, 3, size=(200, 3))
    latents = factors @ np.array([[1, 0.8, 0], [0.3, 1, 0.5], [0.9, 0, 1]]) + rng.normal(size=(200, 3))
    votes = np.zeros((3, 3))
    for _ in range(4000):
        k = rng.integers(3)
        items = np.flatnonzero(factors[:, k] == rng.integers(3))
        chosen = rng.choice(items, size=min(25, len(items)), replace=False)
        votes[np.argmin(latents[chosen].var(axis=0) / latents.var(axis=0)), k] += 1
    oracle = votes.max(axis=1).sum() / 4000
    assert 0.4 < oracle < 0.95
    assert kim_mnih(latents, factors, _rng(), n_votes=4000, n_items=25) == pytest.approx(oracle, abs=0.04)


def test_one_latent_for_two_factors_names_the_more_frequent_one():
    """Votes are of one latent only; the best it can stand for is one of two equally frequent factors."""
    factors = _grid(5, 5)
    found = kim_mnih(factors.sum(axis=1, keepdims=True), factors, _rng(), n_votes=10_000)
    assert found == pytest.approx(0.5, abs=0.02)


def test_a_dead_latent_would_compete_and_is_left_out():
    factors = np.repeat(_grid(3, 3), 30, axis=0)
    noisy = factors + 0.3 * _rng().normal(size=factors.shape)
    # still but for one item: in units of its own standard deviation it varies least in most votes
    dead = 1e-4 * (np.arange(len(factors)) == len(factors) - 1)[:, None]
    padded = np.hstack([noisy, dead])
    alive = kim_mnih(noisy, factors, _rng())
    assert alive == 1
    assert kim_mnih(padded, factors, _rng(), min_sd=0) == pytest.approx(2 / 3, abs=0.02)
    assert kim_mnih(padded, factors, _rng()) == alive
    # also by its KL, where its size says nothing
    large = np.hstack([noisy, 1e5 * dead])
    assert kim_mnih(large, factors, _rng()) < 0.7
    assert kim_mnih(large, factors, _rng(), kl=np.array([2.0, 3.0, 0.01])) == alive


def test_collapse_scores_0_and_constant_factors_are_not_asked_for():
    factors = _grid(3, 3)
    assert kim_mnih(np.zeros((9, 4)), factors, _rng()) == 0
    with_constant = np.column_stack([factors, np.full(9, 2)])
    assert kim_mnih(factors, with_constant, _rng()) == 1
    assert np.isnan(kim_mnih(factors, np.ones((9, 2)), _rng()))
    with pytest.raises(ValueError, match="same items"):
        kim_mnih(factors, factors[:5], _rng())


def test_student_t_latents_become_gaussian_to_the_far_tails():
    z = np.random.default_rng(0).standard_t(3, size=5000)
    mapped = student_t_to_gaussian(z, 3)
    assert stats.kstest(mapped, "norm").pvalue > 0.01
    assert np.array_equal(np.argsort(mapped), np.argsort(z))
    middle = np.linspace(-3, 3, 13)
    assert student_t_to_gaussian(middle, 3) == pytest.approx(stats.norm.ppf(stats.t.cdf(middle, 3)))
    far = student_t_to_gaussian(np.array([-1e9, -1e5, 1e5, 1e9]), 3)
    assert np.isfinite(far).all()
    assert far == pytest.approx(-far[::-1])
