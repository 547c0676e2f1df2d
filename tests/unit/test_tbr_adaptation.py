"""Weights of an environment from a few cells: lasso, penalty, least squares, and what they gain."""

import numpy as np
import pytest

from latentree.errors import InputError
from latentree.simulate import simulate_environments
from latentree.tbr import fit_tbr
from latentree.tbr.adaptation import (
    adapt,
    adapted_weights,
    change_penalty,
    change_size,
    laplace_scale,
    leave_one_out_penalty,
    residual_variance,
)


def problem(n_cells=12, n_latents=4, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n_cells, n_latents))
    start = rng.normal(size=n_latents)
    change = np.where(np.arange(n_latents) == 1, 1.5, 0.0)
    return Z, Z @ (start + change) + 0.3 + 0.1 * rng.normal(size=n_cells), start


def test_orthogonal_latents_have_a_closed_form():
    rng = np.random.default_rng(0)
    Z = np.linalg.qr(rng.normal(size=(9, 3)))[0] * 2  # squared norm 4
    start, penalty = np.array([1.0, -2.0, 0.5]), 1.0
    y = rng.normal(size=9) + Z @ [0.2, 2.0, 0.0]
    least_squares = Z.T @ (y - Z @ start) / 4
    expected = start + np.sign(least_squares) * np.maximum(np.abs(least_squares) - penalty / 4, 0)
    found, intercept = adapted_weights(Z, y, start, penalty=penalty)
    assert found == pytest.approx(expected, abs=1e-7)
    assert intercept == 0


@pytest.mark.parametrize("n_cells", [3, 5, 40])
@pytest.mark.parametrize("penalty", [0.05, 0.5, 3.0])
def test_the_change_fulfils_the_conditions_of_the_lasso(n_cells, penalty):
    Z, y, start = problem(n_cells, 5)
    found, _ = adapted_weights(Z, y, start, 0.3, penalty=penalty)
    gradient = Z.T @ (y - 0.3 - Z @ found)
    changed = found != start
    assert gradient[changed] == pytest.approx(penalty * np.sign(found - start)[changed], abs=1e-4)
    assert (np.abs(gradient[~changed]) <= penalty + 1e-4).all()
    # the largest penalty that changes anything, and none
    largest = np.abs(Z.T @ (y - 0.3 - Z @ start)).max()
    assert np.array_equal(adapted_weights(Z, y, start, 0.3, penalty=largest * 1.001)[0], start)
    assert np.array_equal(adapted_weights(Z, y, start, 0.3, penalty=np.inf)[0], start)
    assert not np.array_equal(adapted_weights(Z, y, start, 0.3, penalty=largest * 0.98)[0], start)


def test_a_free_intercept_is_fitted_without_penalty():
    Z, y, start = problem(200)
    found, intercept = adapted_weights(Z, y, start, 9.0, penalty=2.0, free_intercept=True)
    assert intercept == pytest.approx(0.3, abs=0.05)
    assert np.flatnonzero(found != start).tolist() == [1]
    centred, _ = adapted_weights(Z - Z.mean(axis=0), y - y.mean(), start, penalty=2.0)
    assert found == pytest.approx(centred, abs=1e-6)


@pytest.mark.parametrize("n_cells", [2, 4, 30])
def test_least_squares_of_smallest_norm(n_cells):
    Z, y, start = problem(n_cells)
    found, _ = adapted_weights(Z, y, start, 0.3, method="ols")
    assert found == pytest.approx(np.linalg.pinv(Z) @ (y - 0.3))
    assert np.array_equal(adapted_weights(Z, y, start, method="zero_shot")[0], start)
    nothing = adapted_weights(Z[:0], y[:0], start, 0.3, method="ols", free_intercept=True)
    assert np.array_equal(nothing[0], start)
    assert nothing[1] == 0.3


