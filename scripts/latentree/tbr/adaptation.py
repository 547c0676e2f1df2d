"""Weights of an environment that had no training cells, from a few cells whose phenotype is known.

The changes along the tree are sparse, so a new environment's weights differ from those of the nearest
environment of the fit in few latents: a lasso on the change needs fewer cells than least squares.
This holds for latents that are not mixtures of the true ones, which prediction without any cells of
the new environment cannot tell: it is the same for every mixture.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, lasso_path

from latentree.errors import InputError, listed, nearest
from latentree.tbr.cells import check_finite, check_names
from latentree.tbr.result import TBRFit
from latentree.tbr.structure import Branches
from latentree.tree import Tree

Method = Literal["zero_shot", "lasso", "ols"]

_MAX_ITERATIONS = 20_000
# penalties tried by leave-one-out, as shares of the smallest one that allows no change
_SHARES = np.logspace(0, -3, 13)


@dataclass(frozen=True)
class AdaptedFit:
    """A fit with the weights of one environment.

    Parameters
    ----------
    fit
        What was adapted; its latents stay as they are.
    environment, nearest
        The environment, and the one of the fit that its weights start from.
    method
        How.
    weights
        (n_latents,), named as in the fit.
    change
        ``weights`` minus those of ``nearest``; exact zeros where the lasso changes nothing.
    intercept
        Constant of the phenotype.
    penalty
        Weight of the absolute change against half the sum of squared errors; nan for other methods.
    n_cells
        Cells that the weights were adapted to.
    """

    fit: TBRFit
    environment: str
    nearest: str
    method: Method
    weights: pd.Series
    change: pd.Series
    intercept: float
    penalty: float
    n_cells: int

    def predict(self, X: np.ndarray | sparse.spmatrix) -> np.ndarray:
        """Phenotype of any cells of the environment, float64 (n_cells,), from inputs (n_cells, n_inputs)."""
        predicted: np.ndarray = self.fit.latents(X) @ self.weights.to_numpy() + self.intercept
        return predicted


def adapt(
    fit: TBRFit,
    X: np.ndarray | sparse.spmatrix,
    y: Sequence[float] | np.ndarray,
    environment: str,
    *,
    method: Method = "lasso",
    noise: float | None = None,
) -> AdaptedFit:
    """Weights of an environment of the tree from a few of its cells, say 5 to 100.

    Parameters
    ----------
    fit
        A fit on other environments of the same tree; the network and its latents are not changed.
    X, y
        Inputs (n_cells, n_inputs), as in the fit, and phenotype (n_cells,) of the cells to adapt to. No
        cell at all leaves the weights of the nearest environment.
    environment
        A node of the fit's tree. Its weights start from those of the nearest environment of the fit.
    method
        ``lasso``: few weights change, the others stay equal to the last bit. ``ols``: plain least
        squares, of smallest norm where there are fewer cells than latents. ``zero_shot``: no change.
    noise
        Lasso: variance of the phenotype around the fit's predictions, from cells that it was not fitted
        to (:func:`residual_variance`). The penalty is then ``noise / change_size(fit)``, which is the
        most likely change under independent Laplace distributions as wide as the changes that the fit
        found. None, or a fit without any change: the penalty is chosen by leave-one-out, which is less
        sure with few cells.

    Raises
    ------
    InputError
        The arguments do not fit the fit or each other, or the phenotype has a logistic link.

    Examples
    --------
    >>> noise = residual_variance(fit, X[held_back], y[held_back], environments[held_back])
    >>> adapted = adapt(fit, X_new[:10], y_new[:10], "new type", noise=noise)
    >>> adapted.change[adapted.change != 0]
    >>> adapted.predict(X_new[10:])
    """
    if method not in get_args(Method):
        raise InputError(
            "method",
            f"{method!r} is none{nearest(str(method), get_args(Method))}",
            f"Use one of {listed(get_args(Method))}",
        )
    _require_identity(fit)
    check_names(np.array([environment], dtype=object), fit.tree)
    z = fit.latents(X).astype(np.float64)
    target = np.asarray(y, dtype=np.float64)
    if target.shape != (len(z),):
        raise InputError(
            "X, y", f"{len(z)} cells and a phenotype of shape {target.shape}", "Give one number for each cell"
        )
    check_finite(target, "y")
    if noise is not None and not noise >= 0:
        raise InputError("noise", f"{noise!r} is no variance", "Give a number of at least 0, or None")
    source = fit.tree.nearest(environment, list(fit.weights.index))
    start = fit.weights.loc[source].to_numpy()
    level = float(fit.intercepts[source])
    free = fit.settings.intercept == "environment"
    penalty = np.nan
    if method == "lasso":
        known = None if noise is None else change_penalty(noise, change_size(fit))
        penalty = leave_one_out_penalty(z, target, start, level, free) if known is None else known
    weights, intercept = adapted_weights(
        z, target, start, level, method=method, penalty=penalty, free_intercept=free
    )
    return AdaptedFit(
        fit=fit,
        environment=environment,
        nearest=source,
        method=method,
        weights=pd.Series(weights, fit.weights.columns, name=environment),
        change=pd.Series(weights - start, fit.weights.columns, name=environment),
        intercept=intercept,
        penalty=penalty,
        n_cells=len(z),
    )


def adapted_weights(
    Z: np.ndarray,
    y: np.ndarray,
    start: np.ndarray,
    intercept: float = 0.0,
    *,
    method: Method = "lasso",
    penalty: float | None = None,
    free_intercept: bool = False,
) -> tuple[np.ndarray, float]:
    """Weights and intercept of ``y = Z weights + intercept`` from a few cells and weights to start from.

    The lasso minimises ``|y - Z (start + change) - intercept|^2 / 2 + penalty * sum |change|``.

    Parameters
    ----------
    Z, y
        Latents float64 (n_cells, n_latents) and phenotype (n_cells,).
    start
        (n_latents,): weights of the nearest environment.
    intercept
        Its intercept.
    method, penalty
        As in :func:`adapt`; an infinite penalty allows no change, None is leave-one-out.
    free_intercept
        Whether the intercept is fitted, too, without penalty; else it stays.
    """
    if method == "zero_shot" or len(y) == 0:
        return start.copy(), intercept
    base = np.zeros_like(start) if method == "ols" else start
    inner, outer = _around(Z, y, base, intercept, free_intercept)
    if method == "ols":
        weights = np.linalg.lstsq(inner, outer, rcond=None)[0]
    else:
        if penalty is None:
            penalty = leave_one_out_penalty(Z, y, start, intercept, free_intercept)
        weights = start + _lasso(inner, outer, penalty)
    if free_intercept:
        intercept = float(np.mean(y - Z @ weights))
    return weights, intercept


def change_penalty(noise: float, size: float) -> float | None:
    """Lasso's penalty for residuals of variance ``noise`` and changes of Laplace's scale ``size``.

    None for size 0: where no change was found nothing is known of the size of changes.
    """
    return noise / size if size > 0 else None


def change_size(fit: TBRFit, unmixing: np.ndarray | None = None) -> float:
    """Scale of the Laplace distribution that has the variance of the fit's changes between neighbours.

    A fit whose weights change nowhere has 0.

    Parameters
    ----------
    unmixing
        (n_latents, n_latents): of the weights of the latents ``unmixing @ z`` instead.
    """
    changes = neighbour_changes(fit.tree, fit.weights)
    return laplace_scale(changes if unmixing is None else changes @ np.linalg.inv(unmixing))


def neighbour_changes(tree: Tree, weights: pd.DataFrame) -> np.ndarray:
    """Differences between the weights of environments that are next to each other on the tree.

    Parameters
    ----------
    weights
        Environments x latents; the other nodes of the tree have no weights.

    Returns
    -------
    float64 (n_environments - 1, n_latents).
    """
    branches = Branches.identified(tree, set(weights.index))
    pairs, _ = branches.contrasts()
    values = weights.loc[list(branches.environments)].to_numpy(dtype=np.float64)
    difference: np.ndarray = values[pairs[:, 1]] - values[pairs[:, 0]]
    return difference


def laplace_scale(changes: np.ndarray) -> float:
    """Scale of a Laplace distribution around 0 with the mean square of the changes, 0 for none."""
    return float(np.sqrt(np.mean(changes**2) / 2)) if changes.size else 0.0


def residual_variance(
    fit: TBRFit,
    X: np.ndarray | sparse.spmatrix,
    y: Sequence[float] | np.ndarray,
    environments: Sequence[str] | np.ndarray,
) -> float:
    """Mean squared error of a fit's predictions, to be asked of cells that it was not fitted to."""
    return float(np.mean((np.asarray(y, dtype=np.float64) - fit.predict(X, environments)) ** 2))


