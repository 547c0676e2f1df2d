"""Maximum mean discrepancy against a plain loop and the closed form for Gaussians."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentree.metrics import median_distance, mmd
from latentree.metrics import mmd as mmd_function


def _loop(x: np.ndarray, y: np.ndarray, widths: list[float]) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([np.exp(-np.sum((a - b) ** 2) / (2 * w**2)) for w in widths]))

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(kernel(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_equals_a_loop_over_pairs(seed, n, m, d):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(1, 2, size=(m, d))
    assert mmd(x, y, scales=(0.5, 2), bandwidth=1.5) == pytest.approx(_loop(x, y, [0.75, 3.0]), abs=1e-9)


def test_bandwidth_is_the_median_distance_of_the_reference():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(20, 2)) + 1
    h = np.median([np.linalg.norm(x[i] - x[j]) for i in range(30) for j in range(i)])
    assert median_distance(x) == pytest.approx(h)
    assert mmd(x, y) == mmd(x, y, bandwidth=median_distance(x))
    assert mmd(x, y, bandwidth=1.0) == pytest.approx(mmd(y, x, bandwidth=1.0))


def test_shifted_gaussians_have_the_value_of_the_integral():
    """E k(a, b) = (h^2 / (h^2 + 2))^(d/2) exp(-|m|^2 / (2 (h^2 + 2))) for a ~ N(0, I), b ~ N(m, I)."""
    d, h, shift = 2, 1.3, np.array([0.8, -0.5])
    same = (h**2 / (h**2 + 2)) ** (d / 2)
    truth = 2 * same * (1 - np.exp(-(shift @ shift) / (2 * (h**2 + 2))))
    rng = np.random.default_rng(0)
    found = [mmd(rng.normal(size=(400, d)), rng.normal(size=(500, d)) + shift, (1.0,), h) for _ in range(20)]
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(20)
    assert np.std(found) < truth / 5


def test_equal_laws_average_to_0_and_give_both_signs():
    rng = np.random.default_rng(1)
    found = np.array([mmd(rng.normal(size=(200, 2)), rng.normal(size=(200, 2))) for _ in range(30)])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(30)
    assert found.min() < 0 < found.max()


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(40, 3))
    whole = mmd(x, y)
    monkeypatch.setitem(mmd_function.__globals__, "_BLOCK", 100)
    assert mmd(x, y) == pytest.approx(whole, abs=1e-12)


def test_refuses_what_has_no_value():
    x = np.random.default_rng(0).normal(size=(5, 2))
    with pytest.raises(ValueError, match="same dimension"):
        mmd(x, x[:, :1])
    with pytest.raises(ValueError, match="same dimension"):
        mmd(x, x[:1])
    with pytest.raises(ValueError, match="finite"):
        mmd(x, np.where(x > 0, x, np.nan))
    with pytest.raises(ValueError, match="bandwidth"):
        mmd(np.zeros((5, 2)), x)
