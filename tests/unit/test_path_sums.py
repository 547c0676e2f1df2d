"""Sums along paths, and the nearest nodes, against dense and plain computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentree.path_sums import PathSums, preorder_positions, subtree_sizes
from latentree.tree import Tree


def random_parents(rng: np.random.Generator, n_nodes: int, comb: bool) -> np.ndarray:
    """A random tree, parents first but not in preorder; with ``comb`` a deep one."""
    lowest = [max(0, i - 3) if comb else 0 for i in range(1, n_nodes)]
    return np.array([-1, *(int(rng.integers(low, i + 1)) for i, low in enumerate(lowest))])


def dense_paths(parents: np.ndarray) -> np.ndarray:
    paths = np.zeros((len(parents), len(parents) - 1))
    for node in range(1, len(parents)):
        paths[node] = paths[parents[node]]
        paths[node, node - 1] = 1
    return paths


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.booleans(), st.integers(0, 10**6))
def test_sums_and_their_gradient_equal_the_dense_product(n_nodes: int, comb: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents = random_parents(rng, n_nodes, comb)
    nodes = rng.permutation(n_nodes)[: rng.integers(1, n_nodes + 1)]
    changes, gradient = rng.normal(size=(n_nodes - 1, 3)), rng.normal(size=(len(nodes), 3))
    dense = dense_paths(parents)[nodes]
    sums = PathSums(parents, nodes)
    assert sums.forward(changes) == pytest.approx(dense @ changes, abs=1e-12)
    assert sums.backward(gradient) == pytest.approx(dense.T @ gradient, abs=1e-12)


def test_a_long_comb_needs_no_more_than_its_nodes() -> None:
    n_nodes = 40_001
    parents = np.array([-1, *(2 * ((i - 1) // 2) for i in range(1, n_nodes))])
    sums = PathSums(parents, np.arange(n_nodes))
    changes = np.ones((n_nodes - 1, 1))
    depth = sums.forward(changes)[:, 0]
    assert depth[-1] == 20_000
    assert sums.backward(np.ones((n_nodes, 1)))[:, 0] == pytest.approx(subtree_sizes(parents)[1:])


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_preorder_makes_every_subtree_a_range(n_nodes: int, seed: int) -> None:
    parents = random_parents(np.random.default_rng(seed), n_nodes, comb=False)
    place, sizes = preorder_positions(parents), subtree_sizes(parents)
    assert sorted(place) == list(range(n_nodes))
    below = np.hstack([np.ones((n_nodes, 1)), dense_paths(parents)]).T != 0
    assert np.array_equal(sizes, below.sum(axis=1))
    for node in range(n_nodes):
        expected = np.arange(place[node], place[node] + sizes[node])
        assert np.array_equal(np.sort(place[below[node]]), expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 15), st.integers(0, 10**6))
def test_the_nearest_node_is_the_one_at_the_smallest_distance(n_nodes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = tuple(f"n{i}" for i in range(n_nodes))
    # whole lengths, 0 among them, so that ties are exact
    tree = Tree(names, random_parents(rng, n_nodes, comb=False), rng.integers(0, 4, n_nodes).astype(float))
    observed = rng.choice(names, rng.integers(1, n_nodes + 1), replace=False).tolist()
    nearest = tree.nearest_of_all(observed)
    for name, found in zip(names, nearest.tolist(), strict=True):
        ways = [
            (tree.distance(name, o), len(set(tree.path(name)) ^ set(tree.path(o))), tree.index[o])
            for o in observed
        ]
        assert found == (tree.index[name] if name in observed else min(ways)[2])
        assert tree.nearest(name, observed) == names[found]
