"""Silhouette and mixing of batches against loops over cells and constructed cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from latentree.metrics import batch_mixing, silhouette


def _standardised(z: np.ndarray) -> np.ndarray:
    return (z - z.mean(axis=0)) / z.std(axis=0)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_silhouette_is_the_mean_width_of_cells(seed):
    rng = np.random.default_rng(seed)
    code = np.concatenate([[0, 1, 2, 0, 1], rng.integers(0, 3, 15)])
    z = rng.normal(size=(20, 2)) + code[:, None]
    distance = cdist(_standardised(z), _standardised(z))
    widths = []
    for i in range(20):
        own = (code == code[i]) & (np.arange(20) != i)
        if not own.any():
            widths.append(0.0)
            continue
        a = distance[i, own].mean()
        b = min(distance[i, code == c].mean() for c in range(3) if c != code[i])
        widths.append((b - a) / max(a, b))
    assert silhouette(z, code) == pytest.approx(np.mean(widths))
    assert silhouette(z * [1, 1e4] + 3, code) == pytest.approx(np.mean(widths))


def test_many_cells_are_sampled_with_the_seed():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 2, 900)
    z = rng.normal(size=(900, 2)) + 2 * code[:, None]
    sampled = silhouette(z, code, max_cells=300)
    assert sampled == silhouette(z, code, max_cells=300)
    assert sampled != silhouette(z, code, max_cells=300, seed=1)
    assert sampled == pytest.approx(silhouette(z, code), abs=0.05)


def test_silhouette_of_what_cannot_be_told_apart():
    z = np.random.default_rng(0).normal(size=(4, 2))
    assert np.isnan(silhouette(z, ["a"] * 4))
    assert np.isnan(silhouette(z, list("abcd")))
    assert np.isnan(silhouette(z[:, :0], list("abab")))
    with pytest.raises(ValueError, match="one label for each cell"):
        silhouette(z, ["a"])


@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_mixing_equals_a_loop_over_cells(seed, k):
    rng = np.random.default_rng(seed)
    types = np.concatenate([["only"] * 4, rng.choice(["T", "B"], 36)])
    batches = np.where(types == "only", "x", rng.choice(["x", "y", "z"], 40, p=[0.6, 0.3, 0.1]))
    z = rng.normal(size=(40, 2)) + (batches == "x")[:, None]
    distance = cdist(_standardised(z), _standardised(z))
    found = expected = 0.0
    for name in ("T", "B"):
        cells = [i for i in range(40) if types[i] == name]
        if len({batches[i] for i in cells}) < 2:
            continue
        for i in cells:
            others = sorted((j for j in cells if j != i), key=lambda j: distance[i, j])
            near = others[:k]
            found += sum(batches[j] != batches[i] for j in near)
            expected += len(near) * np.mean([batches[j] != batches[i] for j in others])
    assert batch_mixing(z, batches, types, n_neighbours=k) == pytest.approx(found / expected)


def test_batches_at_random_score_1_and_apart_0():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 3))
    batches = rng.choice([0, 1, 2], size=2000, p=[0.8, 0.15, 0.05])
    assert batch_mixing(z, batches) == pytest.approx(1, abs=0.03)
    assert batch_mixing(z + 100 * batches[:, None], batches, n_neighbours=15) == 0
    assert batch_mixing(z, batches, max_cells=500) == pytest.approx(1, abs=0.1)


def test_batches_with_other_shares_of_the_types_are_not_apart():
    """Types far apart, batches mixed within them: without the types the batches seem to be apart."""
    rng = np.random.default_rng(0)
    types = rng.integers(0, 2, 1000)
    batches = (rng.random(1000) < np.where(types == 0, 0.9, 0.1)).astype(int)
    z = rng.normal(size=(1000, 2)) + 50 * types[:, None]
    assert batch_mixing(z, batches, types) == pytest.approx(1, abs=0.05)
    assert batch_mixing(z, batches) < 0.6


def test_nothing_to_mix_is_nan():
    z = np.random.default_rng(0).normal(size=(6, 2))
    assert np.isnan(batch_mixing(z, ["x"] * 6))
    assert np.isnan(batch_mixing(z, list("xxxyyy"), list("TTTBBB")))
    assert np.isnan(batch_mixing(z[:, :0], list("xyxyxy")))
    # all others are neighbours
    assert batch_mixing(z, list("xyxyxy")) == pytest.approx(1)
    with pytest.raises(ValueError, match="a batch and a type"):
        batch_mixing(z, list("xy"))


def test_cells_at_the_same_place_are_not_their_own_neighbours():
    z = np.zeros((4, 2))
    z[:2] += 1
    assert batch_mixing(z, list("xyxy"), n_neighbours=1) == pytest.approx(1.5)
