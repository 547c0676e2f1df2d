"""Prediction for cell types that a fit has not seen: with no cell of theirs, and with a few.

Without any cell a type is given the weights of the nearest type of the fit. That prediction is the same
for every mixture of the latents, so it cannot tell rotated latents from others; what few cells gain by
changing few weights can.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentree.errors import InputError
from latentree.seeds import derive_seed
from latentree.tbr.adaptation import (
    Method,
    adapted_weights,
    change_penalty,
    change_size,
    laplace_scale,
    neighbour_changes,
    residual_variance,
)
from latentree.tbr.estimators import Estimator, TBRFit
from latentree.tbr.simulated import Problem, Rows
from latentree.tbr_config import HeldOutConfig

COLUMNS = [
    "estimator",
    "n_latents",
    "n_changes",
    "seed",
    "held_out",
    "nearest",
    "shots",
    "method",
    "nmse",
    "nmse_sd",
    "n_draws",
    "n_test_cells",
    "note",
]
_N_DRAWS = 10
# a mean squared error over fewer cells means little
_FEWEST_TEST_CELLS = 20
# types to learn from; between two there is a single difference
_FEWEST_TYPES_LEFT = 3
_SAW = "denoising and scaling of genes saw these cells, the fits did not"
_SAME = "the same for any mixture of the latents: cannot tell rotations apart"


@dataclass(frozen=True)
class _Adaptation:
    """One way to predict cells of a held-out type from a few of them.

    ``latents`` (n_cells, n_latents) of all cells of the type, ``start`` and ``level`` weights and
    intercept of the nearest type.
    """

    name: str
    method: Method
    latents: np.ndarray
    start: np.ndarray
    level: float
    penalty: float | None

    def error(self, y: np.ndarray, few: np.ndarray, rest: np.ndarray) -> float:
        """Mean squared error on ``rest`` after adapting to ``few``, row numbers both."""
        weights, level = adapted_weights(
            self.latents[few], y[few], self.start, self.level, method=self.method, penalty=self.penalty
        )
        return float(np.mean((y[rest] - self.latents[rest] @ weights - level) ** 2))


def held_out_types(environments: np.ndarray, settings: HeldOutConfig, seed: int) -> list[str]:
    """Cell types to hold out, sorted: random ones of at least ``min_cells`` cells.

    At most ``n_types``, and so many that at least three types are left to fit.

    Parameters
    ----------
    environments
        (n_cells,) names of the cells' types.
    """
    names, sizes = np.unique(environments.astype(str), return_counts=True)
    large = names[sizes >= settings.min_cells]
    n_types = min(settings.n_types, len(large), max(0, len(names) - _FEWEST_TYPES_LEFT))
    rng = np.random.default_rng(derive_seed(seed, "tbr", "held_out"))
    return sorted(rng.choice(large, n_types, replace=False).tolist()) if n_types else []


def transfer_rows(problem: Problem, estimator: Estimator) -> pd.DataFrame:
    """Errors of one estimator on held-out cell types: the rows of tables/tbr_transfer.tsv.

    Methods: ``zero_shot``, the weights of the nearest type of the fit (of the baseline: its only
    ones); ``zero_shot_nearest`` of the baseline, fitted to the nearest type alone, as in Layne et al.;
    ``lasso`` and ``ols`` (see :mod:`latentree.tbr.adaptation`) with so many ``shots``;
    ``lasso_unrotated``, the lasso on the same network's latents before the rotation of two_stage;
    ``oracle``, the lasso on the true latents from the nearest type's true weights; ``floor``, the
    true weights. Errors are over the variance of the phenotype within the type; with shots they are
    means over draws of the cells, on the type's other cells.
    """
    settings = problem.settings.held_out
    if settings.n_types == 0:
        return pd.DataFrame(columns=COLUMNS)
    marks = {
        "estimator": estimator,
        "n_latents": problem.settings.n_latents,
        "n_changes": problem.n_changes,
        "seed": problem.seed,
    }
    types = held_out_types(problem.environments, settings, problem.seed)
    if not types:
        return pd.DataFrame([{**marks, **_nothing(problem)}], columns=COLUMNS)
    seen = problem.rows.among(~np.isin(problem.environments.astype(str), types))
    fit = problem.fitted(estimator, seen)
    noise = _noise(problem, fit, seen)
    rows = []
    for name in types:
        nearest = problem.tree.nearest(name, list(fit.weights.index))
        here = np.flatnonzero(problem.environments == name)
        found = _zero_shots(problem, fit, nearest, here)
        found += _few_shots(problem, name, here, _adaptations(problem, fit, nearest, here, noise))
        rows += [{**marks, "held_out": name, "nearest": nearest, **row} for row in found]
    return pd.DataFrame(rows, columns=COLUMNS)


def _nothing(problem: Problem) -> dict[str, object]:
    """The one row that says why no type is held out."""
    sizes = np.unique(problem.environments.astype(str), return_counts=True)[1]
    least = problem.settings.held_out.min_cells
    why = f"{len(sizes)} cell types, {int((sizes >= least).sum())} of them with at least {least} cells"
    note = f"no type is held out: {why}, and {_FEWEST_TYPES_LEFT} must be left to fit"
    return {
        "held_out": "", "nearest": "", "shots": 0, "method": "none", "nmse": np.nan, "nmse_sd": np.nan,
        "n_draws": 0, "n_test_cells": 0, "note": note,
    }  # fmt: skip


def _noise(problem: Problem, fit: TBRFit, seen: Rows) -> float:
    """Variance of the phenotype around the fit's predictions, on cells that it was not fitted to."""
    rows = seen.validation if len(seen.validation) else seen.train
    X, y = problem.variables.X[rows], problem.phenotype.y[rows]
    return residual_variance(fit, X, y, problem.environments[rows])


