"""Errors of average treatment effects, against a plain loop over environments and latents."""

import itertools

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from latentree.metrics import ate_error


def cells(seed=0, n_latents=3, n_environments=4, n_cells=200, noise=0.1):
    """True latents, phenotype with effects of each environment's own, and environments."""
    rng = np.random.default_rng(seed)
    environments = np.repeat([f"e{i}" for i in range(n_environments)], n_cells)
    Z = rng.normal(size=(len(environments), n_latents)) * [1.0, 2.0, 0.5][:n_latents]
    weights = np.repeat(rng.normal(size=(n_environments, n_latents)), n_cells, axis=0)
    return Z, (Z * weights).sum(axis=1) + 5 + noise * rng.normal(size=len(Z)), environments


def by_loop(Z, Z_hat, y, environments, names):
    """The same by scikit-learn, the matching by trying all orders."""
    n = Z.shape[1]
    strength = np.abs(np.corrcoef(Z.T, Z_hat.T)[:n, n:])
    orders = itertools.permutations(range(Z_hat.shape[1]), n)
    order = max(orders, key=lambda one: sum(strength[i, j] for i, j in enumerate(one)))
    errors = []
    for name in names:
        rows = [i for i, its in enumerate(environments) if its == name]
        effects = []
        for latents in (Z[rows], Z_hat[rows]):
            standardised = (latents - latents.mean(axis=0)) / latents.std(axis=0)
            effects.append(LinearRegression().fit(standardised, y[rows]).coef_)
        errors += [(abs(effects[1][order[i]]) - abs(effects[0][i])) ** 2 for i in range(n)]
    return np.mean(errors)


@pytest.mark.parametrize("n_estimated", [3, 5])
def test_as_a_loop_over_all_environments(n_estimated):
    Z, y, environments = cells()
    Z_hat = Z @ np.random.default_rng(1).normal(size=(3, n_estimated)) + 0.1
    Z_hat += 0.3 * np.random.default_rng(2).normal(size=Z_hat.shape)
    expected = by_loop(Z, Z_hat, y, environments, np.unique(environments))
    assert ate_error(Z, Z_hat, y, environments) == pytest.approx(expected)
    assert expected > 0.01


def test_order_sign_scale_and_offset_of_latents_do_not_matter_and_mixing_does():
    Z, y, environments = cells()
    same = 2 - Z[:, [2, 0, 1]] * [1.0, -3.0, 10.0]
    assert ate_error(Z, same, y, environments) == pytest.approx(0, abs=1e-20)
    turned = Z / Z.std(axis=0) @ np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    assert ate_error(Z, turned, y, environments) > 0.05


def test_a_latent_without_a_partner_and_a_constant_one_have_no_effect():
    Z, y, environments = cells(noise=0.0)
    Z[environments == "e0", 2] = 4.0
    missing = ate_error(Z, Z[:, :2], y, environments)
    effects = []
    for name in np.unique(environments):
        its = environments == name
        left = Z[its] - Z[its].mean(axis=0)
        spread = left.std(axis=0)
        spread[spread < 1e-9] = 1.0
        true = np.abs(np.linalg.lstsq(left / spread, y[its] - y[its].mean(), rcond=None)[0])
        found = np.abs(np.linalg.lstsq(left[:, :2] / spread[:2], y[its] - y[its].mean(), rcond=None)[0])
        effects.append((true - np.append(found, 0.0)) ** 2)
    assert missing == pytest.approx(np.mean(effects))
    assert ate_error(Z, Z, y, environments) == pytest.approx(0, abs=1e-20)


def test_only_the_environments_drawn_count_and_the_draw_is_the_seeds():
    Z, y, environments = cells(n_environments=6)
    Z_hat = Z @ np.random.default_rng(1).normal(size=(3, 3))
    names = np.unique(environments)
    singles = [by_loop(Z, Z_hat, y, environments, [name]) for name in names]
    pairs = [np.mean(pair) for pair in itertools.combinations(singles, 2)]
    found = [ate_error(Z, Z_hat, y, environments, n_environments=2, seed=seed) for seed in range(8)]
    assert all(np.isclose(one, pairs).sum() == 1 for one in found)
    assert len(set(np.round(found, 10))) > 1
    assert ate_error(Z, Z_hat, y, environments, n_environments=2, seed=3) == found[3]


def test_environments_may_be_any_names_and_cells_must_be_the_same():
    Z, y, environments = cells()
    numbers = np.unique(environments, return_inverse=True)[1]
    assert ate_error(Z, Z[:, ::-1], y, numbers) == pytest.approx(0, abs=1e-20)
    with pytest.raises(ValueError, match="same cells"):
        ate_error(Z, Z[:-1], y, environments)
    with pytest.raises(ValueError, match="same cells"):
        ate_error(Z, Z, y[:, None], environments)
