"""Tree-based regularisation from inputs to changes: recovery, contracts, determinism, bad input."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from latentree.errors import InputError
from latentree.metrics.mcc import mcc
from latentree.simulate import balanced_tree, simulate_environments
from latentree.tbr import TBRFit, fit_tbr
from latentree.training import NonFiniteLossError
from latentree.tree import Tree

QUICK = {"n_steps": 300, "n_finetune_steps": 100}


def split(n_cells: int, seed: int = 0) -> dict[str, np.ndarray]:
    kind = np.random.default_rng(seed).choice(3, n_cells, p=[0.6, 0.2, 0.2])
    return {name: np.flatnonzero(kind == i) for i, name in enumerate(["train", "validation", "test"])}


def fitted(sim, estimator="two_stage", settings=None, seed=0, n_latents=None, **options):
    rows = split(len(sim.y))
    fit = fit_tbr(
        sim.X,
        sim.y,
        sim.environments,
        sim.tree,
        n_latents or sim.Z.shape[1],
        estimator,
        seed,
        settings,
        train=rows["train"],
        validation=rows["validation"],
        **options,
    )
    return fit, rows["test"]


def error_over_floor(fit, sim, test):
    error = np.mean((fit.predict(sim.X[test], sim.environments[test]) - sim.y[test]) ** 2)
    return error / np.mean((sim.signal[test] - sim.y[test]) ** 2)


@pytest.fixture(scope="module")
def linear_sim():
    return simulate_environments(5, 3, n_cells=200, psi="linear", seed=1)


@pytest.fixture(scope="module")
def linear_fit(linear_sim):
    return fitted(linear_sim, settings={"phi": "linear"})


def test_two_stage_finds_latents_weights_and_changes(linear_sim, linear_fit):
    fit, test = linear_fit
    sim = linear_sim
    Z_hat = fit.latents(sim.X[test])
    assert mcc(sim.Z[test], Z_hat) > 0.98
    assert error_over_floor(fit, sim, test) < 1.5
    assert fit.rank == 3
    # the changes are as sparse as the true ones, and on the same branches
    table = np.corrcoef(sim.Z[test].T, Z_hat.T)[:3, 3:]
    order = np.abs(table).argmax(axis=1)
    found = fit.changes.to_numpy()[:, order] * np.sign(table[np.arange(3), order])
    large = np.abs(sim.changes) > 0.3
    # the root has no cells, so its two branches carry one difference
    below_root = [i for i, name in enumerate(sim.tree.arcs) if sim.tree.parents[sim.tree.index[name]] == 0]
    inner = np.setdiff1d(np.arange(len(found)), below_root)
    assert (found[inner] != 0)[large[inner]].mean() > 0.95
    assert (found[inner] == 0)[sim.changes[inner] == 0].mean() > 0.7
    assert np.corrcoef(found[inner].ravel(), sim.changes[inner].ravel())[0, 1] > 0.98


def test_the_fit_keeps_its_contract(linear_sim, linear_fit):
    fit, _ = linear_fit
    sim = linear_sim
    names = ["latent1", "latent2", "latent3"]
    assert isinstance(fit, TBRFit)
    assert list(fit.weights.columns) == list(fit.changes.columns) == names
    assert set(fit.weights.index) == set(sim.environments)
    assert tuple(fit.changes.index) == sim.tree.arcs == tuple(fit.branches.index)
    Z_hat = fit.latents(sim.X)
    assert Z_hat.dtype == np.float32
    assert Z_hat.std(axis=0) == pytest.approx(np.ones(3), rel=0.05)
    # weights are sums of changes along the path, exactly those that predict uses
    along = fit.root + pd.DataFrame(
        sim.tree.ancestors() @ fit.changes.to_numpy(), index=sim.tree.names, columns=names
    )
    assert along.loc[fit.weights.index].to_numpy() == pytest.approx(fit.weights.to_numpy(), abs=1e-9)
    expected = (Z_hat * fit.weights.loc[sim.environments].to_numpy()).sum(axis=1)
    expected += fit.intercepts.loc[sim.environments].to_numpy()
    assert fit.predict(sim.X, sim.environments) == pytest.approx(expected)
    # ordered by their share of the phenotype, mean weight positive
    assert (np.diff((fit.weights**2).mean()) <= 0).all()
    assert (fit.weights.mean() >= 0).all()
    assert {"stage", "step", "phenotype", "changes", "learning_rate", "cpu_seconds"} <= set(fit.history)
    assert fit.history["stage"].unique().tolist() == ["free", "finetune"]


def test_joint_finds_the_latents_and_the_baseline_does_not(linear_sim):
    joint, test = fitted(linear_sim, "joint", {"phi": "linear", "n_steps": 4500})
    baseline, _ = fitted(linear_sim, "baseline", {"phi": "linear"})
    Z = linear_sim.Z[test]
    assert mcc(Z, joint.latents(linear_sim.X[test])) > 0.95
    assert error_over_floor(joint, linear_sim, test) < 1.5
    assert mcc(Z, baseline.latents(linear_sim.X[test])) < 0.85
    assert error_over_floor(baseline, linear_sim, test) > 10
    assert not baseline.changes.to_numpy().any()
    assert baseline.rank == 1
    assert baseline.weights.nunique().max() == 1


def test_the_paper_s_network_on_leaves_only():
    sim = simulate_environments(6, 3, n_cells=400, observed="leaves", seed=0)
    fit, test = fitted(sim, settings={"phi": "large", "n_steps": 1500, "n_finetune_steps": 500})
    assert mcc(sim.Z[test], fit.latents(sim.X[test])) > 0.95
    assert set(fit.weights.index) == set(sim.tree.leaves)


def test_frozen_numbers():
    sim = simulate_environments(3, 2, n_cells=200, psi="linear", seed=0)
    fit, test = fitted(sim, settings=QUICK)
    assert error_over_floor(fit, sim, test) == pytest.approx(1.095, rel=0.03)
    assert fit.singular_values == pytest.approx([1.2686, 0.7693], rel=0.02)


def test_no_change_anywhere_is_found_to_have_rank_one():
    sim = simulate_environments(4, 3, n_changes=0, n_cells=200, psi="linear", seed=2)
    fit, _ = fitted(sim, settings={"phi": "linear"})
    assert fit.rank == 1
    assert (fit.changes == 0).to_numpy().mean() > 0.95


@pytest.mark.parametrize("estimator", ["baseline", "joint", "two_stage"])
def test_the_same_seed_gives_the_same_bits(estimator):
    sim = simulate_environments(2, 2, n_cells=60, seed=0)
    one, again, other = (fitted(sim, estimator, QUICK, seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(one.latents(sim.X), again.latents(sim.X))
    assert one.weights.equals(again.weights)
    assert one.changes.equals(again.changes)
    assert not np.array_equal(one.latents(sim.X), other.latents(sim.X))


def test_scale_and_offset_of_phenotype_and_inputs_do_not_matter():
    sim = simulate_environments(2, 2, n_cells=100, psi="linear", seed=0)
    rows = split(len(sim.y))
    options = {"train": rows["train"], "validation": rows["validation"], "settings": QUICK}
    plain = fit_tbr(sim.X, sim.y, sim.environments, sim.tree, 2, **options)
    moved = fit_tbr(sim.X * 100 + 7, sim.y * 50 + 3000, sim.environments, sim.tree, 2, **options)
    expected = plain.predict(sim.X, sim.environments) * 50 + 3000
    found = moved.predict(sim.X * 100 + 7, sim.environments)
    assert np.corrcoef(expected, found)[0, 1] > 0.99
    assert np.abs(found - expected).mean() < 0.1 * (sim.y * 50).std()


def test_an_intercept_for_each_environment_is_found():
    sim = simulate_environments(3, 2, n_cells=200, psi="linear", seed=0)
    offsets = {name: float(i) for i, name in enumerate(sorted(set(sim.environments)))}
    y = sim.y + np.array([offsets[name] for name in sim.environments])
    fit = fit_tbr(sim.X, y, sim.environments, sim.tree, 2, settings={**QUICK, "intercept": "environment"})
    expected = pd.Series(offsets).loc[fit.intercepts.index]
    assert fit.intercepts.to_numpy() == pytest.approx(expected.to_numpy(), abs=0.3)
    none = fit_tbr(sim.X, sim.y, sim.environments, sim.tree, 2, settings={**QUICK, "intercept": "none"})
    assert (none.intercepts == 0).all()


def test_an_environment_without_training_cells_predicts_like_its_nearest():
    sim = simulate_environments(3, 2, n_cells=80, psi="linear", seed=0)
    leaf = sim.tree.leaves[0]
    parent = sim.tree.path(leaf)[-2]
    seen = np.flatnonzero(sim.environments != leaf)
    fit = fit_tbr(sim.X, sim.y, sim.environments, sim.tree, 2, settings=QUICK, train=seen)
    assert leaf not in fit.weights.index
    assert fit.branches.loc[leaf, "carried_by"] == ""
    mine = sim.X[sim.environments == leaf]
    assert np.array_equal(fit.predict(mine, [leaf] * len(mine)), fit.predict(mine, [parent] * len(mine)))


def test_environments_with_one_cell_or_alone_are_fitted():
    sim = simulate_environments(2, 2, n_cells=60, psi="linear", seed=0)
    leaf = sim.tree.leaves[0]
    keep = [*np.flatnonzero(sim.environments != leaf).tolist(), int(np.argmax(sim.environments == leaf))]
    fit = fit_tbr(
        sim.X, sim.y, sim.environments, sim.tree, 2, settings=QUICK, train=np.array(keep), validation=[]
    )
    assert np.isfinite(fit.weights.loc[leaf]).all()
    assert np.abs(fit.weights).to_numpy().max() < 20
    alone = sim.environments == leaf
    single = fit_tbr(sim.X[alone], sim.y[alone], sim.environments[alone], sim.tree, 2, settings=QUICK)
    assert single.weights.shape == (1, 2)
    assert not single.changes.to_numpy().any()


def test_collinear_constant_and_sparse_inputs_are_fitted():
    sim = simulate_environments(2, 2, n_cells=100, psi="linear", seed=0)
    X = np.hstack([sim.X, sim.X[:, :3], np.full((len(sim.X), 1), 5.0, dtype=np.float32)])
    fit = fit_tbr(sparse.csr_matrix(X), sim.y, sim.environments, sim.tree, 2, settings=QUICK)
    residual = sim.y - fit.predict(X, sim.environments)
    assert residual.var() < 0.1 * sim.y.var()


def good():
    rng = np.random.default_rng(0)
    tree = balanced_tree(1)
    return {
        "X": rng.normal(size=(20, 3)),
        "y": rng.normal(size=20),
        "environments": ["1", "2"] * 10,
        "tree": tree,
        "n_latents": 2,
    }


def with_nan(values, row):
    values = np.array(values, dtype=float)
    values[row] = np.nan
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environments": ["1", "B cells"] * 10}, "environments: 1 name.* no nodes of the tree: 'B cells'"),
        ({"y": with_nan(np.ones(20), 4)}, "y: 1 value.* NaN or infinite, the first in cell 4"),
        ({"X": with_nan(np.ones((20, 3)), 7)}, "X: 3 value.* NaN or infinite, the first in cell 7"),
        ({"y": np.full(20, 2.5)}, "y: is constant .2.5. over the"),
        ({"y": np.ones(19)}, r"\(20, 3\), \(19,\) and \(20,\)"),
        ({"environments": ["1"] * 19}, r"\(20, 3\), \(20,\) and \(19,\)"),
        ({"n_latents": 4}, "n_latents: 4 latents from 3 input"),
        ({"n_latents": 0}, "n_latents: 0 latents"),
        ({"X": np.ones(20)}, "X: has shape"),
        ({"estimator": "two_stages"}, "estimator: 'two_stages' is none .nearest: 'two_stage'"),
        ({"settings": {"penality": 1}}, "unknown key 'penality' .nearest: 'penalty'"),
        ({"settings": {"phi": "huge"}}, "key 'phi'"),
        ({"train": [0, 99]}, "train: is not a list of row numbers"),
        ({"train": [0]}, "train: 1 training cell"),
    ],
)
def test_bad_input_is_told_in_three_parts(change, message):
    with pytest.raises(InputError, match=message):
        fit_tbr(**{**good(), **change})


def test_predict_refuses_what_the_fit_cannot_know():
    fit = fit_tbr(**good(), settings=QUICK)
    with pytest.raises(InputError, match="has 2 inputs, the fit has 3"):
        fit.latents(np.ones((4, 2)))
    with pytest.raises(InputError, match="no nodes of the tree"):
        fit.predict(np.ones((1, 3)), ["elsewhere"])
    with pytest.raises(InputError, match="1 names for 2 cells"):
        fit.predict(np.ones((2, 3)), ["1"])


def test_a_diverging_fit_names_the_part_of_the_loss():
    with pytest.raises(NonFiniteLossError, match=r"stage free.*the phenotype part of the loss"):
        fit_tbr(**good(), settings={**QUICK, "learning_rate": 1e30})


def test_masks_are_rows_and_a_split_is_drawn_where_none_is_given():
    arguments = good() | {"settings": QUICK}
    mask = np.arange(20) < 15
    by_mask = fit_tbr(**arguments, train=mask, validation=~mask)
    by_rows = fit_tbr(**arguments, train=np.arange(15), validation=np.arange(15, 20))
    assert by_mask.weights.equals(by_rows.weights)
    assert Tree.from_newick("(1,2)0;").leaves == ("1", "2")
    assert not fit_tbr(**arguments).weights.equals(by_rows.weights)
