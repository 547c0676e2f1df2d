"""What a fit chooses by itself, and what it says about its latents: network, penalty, number, warnings."""

import numpy as np
import pandas as pd
import pytest

from latentree.errors import InputError
from latentree.metrics.mcc import mcc
from latentree.muon import Muon, orthogonalised
from latentree.simulate import balanced_tree, node_weights, simulate_environments, sparse_changes
from latentree.tbr import fit_tbr
from latentree.tbr.directions import Contrasts, best_set, drawn_directions, improved, log_likelihoods
from latentree.tbr.identifiability import environments_needed, identifiability
from latentree.tbr.identifiability_rows import identifiability_rows
from latentree.tbr.rotation import sparsest_maps
from latentree.tbr.structure import Branches

QUICK = {"n_steps": 300, "n_finetune_steps": 100, "intercept": "none"}


@pytest.fixture(scope="module")
def linear():
    return simulate_environments(4, 3, n_changes=1, n_cells=150, psi="linear", n_inputs=6, seed=1)


def fitted(simulated, **keys):
    settings = {**QUICK, **keys.pop("settings", {})}
    arguments = {"n_latents": 3, **keys}
    return fit_tbr(
        simulated.X, simulated.y, simulated.environments, simulated.tree, settings=settings, **arguments
    )


# ---- network and penalty


def test_the_network_is_the_simplest_that_predicts_validation_cells_well(linear):
    fit = fitted(linear, settings={"n_steps": 800})
    assert list(fit.candidates["phi"]) == ["linear", "small"]
    chosen = fit.candidates[fit.candidates["chosen"]]
    assert chosen["phi"].tolist() == ["linear"] == [fit.phi.kind]
    assert chosen["validation_error"].item() < 1.1 * fit.candidates["validation_error"].min()
    curved = simulate_environments(4, 2, n_changes=1, n_cells=150, n_inputs=3, seed=0)
    assert fitted(curved, n_latents=2).phi.kind == "small"


def test_joint_takes_the_penalty_with_the_smallest_validation_error(linear):
    fit = fitted(linear, estimator="joint", settings={"phi": "linear", "penalty": [30.0, 0.1]})
    assert fit.candidates.loc[fit.candidates["chosen"], "penalty"].tolist() == [0.1]
    rows = identifiability_rows(fit, [], {"estimator": "joint", "seed": 0}).set_index("quantity")
    errors = rows.loc[["validation_error_linear_penalty_30", "validation_error_linear_penalty_0.1"], "value"]
    assert errors.tolist() == fit.candidates["validation_error"].tolist()
    assert list(fit.history["penalty"].unique()) == [0.1]


def test_proximal_steps_make_zeros_while_they_train(linear):
    from latentree.tbr.fitting import Fitting

    trained = {}
    original = Fitting._result

    def kept(self, solution):
        trained[self.settings.proximal] = self.state.weights.changes.detach().numpy().copy()
        return original(self, solution)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fitting, "_result", kept)
        fits = {
            proximal: fitted(
                linear, estimator="joint", settings={"phi": "linear", "penalty": 0.3, "proximal": proximal}
            )
            for proximal in (True, False)
        }
    assert (trained[True] == 0).mean() > 0.2
    assert not (trained[False] == 0).any()
    for fit in fits.values():
        assert mcc(linear.Z, fit.latents(linear.X)) > 0.95


# ---- number of latents


@pytest.mark.parametrize(("n_changes", "expected"), [(1, 3), (0, 1)])
def test_the_number_of_latents_is_found(n_changes, expected):
    simulated = simulate_environments(
        5, 3, n_changes=n_changes, n_cells=150, psi="linear", n_inputs=8, seed=2
    )
    fit = fitted(simulated, n_latents="auto", settings={"max_latents": 6, "phi": "linear"})
    tried = fit.n_latents_tried
    assert list(tried["n_latents"]) == [1, 2, 3, 4, 5, 6]
    assert tried.loc[tried["chosen"], "n_latents"].tolist() == [expected] == [fit.weights.shape[1]]
    assert (np.diff(tried["singular_value"]) <= 0).all()


# ---- Muon


def test_orthogonalised_matrices_keep_their_singular_vectors():
    rng = np.random.default_rng(0)
    import torch

    for shape in ((5, 9), (9, 5)):
        matrix = torch.from_numpy(rng.normal(size=shape))
        left, _, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
        found = orthogonalised(matrix, 5).numpy()
        inside = left.T @ found @ right.T
        assert np.allclose(inside, np.diag(np.diag(inside)), atol=1e-9)
        assert (np.diag(inside) > 0.6).all()
        assert (np.diag(inside) < 1.3).all()


def test_muon_descends_a_quadratic():
    import torch

    target = torch.randn((4, 6), generator=torch.Generator().manual_seed(0))
    matrix = torch.nn.Parameter(torch.zeros(4, 6))
    untouched = torch.nn.Parameter(torch.ones(2, 2))
    optimiser = Muon([{"params": [matrix, untouched]}], lr=0.1)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimiser.zero_grad()
        (matrix - target).square().sum().backward()
        optimiser.step()
    assert (matrix - target).abs().max() < 0.1
    assert torch.equal(untouched, torch.ones(2, 2))


# ---- directions


