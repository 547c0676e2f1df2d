"""ARI and NMI against pair counting and entropies written out."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentree.metrics import ari, cluster_cells, nmi

PARTITIONS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=30).filter(
    lambda pairs: len({a for a, _ in pairs}) > 1 and len({b for _, b in pairs}) > 1
)


@given(PARTITIONS)
def test_ari_counts_pairs(partition):
    a, b = map(np.array, zip(*partition, strict=True))
    together = np.array([(a[i] == a[j], b[i] == b[j]) for i, j in combinations(range(len(a)), 2)])
    both, in_a, in_b = (together.all(axis=1).sum(), together[:, 0].sum(), together[:, 1].sum())
    expected = in_a * in_b / len(together)
    most = (in_a + in_b) / 2
    oracle = 1.0 if most == expected else (both - expected) / (most - expected)
    assert ari(a, b) == pytest.approx(oracle, abs=1e-9)


@given(PARTITIONS)
def test_nmi_is_mutual_information_over_the_mean_entropy(partition):
    a, b = map(np.array, zip(*partition, strict=True))

    def entropy(values: np.ndarray) -> float:
        p = np.unique(values, return_counts=True)[1] / len(values)
        return float(-(p * np.log(p)).sum())

    information = entropy(a) + entropy(b) - entropy(a * 10 + b)
    assert nmi(a, b) == pytest.approx(2 * information / (entropy(a) + entropy(b)), abs=1e-9)


def test_names_and_numbers_of_the_clusters_do_not_matter():
    assert ari(["x", "x", "y"], [1, 1, 0]) == nmi(["x", "x", "y"], [7, 7, -2]) == 1.0


def test_clusters_find_separate_types_whatever_the_factors_scale():
    rng = np.random.default_rng(0)
    types = np.repeat(["B", "T", "NK"], [50, 40, 30])
    centres = {"B": [0, 0], "T": [0, 9], "NK": [9, 0]}
    z = np.array([centres[name] for name in types]) + rng.normal(size=(120, 2))
    clusters = cluster_cells(z * [1, 1e4], 3, seed=0)
    assert ari(types, clusters) > 0.95
    assert np.array_equal(clusters, cluster_cells(z * [1, 1e4], 3, seed=0))


def test_fewer_distinct_cells_than_clusters():
    assert len(set(cluster_cells(np.zeros((6, 2)), 3))) == 1
    assert len(set(cluster_cells(np.array([[0.0], [0.0], [1.0]]), 5))) == 2
