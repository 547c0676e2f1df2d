"""Non-negative matrix factorisation (scikit-learn); nothing is ever centred or flipped."""

import warnings
from collections.abc import Mapping
from typing import Self

import numpy as np
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from latentree.errors import InputError
from latentree.factor_settings import FactorModelSettings
from latentree.models.base import FactorModel, FitReport, RunOptions, require_factors
from latentree.models.scaling import InputScaling, Matrix, TrainingData

ENCODE_SWEEPS = 2000
ENCODE_TOLERANCE = 1e-8


class NMFModel(FactorModel):
    """Factors are non-negative amounts of non-negative programs; each program has Euclidean length 1."""

    name = "nmf"

    def fit(self, data: TrainingData, seed: int, options: RunOptions) -> FitReport:
        require_factors(self.n_factors, {"modelled genes": data.x.shape[1]})
        _require_non_negative(data.x)
        self.scaling = InputScaling.fit(data, self.settings.input, self.settings.gene_scaling, centred=False)
        x = self.scaling.apply_uncentred(data.x[data.train])
        # nndsvda needs a singular vector per factor
        init = "nndsvda" if self.n_factors <= min(x.shape) else "random"
        nmf = NMF(
            self.n_factors,
            init=init,
            max_iter=self.settings.max_iter,
            tol=self.settings.tol,
            random_state=seed,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            amounts = nmf.fit_transform(x)
        length = np.linalg.norm(nmf.components_, axis=1, keepdims=True)
        length[length == 0] = 1
        self._programs = (nmf.components_ / length).astype(np.float32)
        self._mean_amounts = (amounts.mean(axis=0) * length[:, 0]).astype(np.float32)
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        note = f"NMF did not converge in {self.settings.max_iter} iterations; raise max_iter or tol"
        return FitReport(converged=converged, notes=() if converged else (note,))

    def encode(self, scaled: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        """Non-negative least squares of each cell on the programs, by coordinate descent.

        Scikit-learn's own transform stops by the sum over all cells that come together, so a cell's
        amounts would depend on its neighbours in the chunk; here each cell leaves at its own end.
        """
        programs = self._programs.astype(np.float64)
        gram = programs @ programs.T
        target = programs @ scaled.T.astype(np.float64)
        solved = np.maximum(target, 0)
        active = np.arange(len(scaled))
        for _ in range(ENCODE_SWEEPS):
            amounts, change = _sweep(solved[:, active], target[:, active], gram)
            solved[:, active] = amounts
            active = active[change > ENCODE_TOLERANCE * amounts.max(axis=0)]
            if not len(active):
                break
        return solved.T.astype(np.float32)

    def decode(self, latents: np.ndarray, covariates: np.ndarray | None = None) -> np.ndarray:
        return latents @ self._programs

    def loadings(self) -> np.ndarray:
        return self.scaling.slopes(self._programs.T, at=self._mean_amounts @ self._programs)

    def state(self) -> dict[str, np.ndarray]:
        return {**self.scaling.state(), "programs": self._programs, "mean_amounts": self._mean_amounts}

    @classmethod
    def from_state(
        cls, settings: FactorModelSettings, n_factors: int, state: Mapping[str, np.ndarray]
    ) -> Self:
        model = cls(settings, n_factors)
        model.scaling = InputScaling.from_state(settings.input, state)
        model._programs, model._mean_amounts = state["programs"], state["mean_amounts"]
        return model


def _sweep(amounts: np.ndarray, target: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One round over all programs: amounts (n_factors, n_cells), and each cell's largest change."""
    change = np.zeros(amounts.shape[1])
    for k in np.flatnonzero(np.diag(gram) > 0):
        new = np.maximum(amounts[k] + (target[k] - gram[k] @ amounts) / gram[k, k], 0)
        np.maximum(change, np.abs(new - amounts[k]), out=change)
        amounts[k] = new
    return amounts, change


def _require_non_negative(x: Matrix) -> None:
    stored = x if isinstance(x, np.ndarray) else x.data
    n_negative = int((stored < 0).sum())
    if n_negative:
        raise InputError(
            "model nmf",
            f"{n_negative} values are negative (lowest {stored.min():g}), which NMF cannot represent",
            "Use another model, or values that are not centred",
        )