@pytest.fixture(scope="module")
def dense_changes():
    """Contrasts of leaves where three of five effects change on every branch, mixed by a rotation."""
    rng = np.random.default_rng(1)
    tree = balanced_tree(8)
    changes = sparse_changes(tree.n_nodes - 1, 5, rng, n_changes=3)
    branches = Branches.identified(tree, tree.leaves)
    weights = node_weights(tree, rng.normal(size=5), changes)
    weights = weights[[tree.index[name] for name in branches.environments]]
    weights += 0.02 * rng.normal(size=weights.shape)
    mixing = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    pairs, steps = branches.contrasts()
    values = (weights[pairs[:, 1]] - weights[pairs[:, 0]]) @ mixing.T
    covariance = np.tile(2 * 0.02**2 * np.eye(5), (len(values), 1, 1))
    return Contrasts(values, covariance, steps), mixing


def agreement(found, mixing):
    """Smallest absolute correlation of a true white latent with its best match."""
    return np.abs(found @ mixing).max(axis=0).min()


def test_exchanged_directions_find_what_the_l1_norm_misses(dense_changes):
    contrasts, mixing = dense_changes
    maps = sparsest_maps(contrasts.values, 1 / contrasts.steps**2, n_restarts=32, seed=0)
    assert agreement(maps[0], mixing) < 0.97
    assert agreement(improved(contrasts, maps, seed=0), mixing) > 0.99


def test_the_true_directions_are_drawn_and_likely(dense_changes):
    contrasts, mixing = dense_changes
    drawn = drawn_directions(contrasts, seed=0)
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(np.ones(len(drawn)))
    # weights of true latents are mixed by an orthogonal matrix, so its columns are the directions
    assert (np.abs(drawn @ mixing).max(axis=0) > 0.99).all()
    random = np.random.default_rng(0).normal(size=(50, 5))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    assert _gain(contrasts, mixing.T).min() > _gain(contrasts, random).max()


def _gain(contrasts, directions):
    """Log likelihood beyond that of changes which are all normal."""
    changes, variances = contrasts.along(directions)
    assert variances == pytest.approx(np.full(variances.shape, contrasts.covariance[0, 0, 0]))
    normal = np.zeros(len(directions))
    for length in np.unique(contrasts.steps):
        x = changes[:, contrasts.steps == length]
        spread = (x**2).mean(axis=1, keepdims=True)
        normal -= 0.5 * (x**2 / spread + np.log(spread)).sum(axis=1)
    return log_likelihoods(contrasts, directions) - normal


def test_a_set_is_improved_by_single_exchanges():
    candidates = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    # the second direction overlaps with the first, and the third is as likely
    assert set(best_set(candidates, np.array([5.0, 4.0, 4.0]), 100, 2)) == {0, 2}
    assert set(best_set(candidates, np.array([5.0, 40.0, 4.0]), 100, 2)) == {1, 2}


# ---- what is said about the latents


def judged(singular_values, changes, n_cells=100, n_environments=64, baseline=False):
    return identifiability(
        np.array(singular_values, dtype=float),
        np.array(changes, dtype=float),
        np.full(n_environments, n_cells),
        baseline=baseline,
    )


def test_nothing_is_said_against_latents_that_change_alone_in_many_environments():
    known = judged([2, 1], [[1, 0], [0, 3], [0, 0]])
    assert known.warnings == ()
    table = known.table.set_index("quantity")["value"]
    assert table["weights_rank"] == 2
    assert table["latents_changed_alone"] == 2
    assert table["mcc_chance"] < table["mcc_chance_95"]
    assert table["singular_value_2"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"singular_values": [1, 0.01], "changes": [[1, 0], [0, 1]]}, "rank 1, below 2"),
        ({"singular_values": [1, 1], "changes": [[0, 0]]}, "no effect changes"),
        ({"singular_values": [1, 1], "changes": [[1, 0], [0, 1]], "n_environments": 9}, "about 32"),
        ({"singular_values": [1, 1], "changes": [[1, 0]], "n_environments": 1}, "ask for fewer"),
        ({"singular_values": [1], "changes": [[1, 0]], "n_environments": 1}, "1 environments cannot tell 2"),
        ({"singular_values": [1, 1], "changes": [[1, 1], [1, 0]]}, "1 of 2 latents change alone"),
        ({"singular_values": [1, 1], "changes": [[1, 0], [0, 1]], "n_cells": 2}, "lean on neighbours"),
        ({"singular_values": [1, 1], "changes": [[0, 0]], "baseline": True}, "never told apart"),
    ],
)
def test_each_problem_is_named(arguments, message):
    assert any(message in warning for warning in judged(**arguments).warnings)


def test_one_latent_is_never_mixed():
    assert judged([1.0], [[0.0]], n_environments=2).warnings == ()
    assert judged([1.0], [[0.0]], baseline=True).warnings == ()


def test_more_changes_and_more_latents_take_more_environments():
    assert [environments_needed(5, k) for k in (0, 1, 1.8, 3)] == [32, 32, 64, 256]
    assert environments_needed(10, 1) == 64


def test_a_fit_judges_itself(linear):
    fit = fitted(linear, settings={"phi": "linear"})
    assert isinstance(fit.identifiability.table, pd.DataFrame)
    rank = fit.identifiability.table.set_index("quantity").loc["weights_rank", "value"]
    assert rank == fit.rank == 3
    rotated = fit.latents(linear.X)
    unrotated = rotated @ fit.unmixing.T
    assert mcc(linear.Z, rotated) > 0.97 > mcc(linear.Z, unrotated)
    assert np.array_equal(fitted(linear, estimator="joint", settings={"phi": "linear"}).unmixing, np.eye(3))


@pytest.mark.parametrize("penalty", [[], [-1.0, 0.1]])
def test_a_list_of_penalties_holds_some_and_none_below_0(linear, penalty):
    with pytest.raises(InputError, match="penalty"):
        fitted(linear, settings={"penalty": penalty})
