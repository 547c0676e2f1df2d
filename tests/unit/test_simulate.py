"""The simulators do what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentree.simulate import balanced_tree, node_weights, simulate_environments, sparse_changes
from latentree.tree import Tree


def test_a_balanced_tree_has_two_children_everywhere():
    tree = balanced_tree(4)
    assert (tree.n_nodes, len(tree.leaves)) == (31, 16)
    assert {len(tree.path(leaf)) for leaf in tree.leaves} == {5}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 8), st.integers(0, 100))
def test_exactly_k_latents_change_on_every_branch(n_latents, n_changes, seed):
    changes = sparse_changes(20, n_latents, np.random.default_rng(seed), n_changes=n_changes)
    assert set((changes != 0).sum(axis=1)) == {min(n_changes, n_latents)}


def test_changes_are_standard_normal_and_hit_all_latents_alike():
    changes = sparse_changes(20000, 4, np.random.default_rng(0), n_changes=1)
    assert (changes != 0).mean(axis=0) == pytest.approx(np.full(4, 0.25), abs=0.02)
    assert changes[changes != 0].std() == pytest.approx(1, abs=0.02)
    drawn = sparse_changes(20000, 4, np.random.default_rng(0), probability=0.5)
    assert (drawn != 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("arguments", [{}, {"n_changes": 1, "probability": 0.5}])
def test_the_number_of_changes_is_said_in_one_way(arguments):
    with pytest.raises(ValueError, match="either"):
        sparse_changes(3, 2, np.random.default_rng(0), **arguments)


def test_weights_are_sums_along_the_path():
    tree = Tree.from_table([("a", None), ("b", "a"), ("c", "b"), ("d", "a")])
    changes = {"b": 1.0, "c": 10.0, "d": 100.0}
    weights = node_weights(tree, np.array([0.5]), np.array([[changes[arc]] for arc in tree.arcs]))
    found = dict(zip(tree.names, weights[:, 0], strict=True))
    assert found == {"a": 0.5, "b": 1.5, "c": 11.5, "d": 100.5}


@pytest.mark.parametrize("psi", ["mlp", "linear"])
def test_cells_follow_the_model(psi):
    sim = simulate_environments(3, 2, n_cells=500, psi=psi, seed=3)
    names = set(sim.environments)
    assert names == set(sim.tree.names[1:])
    w = sim.weights[[sim.tree.index[name] for name in sim.environments]]
    assert (sim.y - (w * sim.Z).sum(axis=1)).std() == pytest.approx(0.1, rel=0.1)
    # psi has unit variance, eta adds 1%
    assert sim.Z.std(axis=0) == pytest.approx(np.sqrt(1.01) * np.ones(2), rel=0.01)
    expected = 0.01 * (1 + (w**2).sum(axis=1)).mean()
    assert sim.noise_floor == pytest.approx(expected, rel=0.05)
    design = np.column_stack([sim.X, np.ones(len(sim.X))])
    left = sim.Z - design @ np.linalg.lstsq(design, sim.Z, rcond=None)[0]
    assert (left.std() < 0.11) == (psi == "linear")


def test_leaf_only_data_and_seeds():
    one, same, other = (simulate_environments(3, 2, n_cells=5, observed="leaves", seed=s) for s in (0, 0, 1))
    assert set(one.environments) == set(one.tree.leaves)
    assert np.array_equal(one.y, same.y)
    assert not np.array_equal(one.y, other.y)
    assert one.X.dtype == one.y.dtype == one.Z.dtype == np.float32
