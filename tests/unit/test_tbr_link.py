"""The logistic link: log odds of a phenotype of 0 and 1 against scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from latentree.errors import InputError
from latentree.metrics.mcc import mcc
from latentree.simulate import balanced_tree, simulate_environments
from latentree.tbr import fit_tbr
from latentree.tbr.evidence import LogOdds, SquaredErrors, evidence_of
from latentree.tbr.link import deviances, is_binary, link_of, mean_deviance, mean_of
from latentree.tbr.resolving import solve_again
from latentree.tbr.sparse_changes import least_squares, sparse_solution
from latentree.tbr.structure import Branches


@pytest.fixture(scope="module")
def cells():
    """Latents, 0 or 1, environment numbers, branches and true weights; one latent's effect changes once."""
    rng = np.random.default_rng(0)
    tree = balanced_tree(2)
    branches = Branches.identified(tree, tree.leaves)
    z = rng.normal(size=(8000, 2))
    codes = rng.integers(4, size=len(z))
    weights = np.tile([1.0, -0.5, 0.3], (4, 1))
    weights[3, 1] = 1.5
    log_odds = (z * weights[codes, :2]).sum(axis=1) + weights[codes, 2]
    y = (rng.random(len(z)) < expit(log_odds)).astype(float)
    return z, y, codes, branches, weights


def test_deviances_are_minus_twice_the_log_likelihood():
    predictor, y = torch.tensor([0.3, -2.0]), torch.tensor([1.0, 0.0])
    p = expit(np.array([0.3, -2.0]))
    expected = -2 * np.log([p[0], 1 - p[1]])
    assert deviances(predictor, y, "logistic").numpy() == pytest.approx(expected, rel=1e-6)
    assert deviances(predictor, y, "identity").numpy() == pytest.approx([0.49, 4.0], rel=1e-6)
    weighted = mean_deviance(predictor.numpy(), y.numpy(), "logistic", np.array([3.0, 1.0]))
    assert weighted == pytest.approx((3 * expected[0] + expected[1]) / 4, rel=1e-6)
    assert mean_of(np.array([0.3, -2.0]), "logistic") == pytest.approx(p)


def test_the_link_follows_the_values():
    assert is_binary(np.array([0, 1, 1.0]))
    assert not is_binary(np.array([0, 0.5]))
    assert link_of("auto", np.array([0.0, 1.0])) == "logistic"
    assert link_of("auto", np.array([0.0, 2.0])) == "identity"
    assert link_of("identity", np.array([0.0, 1.0])) == "identity"


def test_weights_of_all_environments_are_those_of_logistic_regression(cells):
    z, y, codes, branches, _ = cells
    evidence = evidence_of(z, y, codes, 4, binary=True)
    found = least_squares(evidence, branches, np.zeros(3, dtype=bool)).weights
    expected = LogisticRegression(C=np.inf, tol=1e-8).fit(z, y)
    assert found[0] == pytest.approx([*expected.coef_[0], expected.intercept_[0]], abs=2e-3)
    free = least_squares(evidence, branches, np.ones(3, dtype=bool)).weights[branches.nodes]
    alone = LogisticRegression(C=np.inf, tol=1e-8).fit(z[codes == 1], y[codes == 1])
    assert free[1] == pytest.approx([*alone.coef_[0], alone.intercept_[0]], abs=0.03)


def test_the_one_change_is_found_and_nothing_else(cells):
    z, y, codes, branches, weights = cells
    evidence = evidence_of(z, y, codes, 4, binary=True)
    allowed = np.array([True, True, False])
    solution = sparse_solution(evidence, evidence, branches, allowed, 0.03)
    assert solution.weights[branches.nodes, :2] == pytest.approx(weights[:, :2], abs=0.2)
    assert (solution.changes(branches)[:, :2] != 0).sum() == 1


def test_counts_stand_for_repeated_cells(cells):
    z, y, codes, branches, _ = cells
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 3, size=len(y))
    rows = np.repeat(np.arange(len(y)), counts)
    allowed = np.ones(3, dtype=bool)
    for binary in (True, False):
        counted = evidence_of(z, y, codes, 4, binary=binary, multiplicity=counts.astype(float))
        repeated = evidence_of(z[rows], y[rows], codes[rows], 4, binary=binary)
        assert counted.n_cells == repeated.n_cells
        one, other = (least_squares(e, branches, allowed).weights for e in (counted, repeated))
        assert one == pytest.approx(other, abs=1e-8)
        assert counted.error(one[branches.nodes]) == pytest.approx(repeated.error(one[branches.nodes]))


def test_separated_cells_have_finite_weights():
    z = np.linspace(-1, 1, 40)[:, None]
    y = (z[:, 0] > 0).astype(float)
    tree = balanced_tree(1)
    branches = Branches.identified(tree, tree.leaves)
    evidence = evidence_of(z, y, np.repeat([0, 1], 20), 2, binary=True)
    assert isinstance(evidence, LogOdds)
    weights = least_squares(evidence, branches, np.ones(2, dtype=bool)).weights
    assert np.isfinite(weights).all()
    assert np.abs(weights).max() < 50