def leave_one_out_penalty(
    Z: np.ndarray, y: np.ndarray, start: np.ndarray, intercept: float = 0.0, free_intercept: bool = False
) -> float:
    """The penalty under which every cell is predicted best from the others; infinite for one cell.

    Arguments as in :func:`adapted_weights`.
    """
    if len(y) < 2:
        return np.inf
    inner, outer = _around(Z, y, start, intercept, free_intercept)
    largest = float(np.abs(inner.T @ outer).max())
    if largest == 0:
        return np.inf
    errors = np.zeros(len(_SHARES))
    for left_out in range(len(y)):
        others = np.arange(len(y)) != left_out
        inner, outer = _around(Z[others], y[others], start, intercept, free_intercept)
        # one cell less has as much less to say against the penalty
        penalties = _SHARES * largest * others.mean()
        changes = _path(inner, outer, penalties)
        rest = y[left_out] - Z[left_out] @ (start[:, None] + changes)
        level = (y[others, None] - Z[others] @ (start[:, None] + changes)).mean(axis=0)
        errors += (rest - (level if free_intercept else intercept)) ** 2
    return float(_SHARES[int(errors.argmin())] * largest)


def _around(
    Z: np.ndarray, y: np.ndarray, base: np.ndarray, intercept: float, free_intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Latents and what the base weights leave of the phenotype; centred where the intercept is free."""
    rest = y - Z @ base
    if free_intercept:
        return Z - Z.mean(axis=0), rest - rest.mean()
    return Z, rest - intercept


def _lasso(Z: np.ndarray, rest: np.ndarray, penalty: float) -> np.ndarray:
    """Minimises ``|rest - Z change|^2 / 2 + penalty * sum |change|``, (n_latents,)."""
    if np.isinf(penalty):
        return np.zeros(Z.shape[1])
    if penalty == 0:
        unpenalised: np.ndarray = np.linalg.lstsq(Z, rest, rcond=None)[0]
        return unpenalised
    # scikit-learn's objective has the mean of the squared errors
    model = Lasso(alpha=penalty / len(rest), fit_intercept=False, tol=1e-8, max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings():
        # collinear latents converge slowly, and any solution will do
        warnings.simplefilter("ignore", ConvergenceWarning)
        change: np.ndarray = model.fit(Z, rest).coef_
    return change


def _path(Z: np.ndarray, rest: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """:func:`_lasso` for several penalties, falling; (n_latents, n_penalties)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, changes, _ = lasso_path(Z, rest, alphas=penalties / len(rest), tol=1e-6)
    found: np.ndarray = changes
    return found


def _require_identity(fit: TBRFit) -> None:
    if fit.link != "identity":
        raise InputError(
            "fit",
            "has a logistic link, for which weights are not adapted",
            "Fit with link: identity, or solve the fit again with the new cells (latentree.tbr.resolving)",
        )