@pytest.mark.parametrize("free", [False, True])
def test_leave_one_out_is_what_it_says(free):
    Z, y, start = problem(8, 3, seed=2)
    penalty = leave_one_out_penalty(Z, y, start, 0.3, free)

    def error(value: float) -> float:
        total = 0.0
        for i in range(8):
            rest = np.arange(8) != i
            weights, level = adapted_weights(
                Z[rest], y[rest], start, 0.3, penalty=value * 7 / 8, free_intercept=free
            )
            total += (y[i] - Z[i] @ weights - level) ** 2
        return total

    assert all(error(penalty) <= error(penalty * factor) + 1e-6 for factor in 10.0 ** np.arange(-1, 1, 0.25))
    chosen, _ = adapted_weights(Z, y, start, 0.3, free_intercept=free)
    given, _ = adapted_weights(Z, y, start, 0.3, penalty=penalty, free_intercept=free)
    assert np.array_equal(chosen, given)
    assert leave_one_out_penalty(Z[:1], y[:1], start) == np.inf
    assert leave_one_out_penalty(Z, Z @ start, start) == np.inf


def test_the_penalty_makes_the_change_the_most_likely_one():
    # grid search of the posterior of one weight: normal residuals, Laplace distributed change
    rng = np.random.default_rng(1)
    z, noise, size = rng.normal(size=(6, 1)), 0.4, 0.7
    y = 1.3 * z[:, 0] + rng.normal(size=6) * np.sqrt(noise)
    grid = np.linspace(-2, 3, 200_001)
    log_posterior = -((y[:, None] - z * grid) ** 2).sum(axis=0) / (2 * noise) - np.abs(grid) / size
    found, _ = adapted_weights(z, y, np.zeros(1), penalty=change_penalty(noise, size))
    assert found[0] == pytest.approx(grid[log_posterior.argmax()], abs=1e-4)
    drawn = rng.laplace(scale=0.7, size=200_000)
    assert laplace_scale(drawn) == pytest.approx(0.7, rel=0.02)
    assert change_penalty(0.4, 0.0) is None
    assert laplace_scale(np.empty((0, 3))) == 0


# ---- on a fit


@pytest.fixture(scope="module")
def held_out():
    """A fit without a quarter of the leaves, and the cells of these."""
    sim = simulate_environments(6, 4, n_cells=120, psi="linear", seed=3)
    rng = np.random.default_rng(0)
    left_out = rng.choice(sim.tree.leaves, 16, replace=False)
    inside = ~np.isin(sim.environments, left_out)
    drawn = rng.random(len(sim.y)) < 0.8
    fit = fit_tbr(
        sim.X,
        sim.y,
        sim.environments,
        sim.tree,
        4,
        settings={"phi": "linear", "n_steps": 600, "n_finetune_steps": 300},
        train=np.flatnonzero(inside & drawn),
        validation=np.flatnonzero(inside & ~drawn),
    )
    rows = np.flatnonzero(inside & ~drawn)
    return sim, fit, left_out, residual_variance(fit, sim.X[rows], sim.y[rows], sim.environments[rows])


def test_few_shots_need_latents_that_are_no_mixtures(held_out):
    """The bar of the issue: 5-shot error at least 15% below the same network with mixed latents."""
    sim, fit, left_out, noise = held_out
    rng = np.random.default_rng(1)
    z, y, penalty = (
        fit.latents(sim.X).astype(float),
        sim.y.astype(float),
        change_penalty(noise, change_size(fit)),
    )
    errors = {"found": [], "mixed": [], "ols": [], "zero_shot": []}
    for name in left_out:
        rows = np.flatnonzero(sim.environments == name)
        source = fit.tree.nearest(name, list(fit.weights.index))
        for _ in range(4):
            few, rest = np.split(rng.permutation(rows), [5])
            mixing = np.linalg.qr(rng.normal(size=(4, 4)))[0]
            level = fit.intercepts[source]

            def error(z, start, method="lasso", few=few, rest=rest, level=level):
                weights, _ = adapted_weights(z[few], y[few], start, level, method=method, penalty=penalty)
                return np.mean((y[rest] - z[rest] @ weights - level) ** 2) / y[rest].var()

            start = fit.weights.loc[source].to_numpy()
            errors["found"].append(error(z, start))
            # rotations leave the mean square of the changes, so the penalty is the same
            errors["mixed"].append(error(z @ mixing.T, start @ mixing.T))
            errors["ols"].append(error(z, start, "ols"))
            errors["zero_shot"].append(error(z, start, "zero_shot"))
            assert error(z @ mixing.T, start @ mixing.T, "zero_shot") == pytest.approx(
                errors["zero_shot"][-1]
            )
    mean = {name: np.mean(values) for name, values in errors.items()}
    assert mean["found"] < 0.85 * mean["mixed"], mean
    assert mean["found"] < 0.5 * mean["zero_shot"]
    assert mean["found"] < 0.5 * mean["ols"]


