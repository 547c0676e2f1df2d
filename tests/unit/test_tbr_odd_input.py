"""Odd but legal input of TBR: tiny environments, nothing to learn in one, collinear inputs.

Broken trees are tried in test_tree.py; NaN, a phenotype constant everywhere and unknown environments in
test_tbr.py.
"""

import numpy as np
import pytest
from tbr_cells_fixture import LATENTS, make_cells

from latentree.errors import InputError
from latentree.simulate import simulate_environments
from latentree.tbr import fit_tbr
from latentree.tbr.study import run_study
from latentree.tbr_config import TBRConfig
from latentree.tree import Tree

QUICK = {"n_steps": 150, "n_finetune_steps": 50, "phi": "linear"}
ESTIMATORS = ["baseline", "joint", "two_stage"]


@pytest.fixture(scope="module")
def sim():
    return simulate_environments(2, 2, n_cells=60, psi="linear", seed=0)


def assert_finite(fit):
    for table in (fit.weights, fit.intercepts, fit.changes, fit.root, fit.singular_values):
        assert np.isfinite(np.asarray(table)).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("intercept", ["global", "environment"])
def test_a_phenotype_constant_in_one_environment_is_fitted(sim, estimator, intercept):
    leaf = sim.tree.leaves[1]
    y = np.where(sim.environments == leaf, 3.0, sim.y)
    fit = fit_tbr(
        sim.X, y, sim.environments, sim.tree, 2, estimator, settings={**QUICK, "intercept": intercept}
    )
    assert_finite(fit)
    if estimator == "two_stage" and intercept == "environment":
        # its level is explained and its latents have little effect
        there = fit.predict(sim.X[sim.environments == leaf], [leaf] * 60)
        assert there == pytest.approx(np.full(60, 3.0), abs=1.0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_inputs_of_rank_one_give_one_latent_s_worth(sim, estimator):
    X = np.repeat(sim.X[:, :1], 4, axis=1) * np.array([1, 2, -1, 5], dtype=np.float32)
    y = sim.X[:, 0] * np.where(sim.environments == sim.tree.leaves[0], 2.0, 1.0)
    fit = fit_tbr(X, y, sim.environments, sim.tree, 2, estimator, settings=QUICK)
    assert_finite(fit)
    assert fit.rank == 1
    assert np.isfinite(fit.predict(X, sim.environments)).all()
    if estimator != "baseline":
        assert np.mean((fit.predict(X, sim.environments) - y) ** 2) < 0.05 * y.var()


def test_a_tree_that_lacks_an_environment_is_named(sim):
    known = [row for row in sim.tree.to_table()[["node", "parent"]].to_numpy() if row[0] != "6"]
    with pytest.raises(InputError, match=r"1 name.*no nodes of the tree: '6'"):
        fit_tbr(sim.X, sim.y, sim.environments, Tree.from_table(known), 2, settings=QUICK)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_protocol_takes_a_type_of_one_cell(split):
    tree = Tree.from_newick("((a,b),(c,(d,e)));")
    cells = make_cells(tree, n_cells=40)
    keep = (cells.obs["cell_type"] != "c").to_numpy()
    keep[np.flatnonzero(~keep)[0]] = True
    cells = cells[keep].copy()
    alone = (cells.obs["cell_type"] == "c").to_numpy()
    assert alone.sum() == 1
    cells.obs.loc[alone, "split"] = split
    settings = TBRConfig(
        latents=LATENTS, n_latents=2, held_out={"n_types": 2, "min_cells": 30, "shots": [5]}, **QUICK
    )
    result = run_study(cells, tree, settings, [0], "two_stage")
    assert np.isfinite(result.scores["value"]).all()
    assert np.isfinite(result.transfer["nmse"]).all()
    assert ("c" in set(result.weights["environment"])) == (split == "train")
