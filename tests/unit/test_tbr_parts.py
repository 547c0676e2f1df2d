"""The parts of tree-based regularisation against independent oracles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import Lasso

from latentree.path_sums import PathSums
from latentree.simulate import balanced_tree, node_weights, sparse_changes
from latentree.tbr.evidence import SquaredErrors
from latentree.tbr.moments import Moments, collect
from latentree.tbr.phi import Phi, phi_kinds
from latentree.tbr.rotation import _gradient, rotated, sparsest_maps, whitening
from latentree.tbr.sparse_changes import least_squares, sparse_solution
from latentree.tbr.steps import TreeWeights, one_cycle
from latentree.tbr.structure import Branches
from latentree.tbr.tree_problem import TreeProblem
from latentree.tree import Tree


def random_tree(n_nodes: int, seed: int) -> Tree:
    rng = np.random.default_rng(seed)
    return Tree.from_table([("n0", None), *((f"n{i}", f"n{rng.integers(i)}") for i in range(1, n_nodes))])


# ---- which branches are identified


def reduced(rows, observed):
    branches = Branches.identified(Tree.from_table(rows), observed)
    return branches, dict(zip(branches.tree.arcs, branches.carried_by, strict=True))


def test_everything_observed_leaves_the_tree_as_it_is():
    tree = balanced_tree(3)
    branches = Branches.identified(tree, set(tree.names))
    assert branches.reduced == tree
    assert branches.carried_by == tree.arcs


def test_a_chain_through_unobserved_nodes_is_one_branch():
    rows = [("r", None), ("u", "r"), ("v", "u"), ("a", "v"), ("b", "r")]
    branches, carried = reduced(rows, {"r", "a", "b"})
    assert branches.reduced.names == ("r", "a", "b")
    assert carried == {"u": "a", "v": "a", "a": "a", "b": "b"}


def test_branches_without_cells_below_are_left_out():
    branches, carried = reduced([("r", None), ("a", "r"), ("b", "r"), ("c", "b")], {"r", "a"})
    assert branches.reduced.names == ("r", "a")
    assert carried == {"a": "a", "b": "", "c": ""}


def test_below_an_unobserved_root_only_the_difference_is_identified():
    rows = [("r", None), ("a", "r"), ("a1", "a"), ("a2", "a"), ("b", "r")]
    branches, carried = reduced(rows, {"a1", "a2", "b"})
    assert branches.reduced.root == "a"
    assert set(branches.reduced.arcs) == {"a1", "a2", "b"}
    assert carried == {"a": "b", "a1": "a1", "a2": "a2", "b": "b"}
    # a stalk above gives way as well, and carries nothing
    _, stalked = reduced([("s", None), ("r", "s"), *rows[1:]], {"a1", "a2", "b"})
    assert stalked == {**carried, "r": ""}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 14), st.integers(0, 10**6))
def test_changes_of_the_whole_tree_sum_to_the_weights(n_nodes, seed):
    tree = random_tree(n_nodes, seed)
    rng = np.random.default_rng(seed)
    observed = rng.choice(tree.names, rng.integers(1, n_nodes + 1), replace=False).tolist()
    branches = Branches.identified(tree, observed)
    assert set(branches.environments) == set(observed)
    root, changes = rng.normal(size=2), rng.normal(size=(branches.reduced.n_nodes - 1, 2))
    small = node_weights(branches.reduced, root, changes)
    whole = node_weights(tree, root, branches.in_whole_tree(changes))
    for name in observed:
        expected = small[branches.reduced.index[name]]
        assert whole[tree.index[name]] == pytest.approx(expected)
    # no node is kept that the data do not need
    children = np.bincount(branches.reduced.parents[1:], minlength=branches.reduced.n_nodes)
    for i, name in enumerate(branches.reduced.names):
        assert name in observed or children[i] >= (3 if i == 0 else 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 14), st.integers(0, 10**6))
def test_contrasts_join_all_environments_and_know_their_distance(n_nodes, seed):
    tree = random_tree(n_nodes, seed)
    rng = np.random.default_rng(seed)
    branches = Branches.identified(tree, rng.choice(tree.names, rng.integers(1, n_nodes + 1), replace=False))
    pairs, steps = branches.contrasts()
    n = len(branches.environments)
    assert pairs.shape == (n - 1, 2)
    links = sparse.coo_matrix((np.ones(n - 1), pairs.T), shape=(n, n))
    assert sparse.csgraph.connected_components(links)[0] == 1
    names = branches.environments
    for (a, b), length in zip(pairs.tolist(), steps.tolist(), strict=True):
        assert branches.reduced.distance(names[a], names[b]) == length


# ---- network and moments


@pytest.mark.parametrize("kind", ["linear", "small", "large"])
def test_phi_mixes_its_latents(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(3, 2, size=(5000, 4)).astype(np.float32)
    phi = Phi(kind, X.mean(axis=0), X.std(axis=0), 3, torch.Generator().manual_seed(0))
    before, matrix = phi.latents(X), rng.normal(size=(3, 3))
    phi.mix(matrix)
    assert phi.latents(X) == pytest.approx(before @ matrix.T, abs=1e-5)


def test_the_network_follows_the_number_of_cells():
    assert phi_kinds("auto", 4999, validated=True) == ("linear", "small")
    assert set(phi_kinds("auto", 5000, validated=True)) == {"linear", "small", "large"}
    assert phi_kinds("auto", 50_000, validated=True) == ("large",)
    assert [phi_kinds("auto", n, validated=False) for n in (10, 5000)] == [("linear",), ("large",)]
    assert phi_kinds("small", 10**6, validated=True) == ("small",)


@pytest.fixture
def linear_problem():
    """Latents that are the inputs, sparse changes on a tree with unobserved nodes."""
    rng = np.random.default_rng(1)
    tree = balanced_tree(3)
    branches = Branches.identified(tree, set(tree.leaves) | {"1", "5"})
    n_cells, d = 4000, 2
    codes = rng.integers(len(branches.environments), size=n_cells)
    X = (rng.normal(size=(n_cells, d)) @ [[1, 0.3], [0, 1]]).astype(np.float32)
    changes = sparse_changes(branches.reduced.n_nodes - 1, d, rng, n_changes=1)
    W = node_weights(branches.reduced, rng.normal(size=d), changes)[branches.nodes]
    y = ((W[codes] * X).sum(axis=1) + 0.7 + 0.1 * rng.normal(size=n_cells)).astype(np.float32)
    phi = Phi("linear", np.zeros(d), np.ones(d), d, torch.Generator())
    with torch.no_grad():
        phi.last.weight.copy_(torch.eye(d))
        phi.last.bias.zero_()
    moments = collect(phi, X, y, codes, np.arange(n_cells), len(branches.environments))
    return branches, X, y, codes, moments, W, changes


def test_moments_hold_what_least_squares_needs(linear_problem):
    branches, X, y, codes, moments, _, _ = linear_problem
    design = np.column_stack([X, np.ones(len(X))]).astype(np.float64)
    mine = codes == 3
    assert moments.gram[3] == pytest.approx(design[mine].T @ design[mine])
    assert moments.cross[3] == pytest.approx(design[mine].T @ y[mine])
    assert moments.covariance() == pytest.approx(np.cov(X.T, ddof=0))
    weights = np.random.default_rng(0).normal(size=(len(branches.environments), 3))
    error = np.mean((y - (weights[codes] * design).sum(axis=1)) ** 2)
    assert moments.mse(weights) == pytest.approx(error)
    matrix = np.array([[2.0, 1.0], [0.0, 1.0]])
    mixed = weights.copy()
    mixed[:, :2] = weights[:, :2] @ np.linalg.inv(matrix)
    assert moments.mixed(matrix).mse(mixed) == pytest.approx(error)


# ---- sparse changes


def test_free_changes_give_ordinary_least_squares(linear_problem):
    branches, X, y, codes, moments, _, _ = linear_problem
    found = least_squares(SquaredErrors(moments), branches, np.ones(3, dtype=bool)).weights[branches.nodes]
    design = np.column_stack([X, np.ones(len(X))])
    for e in range(len(branches.environments)):
        expected = np.linalg.lstsq(design[codes == e], y[codes == e], rcond=None)[0]
        assert found[e] == pytest.approx(expected, abs=2e-4)


def test_no_changes_give_one_regression_for_all(linear_problem):
    branches, X, y, _, moments, _, _ = linear_problem
    solution = least_squares(SquaredErrors(moments), branches, np.zeros(3, dtype=bool))
    expected = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    assert solution.weights == pytest.approx(np.tile(expected, (branches.reduced.n_nodes, 1)), abs=1e-5)
    assert not solution.changes(branches).any()


@pytest.mark.parametrize("penalty", [0.02, 0.2, 1.0])
def test_the_sparse_fit_finds_the_lasso_s_changes(linear_problem, penalty):
    branches, X, y, codes, moments, _, _ = linear_problem
    problem = TreeProblem.build(moments, branches)
    rates = np.full((branches.reduced.n_nodes - 1, 3), penalty)
    rates[:, -1] = np.inf
    start = least_squares(SquaredErrors(moments), branches, np.array([True, True, False])).weights
    found = problem.sparse_fit(rates, start)
    # oracle: scikit-learn's lasso on the dense design, the root's columns projected out
    design = np.column_stack([X, np.ones(len(X))]).astype(np.float64)
    paths = branches.reduced.ancestors()[branches.nodes].toarray()[codes]
    columns = (paths[:, :, None] * X[:, None, :]).reshape(len(X), -1).astype(np.float64)
    project = design @ np.linalg.pinv(design)
    alpha = penalty / (2 * len(branches.environments))
    lasso = Lasso(alpha=alpha, fit_intercept=False, tol=1e-10, max_iter=100_000)
    lasso.fit(columns - project @ columns, y - project @ y)
    expected = lasso.coef_.reshape(-1, 2)
    clear = (np.abs(expected) > 1e-3) | (expected == 0)
    assert np.array_equal(found[:, :2][clear], (expected != 0)[clear])
    assert clear.mean() > 0.9
    assert not found[:, 2].any()


def test_validation_cells_choose_the_true_changes(linear_problem):
    branches, *_, moments, W, changes = linear_problem
    allowed = np.array([True, True, False])
    solution = sparse_solution(SquaredErrors(moments), SquaredErrors(moments), branches, allowed, 0.1)
    assert solution.weights[branches.nodes, :2] == pytest.approx(W, abs=0.03)
    found = solution.changes(branches)[:, :2]
    # around unobserved nodes other changes may be as sparse as the true ones, but none are denser
    assert (found != 0).sum() <= 1.5 * (changes != 0).sum()
    assert solution.weights[:, 2] == pytest.approx(np.full(branches.reduced.n_nodes, 0.7), abs=0.01)


def test_too_few_cells_take_their_weights_from_the_neighbours(linear_problem):
    branches, X, y, codes, _, W, _ = linear_problem
    # environment 0 keeps a single cell: one equation for two weights
    keep = (codes != 0) | (np.arange(len(codes)) == np.flatnonzero(codes == 0)[0])
    phi = Phi("linear", np.zeros(2), np.ones(2), 2, torch.Generator())
    with torch.no_grad():
        phi.last.weight.copy_(torch.eye(2))
        phi.last.bias.zero_()
    moments = collect(phi, X, y, codes, np.flatnonzero(keep), len(branches.environments))
    found = least_squares(SquaredErrors(moments), branches, np.array([True, True, False])).weights[
        branches.nodes
    ]
    assert found[1:, :2] == pytest.approx(W[1:], abs=0.05)
    assert np.abs(found[0]).max() < 5


# ---- rotation


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 5), st.integers(0, 1000))
def test_the_sparsest_map_undoes_a_mixture(n_latents, seed):
    rng = np.random.default_rng(seed)
    changes = sparse_changes(150, n_latents, rng, n_changes=1)
    # true latents V z of whitened z: rows of V have unit norm, weights mix by its inverse
    V = np.linalg.qr(rng.normal(size=(n_latents, n_latents)))[0] + 0.2 * rng.normal(size=(n_latents,) * 2)
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    found = sparsest_maps(changes @ V, np.ones(150), n_restarts=32, seed=seed)[0]
    agreement = np.abs(found @ np.linalg.inv(V))
    assert np.allclose(np.sort(agreement, axis=1)[:, :-1], 0, atol=0.02)
    assert sorted(agreement.argmax(axis=1)) == list(range(n_latents))


def test_many_contrasts_are_searched_by_a_part_and_finished_with_all():
    rng = np.random.default_rng(0)
    changes = sparse_changes(3000, 4, rng, n_changes=1)
    V = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    agreement = np.abs(sparsest_maps(changes @ V, np.ones(3000), n_restarts=8)[0] @ V.T)
    assert np.allclose(np.sort(agreement, axis=1)[:, :-1], 0, atol=0.02)


def test_the_search_s_gradient_is_autograd_s():
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.normal(size=(20, 3)))
    maps = torch.from_numpy(rng.normal(size=(4, 3, 3)))
    leaf = maps.clone().requires_grad_()
    changed = target @ torch.linalg.inv(leaf / leaf.norm(dim=2, keepdim=True))
    (changed.square() + 0.02**2).sqrt().sum().backward()
    assert _gradient(target, maps).numpy() == pytest.approx(leaf.grad.numpy(), rel=1e-9)


def test_nothing_to_rotate_gives_the_identity(linear_problem):
    branches, *_, moments, W, _ = linear_problem
    same = np.ones_like(W)
    found = rotated(same, moments, 0.01, branches, n_restarts=4, seed=0)
    assert np.array_equal(found, np.eye(2))
    one = Moments(moments.gram[:, 1:, 1:], moments.cross[:, 1:], moments.square, moments.n_cells)
    assert np.array_equal(rotated(W[:, :1], one, 0.01, branches, n_restarts=4, seed=0), np.eye(1))


def test_whitening_gives_unit_covariance_and_survives_collinear_latents():
    mixture = np.random.default_rng(0).normal(size=(3, 3))
    white = whitening(mixture @ mixture.T)
    assert white @ mixture @ mixture.T @ white.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.isfinite(whitening(np.ones((3, 3)))).all()


# ---- Adam steps


def test_weights_and_gradients_equal_the_dense_path_product():
    tree = random_tree(30, 0)
    rng = np.random.default_rng(0)
    paths = tree.ancestors()
    root, changes, pull = (
        rng.normal(size=3),
        rng.normal(size=(29, 3)),
        torch.from_numpy(rng.normal(size=(30, 3))),
    )
    weights = TreeWeights(PathSums(tree.parents, np.arange(30)), root, changes, penalty=3.0)
    (weights() * pull).sum().backward()
    dense_changes = torch.tensor(changes, requires_grad=True)
    dense = torch.from_numpy(root) + torch.from_numpy(paths.toarray()).double() @ dense_changes
    (dense * pull).sum().backward()
    assert weights().detach().numpy() == pytest.approx(dense.detach().numpy(), abs=1e-5)
    assert weights.changes.grad.numpy() == pytest.approx(dense_changes.grad.numpy(), abs=1e-5)
    assert weights.penalised().item() == pytest.approx(3.0 / 30 * np.abs(changes).sum(), rel=1e-5)


def test_the_learning_rate_rises_once_and_falls():
    rates = np.array([one_cycle(p) for p in np.linspace(0, 1, 101)])
    assert rates.argmax() == 20
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[-1] < 0.01