def _zero_shots(problem: Problem, fit: TBRFit, nearest: str, here: np.ndarray) -> list[dict[str, object]]:
    """Rows of the predictions without any cell of the type; ``here`` are its cells."""
    X, y, names = problem.variables.X[here], problem.phenotype.y[here], problem.environments[here]
    predicted = {"zero_shot": fit.predict(X, names), "floor": problem.phenotype.signal[here]}
    notes = {"zero_shot": f"{_SAME}; {_SAW}", "floor": "true latents and weights"}
    if fit.estimator == "baseline":
        alone = problem.rows.among(problem.environments == nearest)
        try:
            # one type's cells are too few to choose a network by
            baseline = problem.fitted("baseline", alone, phi=fit.phi.kind)
            predicted["zero_shot_nearest"] = baseline.predict(X, names)
            notes["zero_shot_nearest"] = f"fitted to {len(alone.train)} cells of the nearest type; {_SAW}"
        except InputError as error:
            # the nearest type may have too few training cells for a fit of its own
            predicted["zero_shot_nearest"] = np.full(len(y), np.nan)
            notes["zero_shot_nearest"] = f"no fit to the nearest type alone: {error.problem}"
    return [
        {
            "shots": 0,
            "method": method,
            "nmse": float(np.mean((y - values) ** 2) / y.var()),
            "nmse_sd": np.nan,
            "n_draws": 1,
            "n_test_cells": len(y),
            "note": notes[method],
        }
        for method, values in predicted.items()
    ]


def _adaptations(
    problem: Problem, fit: TBRFit, nearest: str, here: np.ndarray, noise: float
) -> list[_Adaptation]:
    """Every way to adapt to cells of the type; all lassos have their penalty by the same rule."""
    z = fit.latents(problem.variables.X[here]).astype(np.float64)
    start, level = fit.weights.loc[nearest].to_numpy(), float(fit.intercepts[nearest])
    penalty = change_penalty(noise, change_size(fit))
    found = [
        _Adaptation("lasso", "lasso", z, start, level, penalty),
        _Adaptation("ols", "ols", z, start, level, 0.0),
    ]
    if fit.estimator == "two_stage":
        back = fit.unmixing
        unrotated = start @ np.linalg.inv(back)
        penalty = change_penalty(noise, change_size(fit, back))
        found.append(_Adaptation("lasso_unrotated", "lasso", z @ back.T, unrotated, level, penalty))
    return [*found, _oracle(problem, fit, nearest, here)]


def _oracle(problem: Problem, fit: TBRFit, nearest: str, here: np.ndarray) -> _Adaptation:
    """The lasso with the true latents, the nearest type's true weights and the true noise."""
    first = {name: row for row, name in reversed(list(enumerate(problem.environments)))}
    truth = pd.DataFrame(
        problem.phenotype.weights[[first[name] for name in fit.weights.index]], fit.weights.index
    )
    size = laplace_scale(neighbour_changes(problem.tree, truth))
    # where nothing changes the truth is known to allow no change
    penalty = change_penalty(problem.settings.phenotype.noise**2, size) if size > 0 else np.inf
    Z = problem.variables.Z[here].astype(np.float64)
    return _Adaptation("oracle", "lasso", Z, truth.loc[nearest].to_numpy(), 0.0, penalty)


def _few_shots(
    problem: Problem, name: str, here: np.ndarray, adaptations: list[_Adaptation]
) -> list[dict[str, object]]:
    """Rows of every adaptation for every number of shots that leaves cells enough to test on."""
    y = problem.phenotype.y[here]
    rows: list[dict[str, object]] = []
    for shots in problem.settings.held_out.shots:
        if len(y) - shots < _FEWEST_TEST_CELLS:
            continue
        # the same draws for every estimator, adaptation and number of changes
        rng = np.random.default_rng(derive_seed(problem.seed, "tbr", "shots", name, shots))
        draws = [np.split(rng.permutation(len(y)), [shots]) for _ in range(_N_DRAWS)]
        for adaptation in adaptations:
            errors = [adaptation.error(y, few, rest) / y.var() for few, rest in draws]
            rows.append(
                {
                    "shots": shots,
                    "method": adaptation.name,
                    "nmse": float(np.mean(errors)),
                    "nmse_sd": float(np.std(errors, ddof=1)),
                    "n_draws": len(errors),
                    "n_test_cells": len(y) - shots,
                    "note": "true latents" if adaptation.name == "oracle" else _SAW,
                }
            )
    return rows