def test_adapt_agrees_with_its_parts(held_out):
    sim, fit, left_out, noise = held_out
    name = str(left_out[0])
    rows = np.flatnonzero(sim.environments == name)
    few, rest = rows[:20], rows[20:]
    adapted = adapt(fit, sim.X[few], sim.y[few], name, noise=noise)
    assert adapted.nearest == fit.tree.nearest(name, list(fit.weights.index))
    assert adapted.penalty == pytest.approx(noise / change_size(fit))
    assert adapted.n_cells == 20
    sparse = adapt(fit, sim.X[few[:5]], sim.y[few[:5]], name, noise=noise)
    assert (sparse.change == 0).any()
    assert (sparse.change != 0).any()
    start = fit.weights.loc[adapted.nearest]
    assert adapted.weights.to_numpy() == pytest.approx((start + adapted.change).to_numpy())
    expected = fit.latents(sim.X[rest]) @ adapted.weights.to_numpy() + adapted.intercept
    assert adapted.predict(sim.X[rest]) == pytest.approx(expected)
    unchanged = adapt(fit, sim.X[:0], sim.y[:0], name)
    assert unchanged.predict(sim.X[rest]) == pytest.approx(fit.predict(sim.X[rest], [name] * len(rest)))
    by_cells = adapt(fit, sim.X[few], sim.y[few], name)
    error = [np.mean((a.predict(sim.X[rest]) - sim.y[rest]) ** 2) for a in (adapted, by_cells, unchanged)]
    assert max(error[:2]) < error[2]


def test_change_size_is_that_of_neighbours(held_out):
    _, fit, _, _ = held_out
    observed = set(fit.weights.index)
    steps = []
    for node, parent in fit.tree.to_table()[["node", "parent"]].itertuples(index=False):
        if node in observed and parent in observed:
            steps.append(fit.weights.loc[node] - fit.weights.loc[parent])
    # the root has no cells: its two children are neighbours
    first, second = fit.tree.to_table().query("parent == @fit.tree.root")["node"]
    steps.append(fit.weights.loc[second] - fit.weights.loc[first])
    assert change_size(fit) == pytest.approx(np.sqrt(np.mean(np.square(steps)) / 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment": "nobody"}, "no nodes of the tree"),
        ({"method": "laso"}, r"'laso' is none \(nearest: 'lasso'\)"),
        ({"y": np.zeros(3)}, r"5 cells and a phenotype of shape \(3,\)"),
        ({"y": np.array([0, 1, np.nan, 1, 2.0])}, "1 value\\(s\\) are NaN"),
        ({"X": np.zeros((5, 2))}, "has 2 inputs, the fit has 20"),
        ({"noise": -1.0}, "noise: -1.0 is no variance"),
    ],
)
def test_bad_input_is_told(held_out, change, message):
    sim, fit, left_out, _ = held_out
    given = {"X": sim.X[:5], "y": sim.y[:5], "environment": str(left_out[0]), **change}
    with pytest.raises(InputError, match=message):
        adapt(fit, **given)