def test_without_intercept_its_weight_is_zero(cells):
    z, y, codes, branches, _ = cells
    for binary in (True, False):
        evidence = evidence_of(z, y, codes, 4, binary=binary, intercept=False)
        assert isinstance(evidence, LogOdds if binary else SquaredErrors)
        assert not least_squares(evidence, branches, np.array([True, True, False])).weights[:, -1].any()


@pytest.fixture(scope="module")
def logistic_fit():
    simulated = simulate_environments(4, 2, n_changes=1, n_cells=400, psi="linear", n_inputs=5, seed=3)
    rng = np.random.default_rng(0)
    y = (rng.random(len(simulated.y)) < expit(2 * simulated.y)).astype(int)
    fit = fit_tbr(
        simulated.X, y, simulated.environments, simulated.tree, n_latents=2, settings={"phi": "linear"}
    )
    return simulated, y, fit


def test_a_binary_phenotype_s_latents_are_found(logistic_fit):
    simulated, _y, fit = logistic_fit
    assert fit.link == "logistic"
    assert fit.unit == 1
    assert mcc(simulated.Z, fit.latents(simulated.X)) > 0.97
    p = fit.predict(simulated.X, simulated.environments)
    assert p.min() >= 0
    assert p.max() <= 1
    assert p == pytest.approx(expit(fit.linear_predictor(simulated.X, simulated.environments)))
    truth = expit(2 * simulated.signal)
    assert np.mean((p - truth) ** 2) < 0.1 * truth.var()


def test_solving_again_gives_the_fit_s_own_weights(logistic_fit):
    simulated, y, fit = logistic_fit
    rng = np.random.default_rng(0)
    counts = rng.poisson(1, size=len(y))
    z = fit.latents(simulated.X)
    again = solve_again(fit, z, y, simulated.environments)
    assert again.weights.index.equals(fit.weights.index)
    assert again.changes.shape == fit.changes.shape
    assert np.corrcoef(again.weights.to_numpy().ravel(), fit.weights.to_numpy().ravel())[0, 1] > 0.95
    drawn = solve_again(fit, z, y, simulated.environments, counts)
    assert not np.array_equal(drawn.weights, again.weights)
    with pytest.raises(InputError, match="counts"):
        solve_again(fit, z, y, simulated.environments, counts - 1)
    with pytest.raises(InputError, match="shapes"):
        solve_again(fit, z[:, :1], y, simulated.environments)


def test_solving_again_with_the_training_cells_is_the_fit(logistic_fit):
    simulated = logistic_fit[0]
    rows = np.arange(len(simulated.y))
    for intercept in ("environment", "none"):
        fit = fit_tbr(
            simulated.X, simulated.y, simulated.environments, simulated.tree, n_latents=2,
            settings={"phi": "linear", "n_steps": 200, "n_finetune_steps": 50, "intercept": intercept},
            train=rows, validation=np.arange(0),
        )  # fmt: skip
        again = solve_again(fit, fit.latents(simulated.X), simulated.y, simulated.environments)
        assert again.weights.to_numpy() == pytest.approx(fit.weights.to_numpy(), abs=1e-3)
        assert again.intercepts.to_numpy() == pytest.approx(fit.intercepts.to_numpy(), abs=1e-3)


def test_a_logistic_link_needs_zeros_and_ones(logistic_fit):
    simulated = logistic_fit[0]
    with pytest.raises(InputError, match="besides 0 and 1"):
        fit_tbr(
            simulated.X, simulated.y, simulated.environments, simulated.tree, settings={"link": "logistic"}
        )


@pytest.mark.parametrize("estimator", ["baseline", "joint", "two_stage"])
def test_a_model_without_intercept_has_none(cells, estimator):
    z, y, codes, branches, _ = cells
    names = np.array(branches.environments, dtype=object)[codes]
    settings = {"phi": "linear", "intercept": "none", "n_steps": 100, "n_finetune_steps": 50}
    fit = fit_tbr(z, y, names, branches.tree, 2, estimator, settings=settings)
    assert (fit.intercepts == 0).all()
    assert np.corrcoef(fit.predict(z, names), y)[0, 1] > 0.3


def test_weights_without_intercept_are_those_of_logistic_regression(cells):
    z, y, codes, branches, _ = cells
    evidence = evidence_of(z, y, codes, 4, binary=True, intercept=False)
    found = least_squares(evidence, branches, np.zeros(3, dtype=bool)).weights
    expected = LogisticRegression(C=np.inf, tol=1e-8, fit_intercept=False).fit(z, y)
    assert found[0] == pytest.approx([*expected.coef_[0], 0.0], abs=2e-3)
