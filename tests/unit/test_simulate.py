"""The simulators do what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentree.simulate import (
    balanced_tree,
    node_weights,
    simulate_environments,
    simulate_programs,
    sparse_changes,
)
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


def test_programs_are_sparse_and_a_share_of_the_genes_is_noise():
    sim = simulate_programs(8, n_cells=300, n_genes=400, seed=1)
    assert sim.noise_genes.sum() == 80
    member = sim.loadings != 0
    assert set(member[~sim.noise_genes].sum(axis=1)) == {1, 2}
    assert (member.sum(axis=1) == 2).sum() == 32
    assert sim.counts.shape == (300, 400)
    assert sim.counts.dtype == np.int32
    assert (sim.counts >= 0).all()
    assert len(set(sim.cell_types)) == 6


def test_counts_follow_programs_and_types_use_them_differently():
    sim = simulate_programs(4, n_cells=4000, n_genes=100, dispersion=0.1, seed=0)
    share = np.log1p(sim.counts / sim.library_size[:, None] * 1e4)
    for k in range(4):
        only = (sim.loadings[:, k] > 0) & ((sim.loadings > 0).sum(axis=1) == 1)
        mean = share[:, only].mean(axis=1)
        assert np.corrcoef(mean, sim.usage[:, k])[0, 1] > 0.8
        means = [sim.usage[sim.cell_types == name, k].mean() for name in np.unique(sim.cell_types)]
        assert max(means) > 5 * min(means)
    noise = share[:, sim.noise_genes].mean(axis=1)
    assert abs(np.corrcoef(noise, sim.usage.sum(axis=1))[0, 1]) < 0.1


def test_planted_sets_hold_most_of_a_program_and_some_wrong_genes():
    sim = simulate_programs(5, n_cells=20, seed=2)
    assert len(sim.gene_sets) == 10
    for k in range(5):
        inside = set(sim.genes[sim.loadings[:, k] != 0])
        planted = set(sim.gene_sets[f"program{k + 1}"])
        assert len(planted & inside) == round(0.8 * len(inside))
        assert len(planted) == len(sim.gene_sets[f"decoy{k + 1}"])
        assert 0 < len(planted - inside) <= 0.3 * len(planted)


def test_programs_are_the_same_for_the_same_seed():
    one, same, other = (simulate_programs(3, n_cells=30, n_genes=60, seed=s) for s in (0, 0, 1))
    assert np.array_equal(one.counts, same.counts)
    assert one.gene_sets == same.gene_sets
    assert not np.array_equal(one.counts, other.counts)


def test_one_program_is_possible():
    assert simulate_programs(1, n_cells=30, n_genes=20).loadings.shape == (20, 1)
